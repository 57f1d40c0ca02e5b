from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelFileError
from engines.export import ModelFile, check_model, with_manifest
from engines.intake.contract import probes, prove
from engines.manifest import Manifest
from engines.store import default_model

SIDE, DIMENSIONS = 8, 4
MANIFEST = Manifest(
    name="small",
    network="product",
    weights_sha256="0" * 64,
    template="arcface_8",
    input_size=SIDE,
    dimensions=DIMENSIONS,
    unit_length=False,
    mirrored=False,
    threshold=1.0,
    threshold_fmr=None,
    threshold_source="none",
    licence="MIT",
)


def small(*tail: onnx.NodeProto, constants: dict[str, np.ndarray] | None = None, last: str = "product") -> ModelFile:
    """(N, 8, 8, 3) uint8 -> (N, 4): one product, and then ``tail``, of which ``last`` is the output."""
    noise = np.random.default_rng(0)
    values = {
        "w": noise.normal(size=(SIDE * SIDE * 3, DIMENSIONS)).astype(np.float32),
        "rows": np.array([-1, SIDE * SIDE * 3], dtype=np.int64),
        **(constants or {}),
    }
    nodes = [
        helper.make_node("Cast", ["faces"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["real", "rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        *tail,
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", DIMENSIONS])],
        initializer=[numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return check_model(with_manifest(model, MANIFEST), "small.onnx")


def test_sound_models_pass() -> None:
    prove(small())
    prove(default_model())


def test_an_operator_outside_onnx_is_named() -> None:
    node = helper.make_node("Magic", ["product"], ["out"], domain="com.somebody")
    with pytest.raises(ModelFileError, match=r"small\.onnx: uses operators outside ONNX \(com\.somebody\.Magic\)"):
        prove(small(node, last="out"))


def test_a_name_cannot_write_to_the_terminal() -> None:
    node = helper.make_node("Magic\x1b[2J\n", ["product"], ["out"], domain="com.somebody")
    with pytest.raises(ModelFileError, match=r"com\.somebody\.Magic\?\[2J\?"):
        prove(small(node, last="out"))


def test_names_that_are_no_text_are_refused() -> None:
    """ONNX does not check that its strings are UTF-8, and a runtime's answer to such a file is a traceback."""
    damaged = small().content.replace(b"product", b"prod\xffct")
    with pytest.raises(ModelFileError, match="holds names that are no text"):
        prove(ModelFile(damaged, MANIFEST, "small.onnx"))


def test_an_operator_outside_onnx_is_found_in_a_subgraph() -> None:
    node = helper.make_node("Magic", ["product"], ["inner"], domain="com.somebody")
    inner = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])
    branch = helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)
    with pytest.raises(ModelFileError, match=r"com\.somebody\.Magic"):
        prove(small(branch, constants={"yes": np.array(True)}, last="out"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_named(value: float) -> None:
    weights = np.ones((SIDE * SIDE * 3, DIMENSIONS), dtype=np.float32)
    weights[3, 1] = value
    with pytest.raises(ModelFileError, match="its weights 'w' hold NaN or infinity"):
        prove(small(constants={"w": weights}))


def test_weights_of_another_size_than_declared_are_refused() -> None:
    model = onnx.ModelProto.FromString(small().content)
    next(tensor for tensor in model.graph.initializer if tensor.name == "w").raw_data = b"\0" * 10
    with pytest.raises(ModelFileError, match="its weights 'w' are damaged"):
        prove(check_model(model.SerializeToString(), "small.onnx"))


def test_embeddings_that_are_no_numbers_are_refused() -> None:
    """Finite weights, and a root of negative products."""
    with pytest.raises(ModelFileError, match="gives NaN or infinity for an ordinary image"):
        prove(small(helper.make_node("Sqrt", ["product"], ["out"]), last="out"))


def test_a_network_that_sees_nothing_is_refused() -> None:
    with pytest.raises(ModelFileError, match="every image gets the same embedding"):
        prove(small(constants={"w": np.zeros((SIDE * SIDE * 3, DIMENSIONS), dtype=np.float32)}))


def test_a_face_must_not_depend_on_its_batch() -> None:
    """Normalised by the mean over the batch, as a BatchNormalization left in training mode would do."""
    tail = (
        helper.make_node("ReduceMean", ["product"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Div", ["mean", "two"], ["half"]),
        helper.make_node("Sub", ["product", "half"], ["out"]),
    )
    with pytest.raises(ModelFileError, match="alone and the same face in a batch of 3 get different embeddings"):
        prove(small(*tail, constants={"two": np.array(2, dtype=np.float32)}, last="out"))


def test_a_batch_that_is_fixed_inside_the_graph_is_refused() -> None:
    tail = helper.make_node("Reshape", ["product", "one"], ["out"])
    with pytest.raises(ModelFileError, match="does not run on a batch of 3 faces"):
        prove(small(tail, constants={"one": np.array([1, DIMENSIONS], dtype=np.int64)}, last="out"))


def test_a_batch_that_is_lost_inside_the_graph_is_refused() -> None:
    """One embedding whatever comes in: declared (N, 4), and it is (1, 4)."""
    tail = helper.make_node("ReduceMean", ["product"], ["out"], axes=[0], keepdims=1)
    with pytest.raises(ModelFileError, match=r"gives embeddings of shape \(1, 4\) for 3 faces"):
        prove(small(tail, last="out"))


def test_a_promised_length_is_checked() -> None:
    model = onnx.ModelProto.FromString(small().content)
    boast = check_model(with_manifest(model, replace(MANIFEST, unit_length=True)), "small.onnx")
    with pytest.raises(ModelFileError, match=r"promises embeddings of length 1 and gives \d"):
        prove(boast)


def test_what_the_runtime_refuses_is_refused() -> None:
    with pytest.raises(ModelFileError, match=r"small\.onnx: onnxruntime cannot load it"):
        prove(small(helper.make_node("NoSuchOperator", ["product"], ["out"]), last="out"))


@pytest.mark.parametrize("side", [1, 5, 8, 112, 150])
def test_the_probes_are_unlike(side: int) -> None:
    images = probes(side)
    assert images.shape == (3, side, side, 3)
    assert images.dtype == np.uint8
    assert side == 1 or len({image.tobytes() for image in images}) == 3
