"""One contract for every runtime that works here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.engine import Engine, describe_runtimes, open_engine, open_model
from engines.errors import EngineError, ModelFileError, RuntimeMissing
from engines.export import ModelFile, with_manifest
from engines.runtimes import ROWS, Wishes, choose, openvino
from engines.store import default_model

AVAILABLE = [info.name for info in describe_runtimes() if info.available]
MAX_BATCH = 32


@pytest.fixture(scope="module", params=AVAILABLE)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    runtime, precision = request.param.split()
    opened = open_engine(runtime=runtime, precision=precision)
    yield opened
    opened.close()


def near(engine: Engine) -> float:
    """How far two ways to the same embedding may lie apart."""
    return 2e-3 if "bf16" in engine.runtime or "int8" in engine.runtime else 1e-6


def test_every_runtime_of_the_table_works_on_this_machine_or_says_why() -> None:
    infos = describe_runtimes()
    assert [info.name for info in infos] == [row.title for row in ROWS]
    for info in infos:
        assert info.available != bool(info.reason)
    assert "onnxruntime fp32" in AVAILABLE


def test_nothing_in_nothing_out(engine: Engine) -> None:
    assert engine.run(np.empty((0, 150, 150, 3), dtype=np.uint8)).shape == (0, 128)


@pytest.mark.parametrize("count", [1, 9, MAX_BATCH + 1])
def test_every_face_gets_its_own_embedding_of_length_one(engine: Engine, chips: NDArray[np.uint8], count: int) -> None:
    faces = chips[np.arange(count) % len(chips)]
    embeddings = engine.run(faces)
    assert embeddings.shape == (count, 128)
    assert embeddings.dtype == np.float32
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3)
    alone = np.concatenate([engine.run(face[None]) for face in faces[-2:]])
    assert np.abs(embeddings[-len(alone) :] - alone).max() < near(engine)


def test_strides_and_read_only_do_not_matter(engine: Engine, chips: NDArray[np.uint8]) -> None:
    bgr = np.ascontiguousarray(chips[:3, :, :, ::-1])
    view = bgr[:, :, :, ::-1]
    view.flags.writeable = False
    assert np.array_equal(engine.run(view), engine.run(chips[:3].copy()))


def test_the_result_is_the_callers(engine: Engine, chips: NDArray[np.uint8]) -> None:
    first = engine.run(chips[:2])
    kept = first.copy()
    second = engine.run(chips[2:4])
    assert np.array_equal(first, kept)
    second[:] = 0
    assert np.array_equal(engine.run(chips[:2]), kept)


def test_the_input_is_left_alone(engine: Engine, chips: NDArray[np.uint8]) -> None:
    faces = chips[:2].copy()
    engine.run(faces)
    assert np.array_equal(faces, chips[:2])


@pytest.mark.parametrize(
    ("faces", "words"),
    [
        (np.zeros((1, 150, 150, 3), dtype=np.float32), "float32"),
        (np.zeros((1, 112, 112, 3), dtype=np.uint8), r"\(1, 112, 112, 3\)"),
        (np.zeros((150, 150, 3), dtype=np.uint8), r"\(150, 150, 3\)"),
        (np.zeros((1, 3, 150, 150), dtype=np.uint8), r"\(1, 3, 150, 150\)"),
        (np.zeros((0,), dtype=np.uint8), r"\(0,\)"),
    ],
)
def test_other_arrays_are_refused(engine: Engine, faces: NDArray[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words + r".*uint8 of shape \(N, 150, 150, 3\)"):
        engine.run(faces)


def test_a_face_and_its_mirror_image_have_one_embedding(engine: Engine, chips: NDArray[np.uint8]) -> None:
    assert np.abs(engine.run(chips[:4]) - engine.run(chips[:4, :, ::-1])).max() < near(engine)


@pytest.mark.parametrize("name", AVAILABLE)
def test_mirrored_and_unit_length_are_what_they_say(name: str, chips: NDArray[np.uint8]) -> None:
    runtime, precision = name.split()
    plain = open_model(default_model(unit_length=False, mirrored=False), runtime=runtime, precision=precision)
    by_hand = (plain.run(chips[:9]) + plain.run(chips[:9, :, ::-1])) / 2
    length = np.linalg.norm(by_hand, axis=1, keepdims=True)
    product = open_engine(runtime=runtime, precision=precision)
    assert np.abs(product.run(chips[:9]) - by_hand / length).max() < near(product)
    mirrored = open_model(default_model(unit_length=False), runtime=runtime, precision=precision)
    assert np.abs(mirrored.run(chips[:9]) - by_hand).max() < near(product)


def test_the_manifest_and_the_words(engine: Engine) -> None:
    assert engine.manifest.template == "dlib_chip_150"
    assert engine.manifest.unit_length
    assert engine.manifest.mirrored
    assert engine.runtime.endswith("1 thread")
    assert engine.choice.startswith(engine.runtime)


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_closed_engine_says_so(name: str) -> None:
    runtime, precision = name.split()
    engine = open_engine(runtime=runtime, precision=precision, threads=2)
    assert engine.runtime == f"{name}, 2 threads"
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(np.zeros((1, 150, 150, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_graph_that_the_runtime_refuses_is_the_files_fault(name: str) -> None:
    import onnx

    good = default_model()
    graph = onnx.ModelProto.FromString(good.content)
    graph.graph.node[0].op_type = "NoSuchOperator"
    runtime, precision = name.split()
    with pytest.raises(ModelFileError, match=r"cannot (load it|be quantised)") as caught:
        open_model(
            ModelFile(with_manifest(graph, good.manifest), good.manifest, "odd.onnx"),
            runtime=runtime,
            precision=precision,
        )
    assert "\n" not in str(caught.value)


def test_the_fastest_that_works_is_taken() -> None:
    proved = [name for name in AVAILABLE if "int8" not in name]
    assert open_engine().runtime == f"{proved[0]}, 1 thread"


def test_a_processor_without_bf16_gets_fp32_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_has_bf16", lambda: False)
    choice = choose(None, Wishes())
    assert (choice.runtime, choice.precision) == ("onnxruntime", "fp32")
    assert "not openvino bf16: this processor has no bf16" in choice.text
    assert choose(None, Wishes(runtime="openvino")).precision == "fp32"
    with pytest.raises(RuntimeMissing, match="this processor has no bf16"):
        choose(None, Wishes(precision="bf16"))


def test_without_openvino_the_other_runtime_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine = open_engine()
    assert engine.runtime == "onnxruntime fp32, 1 thread"
    assert "openvino does not load" in engine.choice
    with pytest.raises(RuntimeMissing, match="pip install openvino"):
        open_engine(runtime="openvino")


@pytest.mark.parametrize(
    "wishes", [{"runtime": "tensorflow"}, {"precision": "int4"}, {"threads": 0}, {"threads": -1}, {"runtime": ""}]
)
def test_unknown_wishes_are_refused(wishes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"known are|at least 1"):
        open_engine(**wishes)


def test_onnxruntime_has_no_bf16() -> None:
    with pytest.raises(RuntimeMissing, match="no runtime for onnxruntime bf16"):
        open_engine(runtime="onnxruntime", precision="bf16")
