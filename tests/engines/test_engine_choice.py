"""Which runtime is taken, which is not and why; what happens when its device fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from engines import machine, runtimes, verdicts
from engines.engine import open_engine, open_model
from engines.errors import DeviceLost, EngineError, OutOfDeviceMemory, RuntimeMissing
from engines.networks.model_files import in_precision
from engines.parity import cosines, drawn_faces
from engines.runtimes import Wishes, choose
from engines.store import CACHE_VARIABLE, default_model
from engines.verdicts import Verdict
from tests.engines.fake_runtime import Script


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def gpu(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Script]]:
    """A machine whose torch-cuda works, as far as this process can tell, and nothing else of the GPU."""
    before = {name: value for name, value in vars(Script).items() if not name.startswith("_")}
    monkeypatch.setattr(runtimes, "has_nvidia_gpu", lambda: True)
    for name in runtimes.GPU:
        monkeypatch.setitem(runtimes.MODULES, name, "tests.engines.fake_runtime")
    monkeypatch.setattr(runtimes, "ROWS", tuple(row for row in runtimes.ROWS if row.runtime != "tensorrt"))
    Script.batches = []
    yield Script
    for name, value in before.items():
        setattr(Script, name, value)


def verdict(runtime: str, precision: str, *, passed: bool, labelled: bool = False) -> Verdict:
    version = runtimes.runtime_module(runtime).version()
    return Verdict(
        model_sha256=default_model().sha256,
        runtime=runtime,
        version=version,
        precision=precision,
        passed=passed,
        reason="cosine 0.5",
        labelled=labelled,
    )


def test_a_laptop_hears_once_that_it_has_no_gpu(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "has_nvidia_gpu", lambda: False)
    text = choose(default_model(), Wishes()).text
    assert text.count("no NVIDIA GPU here") == 1
    assert "not tensorrt, torch-cuda, onnxruntime-cuda: no NVIDIA GPU here" in text


def test_a_gpu_comes_first(gpu: type[Script], chips: NDArray[np.uint8]) -> None:
    engine = open_engine()
    assert engine.runtime == "torch-cuda fp16"
    assert engine.choice == engine.runtime
    reference = open_engine(runtime="onnxruntime", precision="fp32")
    assert np.allclose(engine.run(chips), reference.run(chips), atol=1e-6)
    assert gpu.batches[1:] == [16, 8]  # after the look at drawn faces


def test_require_gpu_says_why_there_is_none(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "has_nvidia_gpu", lambda: False)
    with pytest.raises(RuntimeMissing, match=r"no GPU runtime works here .*no NVIDIA GPU here.*require_gpu=false"):
        open_engine(require_gpu=True)


def test_require_gpu_says_what_is_missing(gpu: type[Script]) -> None:
    gpu.missing = True
    with pytest.raises(RuntimeMissing, match="pip install fake"):
        open_engine(require_gpu=True)


def test_a_runtime_that_answers_otherwise_is_passed_over_and_remembered(
    gpu: type[Script], chips: NDArray[np.uint8]
) -> None:
    gpu.answers = lambda embeddings: embeddings[:, ::-1]
    engine = open_engine()
    assert engine.runtime.startswith("openvino")
    assert "its answers failed their gate (smallest cosine" in engine.choice
    opened = gpu.opened
    again = open_engine()
    assert gpu.opened == opened  # not even opened any more
    assert "failed their gate" in again.choice
    by_name = open_engine(runtime="torch-cuda", precision="fp16")
    assert by_name.run(chips[:1]).shape == (1, 128)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_answers_that_are_no_numbers_fail_the_gate(gpu: type[Script], bad: float) -> None:
    gpu.answers = lambda embeddings: np.full_like(embeddings, bad)
    assert open_engine().runtime.startswith("openvino")


def test_a_runtime_that_cannot_open_the_model_is_passed_over(gpu: type[Script]) -> None:
    gpu.refuses = "the fake compiler gave up"
    engine = open_engine()
    assert engine.runtime.startswith("openvino")
    assert "the fake compiler gave up" in engine.choice
    with pytest.raises(EngineError, match="gave up"):
        open_engine(runtime="torch-cuda", precision="fp16")


@pytest.mark.parametrize("wait", [True, False])
def test_a_model_that_no_runtime_opens_is_refused(own_cache: Path, wait: bool) -> None:
    foreign = onnx.ModelProto.FromString(default_model().content)
    next(node for node in foreign.graph.node if node.op_type == "Relu").op_type = "Frobnicate"
    (own_cache / "x.onnx").write_bytes(foreign.SerializeToString())
    with pytest.raises(EngineError, match="Frobnicate"):
        open_engine(own_cache / "x.onnx", wait=wait)


def test_a_file_in_half_precision_does_not_run_in_int8_and_says_so(own_cache: Path) -> None:
    half = in_precision(default_model(), "mixed-fp16")
    with pytest.raises(RuntimeMissing, match="the file is in mixed-fp16, which does not run so; give the fp32 file"):
        open_model(half, precision="int8")


def test_where_nothing_is_ready_the_build_is_waited_for(gpu: type[Script], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.is_ready = False
    monkeypatch.setattr(runtimes, "ROWS", tuple(row for row in runtimes.ROWS if row.runtime == "torch-cuda"))
    engine = open_engine(wait=False)
    assert engine.runtime.startswith("torch-cuda")
    engine.close()


def test_a_version_is_judged_anew(gpu: type[Script]) -> None:
    verdicts.record(verdict("torch-cuda", "fp16", passed=False))
    assert (
        choose(default_model(), Wishes()).runtime != "torch-cuda"
        or choose(default_model(), Wishes()).precision == "bf16"
    )
    found = verdicts.read(default_model().sha256, "torch-cuda", "2.0", "fp16")
    assert found is None


def test_int8_needs_proof_on_a_labelled_set(own_cache: Path) -> None:
    text = choose(default_model(), Wishes(), quantised=default_model).text
    assert "openvino, onnxruntime" in text or "openvino int8" in text
    assert "python -m engines verify" in text
    verdicts.record(verdict("openvino", "int8", passed=True))
    assert choose(default_model(), Wishes(), quantised=default_model).precision != "int8"
    verdicts.record(verdict("openvino", "int8", passed=True, labelled=True))
    assert choose(default_model(), Wishes(), quantised=default_model).row.title == "openvino int8"
    assert choose(default_model(), Wishes(), quantised=lambda: None).precision != "int8"


def test_a_damaged_verdict_counts_for_nothing(own_cache: Path) -> None:
    given = verdict("openvino", "bf16", passed=False)
    verdicts.record(given)
    assert verdicts.read(given.model_sha256, given.runtime, given.version, given.precision) == given
    (path,) = (own_cache / "verdicts").iterdir()
    for text in ("{", "[]", '{"passed": 1}', path.read_text().replace("false", "0")):
        path.write_text(text)
        assert verdicts.read(given.model_sha256, given.runtime, given.version, given.precision) is None


def test_a_cache_that_cannot_be_written_costs_the_look_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    verdicts.record(verdict("openvino", "bf16", passed=False))
    assert "cannot be kept" in caplog.text


def test_too_large_a_batch_is_halved_and_said(
    gpu: type[Script], chips: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine()
    expected = engine.run(chips)
    gpu.fits = 5
    gpu.batches.clear()
    assert np.allclose(engine.run(chips), expected, atol=1e-6)
    assert gpu.batches == [4] * 6
    assert "no room for 16 faces; going on with batches of 8" in caplog.text
    assert "going on with batches of 4" in caplog.text
    caplog.clear()
    engine.run(chips)
    assert caplog.text == ""


def test_no_room_for_a_single_face_leaves_the_device(
    gpu: type[Script], chips: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine()
    expected = engine.run(chips[:3])
    gpu.fits = 0
    assert np.abs(engine.run(chips[:3]) - expected).max() < 2e-3
    assert engine.runtime.startswith("openvino")
    assert "going on with openvino" in caplog.text
    strict = open_engine(runtime="torch-cuda", precision="fp16", on_device_loss="stop")
    with pytest.raises(OutOfDeviceMemory):
        strict.run(chips[:1])


@pytest.mark.parametrize("runtime", ["auto", "torch-cuda"])
def test_a_lost_gpu_in_the_middle_of_a_batch(
    gpu: type[Script], chips: NDArray[np.uint8], caplog: pytest.LogCaptureFixture, runtime: str
) -> None:
    engine = open_engine(runtime=runtime)
    expected = engine.run(chips)
    gpu.lost_after = 4  # the look, the batch above in two parts, and half of the next
    with caplog.at_level(logging.WARNING):
        assert np.abs(engine.run(chips) - expected).max() < 2e-3
    assert engine.runtime.startswith("openvino")
    assert "fallen off the bus" in engine.choice
    assert "fallen off the bus; going on with openvino" in caplog.text
    engine.close()


def test_a_lost_gpu_stops_where_that_is_wished(gpu: type[Script], chips: NDArray[np.uint8]) -> None:
    for engine in (open_engine(on_device_loss="stop"), open_engine(require_gpu=True)):
        gpu.lost_after = 0
        with pytest.raises(DeviceLost, match="fallen off the bus"):
            engine.run(chips[:1])
        gpu.lost_after = None


def test_what_is_ready_runs_until_the_better_one_is_built(gpu: type[Script], chips: NDArray[np.uint8]) -> None:
    gpu.is_ready = False
    engine = open_engine(wait=False)
    assert engine.runtime.startswith("openvino")
    assert engine.better is not None
    assert engine.better.row.title == "torch-cuda fp16"
    assert "not built yet" in engine.choice
    better = engine.build_better()
    assert better.runtime == "torch-cuda fp16"
    assert better.better is None
    assert np.abs(better.run(chips[:2]) - engine.run(chips[:2])).max() < 2e-3
    named = open_engine(runtime="torch-cuda", precision="fp16", wait=False)
    assert named.runtime.startswith("openvino")
    assert named.better is not None


def test_a_better_one_that_answers_otherwise_is_remembered(gpu: type[Script], caplog: pytest.LogCaptureFixture) -> None:
    gpu.is_ready = False
    engine = open_engine(wait=False, precision="fp16")
    assert engine.better is not None
    engine.reject_better("faces move by 3")
    assert engine.better is None
    again = open_engine(wait=False, precision="fp16")
    assert again.better is None
    assert again.runtime.startswith("openvino")
    assert "faces move by 3" in caplog.text
    with pytest.raises(RuntimeMissing, match="faces move by 3"):
        open_engine(precision="fp16")


def test_drawn_faces_differ_and_stay_the_same() -> None:
    faces = drawn_faces(112)
    assert faces.shape == (4, 112, 112, 3)
    assert np.array_equal(faces, drawn_faces(112))
    assert len({face.tobytes() for face in faces}) == 4
    embeddings = open_engine(runtime="onnxruntime", precision="fp32").run(drawn_faces(150))
    assert cosines(embeddings[:1], embeddings[1:2])[0] < 0.9999


def test_a_processor_has_a_name_that_stays() -> None:
    assert machine.processor() == machine.processor()
    assert len(machine.processor()) == 16
