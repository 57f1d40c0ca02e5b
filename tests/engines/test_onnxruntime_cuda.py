"""ONNX Runtime on CUDA: what a machine without one can show, and the contract where there is one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from engines.errors import DeviceLost, EngineError, ModelFileError, OutOfDeviceMemory, RuntimeMissing
from engines.runtimes import onnxruntime_cuda as runtime
from engines.store import default_model
from tests.engines.test_mixed_precision import SIDE, cosines, network

SMALL = network(["bn", "residual", "conv"]).SerializeToString()
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
cpu_only = pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime has a CUDA provider")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    runtime._refusal.cache_clear()
    runtime._preload.cache_clear()
    yield
    runtime._refusal.cache_clear()
    runtime._preload.cache_clear()


@pytest.fixture
def claims_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real library for processors says that it has the provider: its sessions then fall back without a word."""
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )


@pytest.fixture
def on_the_processor(claims_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions say that they run on CUDA, and compute on the processor."""

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, model: bytes, options: Any, providers: Any) -> None:
            assert providers[0][0] == "CUDAExecutionProvider"
            super().__init__(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)


@cpu_only
def test_the_library_for_processors_is_told_apart() -> None:
    with pytest.raises(RuntimeMissing, match=r"no CUDA provider; install .*onnxruntime-gpu"):
        runtime.version()
    with pytest.raises(RuntimeMissing, match="no CUDA provider"):
        runtime.open_session(SMALL, "small.onnx", precision="fp32", threads=1)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissing, match=r"does not load .*pip install onnxruntime-gpu"):
        runtime.version()


@cpu_only
def test_a_silent_fallback_to_the_processor_is_refused(claims_cuda: None) -> None:
    assert runtime.version() == onnxruntime.__version__
    with (
        pytest.warns(UserWarning, match="not in available provider"),
        pytest.raises(RuntimeMissing, match="does not start, it fell back to the processor"),
    ):
        runtime.open_session(SMALL, "small.onnx", precision="fp32", threads=1)
    with pytest.warns(UserWarning, match="not in available provider"):
        assert "does not start" in str(runtime.obstacle("fp32"))


def test_it_runs_fp32_alone() -> None:
    assert [runtime.obstacle(precision) for precision in ("fp16", "bf16", "int8")] == [
        "onnxruntime-cuda runs fp32 only"
    ] * 3


def test_a_session(on_the_processor: None) -> None:
    assert runtime.obstacle("fp32") is None
    assert runtime.ready(SMALL, "fp32")
    session = runtime.open_session(SMALL, "small.onnx", precision="fp32", threads=1)
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    first = session.run(images)
    assert first.dtype == np.float32
    assert first.shape == (3, 12)
    kept = first.copy()
    session.run(images[::-1].copy())
    assert np.array_equal(first, kept)
    assert session.max_batch == runtime.MAX_BATCH
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run(images)


def test_a_graph_that_it_refuses_is_the_files_fault(on_the_processor: None) -> None:
    with pytest.raises(ModelFileError, match=r"odd.onnx: onnxruntime-cuda cannot load it") as caught:
        runtime.open_session(SMALL.replace(b"PRelu", b"QRelu"), "odd.onnx", precision="fp32", threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("BFCArena: Failed to allocate memory for requested buffer of size 9", OutOfDeviceMemory),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=x", DeviceLost),
        ("Got invalid dimensions for input", EngineError),
    ],
)
def test_errors_of_a_run(on_the_processor: None, message: str, kind: type[EngineError]) -> None:
    session = runtime.open_session(SMALL, "small.onnx", precision="fp32", threads=1)

    def fail(*_: object) -> None:
        raise RuntimeError(message)

    session._session = SimpleNamespace(run=fail)
    with pytest.raises(EngineError) as caught:
        session.run(np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8))
    assert type(caught.value) is kind


def test_memory_that_is_taken_when_it_opens(claims_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(OutOfDeviceMemory, match=r"small.onnx: onnxruntime-cuda ran out of GPU memory"):
        runtime.open_session(SMALL, "small.onnx", precision="fp32", threads=1)


def test_what_the_library_prints_while_it_loads_stays_off_the_output(
    claims_cuda: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so.9"), raising=False)  # noqa: T201
    runtime.version()
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
def test_the_real_one(chips: NDArray[np.uint8]) -> None:
    try:
        runtime.version()
    except RuntimeMissing as err:
        pytest.skip(str(err))
    assert runtime.obstacle("fp32") is None
    model = default_model().content
    session = runtime.open_session(model, "dlib", precision="fp32", threads=1)
    reference = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for count in (1, 3, 24):
        expected = reference.run(None, {reference.get_inputs()[0].name: chips[:count]})[0]
        assert cosines(session.run(chips[:count]), expected).min() >= 0.9999
