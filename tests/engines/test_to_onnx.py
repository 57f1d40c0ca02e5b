"""Weights as ONNX graphs: the answers of the torch module, to the last digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.errors import ModelFileError
from engines.intake.adopt import Terms
from engines.networks import NETWORKS, Network, build
from engines.networks.model_files import in_precision, model_of, random_model
from engines.networks.random_weights import digest, random_state
from engines.networks.shapes import expected_shapes
from engines.networks.to_onnx import to_onnx
from engines.networks.weights import Weights
from engines.runtimes import onnxruntime

SIDE = 32
IRESNET = Network(name="tiny", family="iresnet", blocks=(1, 2, 1, 1), width=4, dimensions=16, input_size=SIDE)
MOBILE = replace(IRESNET, family="mobilefacenet", blocks=(1, 1, 2, 1), width=8, expansion=8)
NETWORK_SHAPES = st.builds(
    Network,
    name=st.just("tiny"),
    family=st.sampled_from(["iresnet", "mobilefacenet"]),
    blocks=st.tuples(*[st.integers(1, 2)] * 4),
    width=st.sampled_from([4, 8, 12]),
    expansion=st.just(8),
    dimensions=st.integers(1, 24),
    input_size=st.sampled_from([16, 32, 48]),
)

Faces = NDArray[np.uint8]
Embeddings = NDArray[np.float32]


def noise(count: int, side: int = SIDE, seed: int = 3) -> Faces:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def run(model: onnx.ModelProto, faces: Faces) -> Embeddings:
    return onnxruntime.open_session(model.SerializeToString(), "test", precision="fp32", threads=1).run(faces)


def by_torch(network: Network, arrays: dict[str, NDArray[np.float32]], faces: Faces) -> Embeddings:
    torch = pytest.importorskip("torch")
    module = build(network).eval()
    module.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()}, strict=True)
    planes = (torch.from_numpy(faces.copy()).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    with torch.no_grad():
        embeddings: Embeddings = module(planes).numpy()
    return embeddings


def fitted(network: Network) -> Network:
    """A grouped convolution needs a width that its groups divide."""
    return network if network.family == "iresnet" else replace(network, width=8)


@settings(max_examples=8, deadline=None)
@given(shape=NETWORK_SHAPES, seed=st.integers(0, 99))
def test_onnx_and_torch_give_the_same_embeddings(shape: Network, seed: int) -> None:
    network = fitted(shape)
    arrays = random_state(network, seed)
    faces = noise(3, network.input_size, seed)
    expected = by_torch(network, arrays, faces)
    found = run(to_onnx(network, arrays, unit_length=False, mirrored=False), faces)
    assert found.shape == (3, network.dimensions)
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("network", [IRESNET, MOBILE], ids=lambda network: network.family)
def test_unit_length_mirror_and_colour_are_what_they_say(network: Network) -> None:
    arrays = random_state(network, 1)
    faces = noise(5)
    plain = run(to_onnx(network, arrays, unit_length=False, mirrored=False), faces)
    unit = run(to_onnx(network, arrays, unit_length=True, mirrored=False), faces)
    assert np.allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)
    flipped = run(to_onnx(network, arrays, unit_length=False, mirrored=False), faces[:, :, ::-1].copy())
    mirrored = run(to_onnx(network, arrays, unit_length=False, mirrored=True), faces)
    assert np.allclose(mirrored, (plain + flipped) / 2, atol=1e-5)
    swapped = run(to_onnx(network, arrays, unit_length=False, mirrored=False, colour="bgr"), faces[..., ::-1].copy())
    assert np.allclose(swapped, plain, atol=1e-5)


def test_any_batch_gives_each_face_what_it_gets_alone() -> None:
    model = to_onnx(IRESNET, random_state(IRESNET, 2), unit_length=True, mirrored=True)
    faces = noise(7)
    alone = np.concatenate([run(model, face[None]) for face in faces])
    assert np.allclose(run(model, faces), alone, atol=1e-6)


@pytest.mark.parametrize(("network", "norms"), [(IRESNET, 5), (MOBILE, 0)], ids=["iresnet", "mobilefacenet"])
def test_only_norms_in_front_of_a_padded_convolution_are_left(network: Network, norms: int) -> None:
    model = to_onnx(network, random_state(network, 0), unit_length=True, mirrored=False)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("BatchNormalization") == norms
    assert kinds.count("Gemm") == 1
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["faces", "embeddings"]


def test_the_same_weights_give_the_same_bytes() -> None:
    weights = Weights(random_state(IRESNET, 0), "0" * 64, "test")
    terms = Terms(name="tiny", template="other")
    first, second = (model_of(weights, IRESNET, terms, "test").content for _ in range(2))
    assert first == second
    assert digest(random_state(IRESNET, 0)) == digest(random_state(IRESNET, 0)) != digest(random_state(IRESNET, 1))


def test_random_weights_are_like_trained_ones() -> None:
    network = NETWORKS["mobilefacenet"]
    arrays = random_state(network, 0)
    assert {name: values.shape for name, values in arrays.items()} == expected_shapes(network)
    assert all(values.dtype == np.float32 and np.isfinite(values).all() for values in arrays.values())
    blobs = noise(8, 7).repeat(16, axis=1).repeat(16, axis=2)
    model = to_onnx(network, arrays, unit_length=True, mirrored=False)
    for faces in (noise(8, 112), blobs, blobs // 8 + 100):
        embeddings = run(model, faces)
        cosines = (embeddings @ embeddings.T)[~np.eye(8, dtype=bool)]
        assert np.abs(cosines).max() < 0.9


def test_a_model_nobody_trained_says_so() -> None:
    manifest = random_model(NETWORKS["mobilefacenet"], 0).manifest
    assert manifest.name == "mobilefacenet-random-0"
    assert manifest.network == "mobilefacenet"
    assert manifest.training_set is not None
    assert "random" in manifest.training_set
    assert manifest.threshold == 1.2
    assert manifest.threshold_fmr is None
    assert "realtime calibrate" in manifest.threshold_source


def test_a_body_of_float16_answers_alike() -> None:
    model = random_model(IRESNET_112, 0)
    mixed = in_precision(model, "mixed-fp16")
    assert mixed.manifest == replace(model.manifest, precision="mixed-fp16")
    assert len(mixed.content) < len(model.content)
    faces = noise(4, 112)
    full, half = (
        onnxruntime.open_session(one.content, "test", precision="fp32", threads=1).run(faces) for one in (model, mixed)
    )
    assert (full * half).sum(axis=1).min() > 0.999
    assert in_precision(model, "fp32") is model
    with pytest.raises(ModelFileError, match="is mixed-fp16 already"):
        in_precision(mixed, "fp32")


IRESNET_112 = replace(IRESNET, input_size=112)


def test_a_template_of_another_size_is_refused() -> None:
    weights = Weights(random_state(IRESNET, 0), "0" * 64, "test")
    with pytest.raises(ModelFileError, match=r"test: tiny takes faces of 32 pixels, which .*'arcface_112' does not"):
        model_of(weights, IRESNET, Terms(name="tiny"), "test")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("layer2.0.bn3.running_var", -1.0, r"test: layer2\.0\.bn3\.running_var holds a negative variance"),
        ("layer2.0.bn1.running_var", -1.0, r"layer2\.0\.bn1\.running_var holds a negative variance"),
        ("layer1.0.bn2.weight", 3e38, r"layer1\.0\.conv1 is beyond float32"),
        ("features.weight", 3e38, "fc is beyond float32"),
    ],
)
def test_norms_that_cannot_be_computed_are_named(name: str, value: float, words: str) -> None:
    arrays = random_state(IRESNET, 0)
    arrays[name] = np.full_like(arrays[name], value)
    if value > 0:  # the smallest variance makes the largest scale
        variance = name.replace("weight", "running_var")
        arrays[variance] = np.zeros_like(arrays[variance])
    with pytest.raises(ModelFileError, match=words):
        model_of(Weights(arrays, "0" * 64, "test"), IRESNET, Terms(name="tiny", template="other"), "test")
