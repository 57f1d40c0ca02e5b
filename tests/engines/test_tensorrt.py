"""The TensorRT runtime: its flow against a stand-in that computes on the CPU, and the real one where there is one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines import runtimes
from engines.engine import open_model
from engines.errors import DeviceLost, EngineError, ModelFileError, OutOfDeviceMemory, RuntimeMissing
from engines.gpu import trt_session
from engines.gpu.buckets import BUCKETS, Compute, bucket_for
from engines.gpu.cuda_errors import translated
from engines.gpu.trt_build import PROFILES
from engines.gpu.trt_session import TensorRtSession, profile_of
from engines.graphs.folding import fold
from engines.graphs.quantisation import quantise_graph, roles
from engines.plans import path_of, plans_dir, read, write
from engines.runtimes import tensorrt
from engines.store import CACHE_VARIABLE, default_model
from tests.engines.fake_tensorrt import FakeTensorRt
from tests.engines.test_mixed_precision import SIDE, cosines, network

SMALL = network(["bn", "residual", "conv"]).SerializeToString()
MODULE = "tensorrt"


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> FakeTensorRt:
    """The stand-in in the module's place, a cache of its own, and a GPU that is the CPU."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    fake = FakeTensorRt("10.16.1.11")
    monkeypatch.setitem(sys.modules, MODULE, fake)
    cuda = SimpleNamespace(
        init=lambda: None,
        current_device=lambda: 0,
        get_device_name=lambda: "NVIDIA Stand-in",
        get_device_capability=lambda: (9, 0),
    )
    shim = SimpleNamespace(cuda=cuda, device=lambda *_: torch.device("cpu"))
    monkeypatch.setattr(tensorrt, "cuda_torch", lambda runtime: shim)
    return fake


def opened(model: bytes = SMALL, precision: str = "fp16") -> TensorRtSession:
    return tensorrt.open_session(model, "small.onnx", precision=precision, threads=1)


def faces(count: int, side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def reference(model: bytes, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return answer


@pytest.mark.parametrize(("precision", "floor"), [("fp16", 0.99999), ("fp32", 0.9999999)])
def test_the_embedded_network_gives_the_references_embeddings(
    trt: FakeTensorRt, chips: NDArray[np.uint8], precision: str, floor: float
) -> None:
    model = default_model().content
    session = opened(model, precision)
    assert cosines(session.run(chips[:3]), reference(model, chips[:3])).min() >= floor
    session.close()


def test_a_quantised_network_is_turned_into_the_form_that_tensorrt_takes(trt: FakeTensorRt) -> None:
    """Its bytes with zero points are refused by the stand-in as by the real one; around zero they are not."""
    model = fold(onnx.ModelProto.FromString(SMALL))
    quantised = quantise_graph(model, dict.fromkeys(roles(model).values(), (-6.0, 6.0)))
    session = opened(quantised.SerializeToString(), "int8")
    images = faces(4)
    assert cosines(session.run(images), reference(SMALL, images)).min() >= 0.99


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=4))
def test_a_padded_batch_gives_each_face_its_own_embedding(trt: FakeTensorRt, counts: list[int]) -> None:
    """Whatever was in the buffers before, and whatever bucket it runs in."""
    session = opened(precision="fp32")
    for seed, count in enumerate(counts):
        images = faces(count, seed=seed)
        answer = session.run(images)
        assert answer.dtype == np.float32
        assert np.allclose(answer, reference(SMALL, images), atol=1e-5)
    session.close()


@given(st.integers(1, 256))
def test_every_batch_has_the_smallest_bucket_and_a_profile_that_holds_it(count: int) -> None:
    bucket = bucket_for(count, BUCKETS)
    low, best, high = PROFILES[profile_of(bucket)]
    assert count <= bucket < 2 * count or bucket == 1
    assert low <= bucket <= high
    assert low <= best <= high


def test_profiles_do_not_overlap_and_cover_the_buckets() -> None:
    assert all(before[2] < after[0] for before, after in pairwise(PROFILES))
    assert PROFILES[-1][2] == BUCKETS[-1]
    assert {profile_of(bucket) for bucket in BUCKETS} == set(range(len(PROFILES)))


def test_the_result_is_the_callers_and_the_input_is_left_alone(trt: FakeTensorRt) -> None:
    session = opened()
    images = faces(2)
    images.flags.writeable = False
    first = session.run(images)
    kept = first.copy()
    session.run(faces(2, seed=5))
    assert np.array_equal(first, kept)
    first[:] = 0
    assert np.array_equal(session.run(images), kept)


def test_each_bucket_is_set_up_once(trt: FakeTensorRt) -> None:
    session = opened()
    for count in (1, 3, 4, 1, 3):
        session.run(faces(count))
    assert len(trt.contexts) == 2
    assert trt.executed == [1, 1, 1, 4, 4, 4, 4, 1, 4]  # each bucket twice before its first answer


def test_the_engine_is_built_once_and_kept(trt: FakeTensorRt) -> None:
    assert not tensorrt.ready(SMALL, "fp16")
    opened().close()
    assert tensorrt.ready(SMALL, "fp16")
    assert not tensorrt.ready(SMALL, "fp32")
    opened().close()
    assert trt.builds == 1


@pytest.mark.parametrize("change", ["version", "device", "precision", "model"])
def test_another_version_device_precision_or_model_has_another_engine(
    trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    opened().close()
    model, precision = SMALL, "fp16"
    if change == "version":
        trt.__version__ = "11.4.0.106"
    elif change == "device":
        monkeypatch.setattr(tensorrt, "device_parts", lambda: ("sm_80", "another"))
    elif change == "precision":
        precision = "fp32"
    else:
        model = network(["conv"], seed=8).SerializeToString()
    opened(model, precision).close()
    assert trt.builds == 2
    assert len([path for path in (plans_dir() / "tensorrt").iterdir() if path.suffix == ".plan"]) == 2


def test_a_stale_engine_is_built_again(trt: FakeTensorRt, caplog: pytest.LogCaptureFixture) -> None:
    key = tensorrt._key(trt, SMALL, "fp16")
    write("tensorrt", key, b'{"version": "10.13", "profiles": []}\n')
    opened().close()
    assert trt.builds == 1
    assert "cannot be used here any more" in caplog.text
    opened().close()
    assert trt.builds == 1


def test_an_engine_that_never_loads_is_an_error_and_no_loop(trt: FakeTensorRt) -> None:
    trt.refuses_plans = True
    with pytest.raises(EngineError, match="version tag does not match") as caught:
        opened()
    assert trt.builds == 1
    assert "\n" not in str(caught.value)


def test_all_that_the_parser_refuses_stands_in_one_sentence(trt: FakeTensorRt) -> None:
    trt.unknown_operators = {"PRelu", "Flatten"}
    with pytest.raises(ModelFileError, match=r"small.onnx: TensorRT cannot read it \(PRelu .*; Flatten .*\)") as caught:
        opened()
    assert "\n" not in str(caught.value)
    assert trt.builds == 0


def test_the_stand_in_refuses_what_tensorrt_would(trt: FakeTensorRt) -> None:
    """So that the form in which it gets its graph is tested: bytes are cast first, sums are of one type."""
    parser = trt.OnnxParser(trt.Builder(tensorrt_log(trt)).create_network(2), tensorrt_log(trt))
    assert not parser.parse(SMALL)
    assert "uint8" in parser.get_error(0).desc()


def tensorrt_log(trt: Any) -> Any:
    from engines.gpu.trt_build import make_log

    return make_log(trt)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            "[virtualMemoryBuffer.cpp::resizePhysical::166] Error Code 2: OutOfMemory (Requested size was 9 bytes.)",
            OutOfDeviceMemory,
        ),
        ("Error Code 10: Could not find any implementation for node Conv_0", EngineError),
        ("Error Code 1: Cuda Runtime (an illegal memory access was encountered)", DeviceLost),
    ],
)
def test_a_build_that_fails_says_why(trt: FakeTensorRt, message: str, kind: type[EngineError]) -> None:
    trt.build_error = message
    with pytest.raises(EngineError, match=r"small.onnx: TensorRT's builder") as caught:
        opened()
    assert type(caught.value) is kind
    assert message[:30] in str(caught.value)
    assert not tensorrt.ready(SMALL, "fp16")


def test_a_driver_that_does_not_answer_is_a_lost_device(trt: FakeTensorRt) -> None:
    trt.driver = False
    with pytest.raises(DeviceLost, match="CUDA initialization failure with error: 35"):
        opened()


def test_a_build_can_be_interrupted(trt: FakeTensorRt) -> None:
    def interrupt(monitor: Any, step: int) -> None:
        monitor.interrupted = step == 1

    trt.during_build = interrupt
    with pytest.raises(KeyboardInterrupt):
        opened()
    assert not tensorrt.ready(SMALL, "fp16")
    trt.during_build = lambda monitor, step: None
    opened().close()


def test_an_interrupt_within_the_monitor_ends_the_build(trt: FakeTensorRt) -> None:
    from engines.gpu.trt_build import _make_monitor

    class Interrupted:
        def __bool__(self) -> bool:
            raise KeyboardInterrupt

    monitor = _make_monitor(trt)
    assert monitor.step_complete("tactics", 0) is True
    monitor.interrupted = Interrupted()
    assert monitor.step_complete("tactics", 1) is False
    assert monitor.interrupted is True


def test_kernel_timings_are_kept_for_the_next_build(trt: FakeTensorRt) -> None:
    opened().close()
    opened(precision="fp32").close()
    assert trt.timing_caches == [b"", b"."]
    parts = ("10.16.1.11", "sm_90", "NVIDIA Stand-in")
    assert read("tensorrt-timing", parts) == b".."
    write("tensorrt-timing", parts, b"foreign")
    opened(network(["pool"]).SerializeToString()).close()
    assert trt.timing_caches[2:] == [b"foreign", b""]
    assert path_of("tensorrt-timing", parts).is_file()


@pytest.mark.parametrize("switch", ["context_error", "execute_error"])
@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Error Code 2: OutOfMemory", OutOfDeviceMemory),
        ("Cuda Runtime (unspecified launch failure)", DeviceLost),
        ("something else", EngineError),
    ],
)
def test_a_bucket_that_fails_is_freed_and_the_others_work(
    trt: FakeTensorRt, switch: str, message: str, kind: type[EngineError]
) -> None:
    session = opened()
    session.run(faces(1))
    setattr(trt, switch, message)
    with pytest.raises(EngineError) as caught:
        session.run(faces(8))
    assert type(caught.value) is kind
    assert session.prepared == (1,)
    setattr(trt, switch, "")
    assert session.run(faces(1)).shape == (1, 12)
    assert session.run(faces(4)).shape == (4, 12)


def test_memory_that_did_not_suffice_is_free_while_a_smaller_batch_is_tried(trt: FakeTensorRt) -> None:
    session = opened()
    session.run(faces(1))
    trt.execute_error = "Error Code 2: OutOfMemory"
    alive: list[bool] = []
    try:
        session.run(faces(64))
    except OutOfDeviceMemory:  # here is where a smaller batch would be tried
        alive = [each() is not None for each in trt.contexts]
    assert alive == [True, False]
    assert session.max_batch == 32


def test_a_closed_session_says_so(trt: FakeTensorRt) -> None:
    session = opened()
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run(faces(1))


@pytest.fixture
def graphs(trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch) -> Iterator[TensorRtSession]:
    """A session that records its buckets: what is launched meanwhile runs at each replay, not at once."""

    def recorded(compute: Compute, images: torch.Tensor) -> Callable[[], torch.Tensor]:
        steps: list[Any] = []
        trt.capturing = steps
        output = compute(images)
        trt.capturing = None

        def replay() -> torch.Tensor:
            for step in steps:
                step()()
            return output

        return replay

    monkeypatch.setattr(trt_session, "cuda_graph", recorded)
    plan = tensorrt._loaded(trt, SMALL, "small.onnx", "fp32")
    session = TensorRtSession(plan, "small.onnx", torch.device("cpu"), graphs=True)
    yield session
    session.close()


def test_buckets_are_recorded_each_from_a_context_of_its_own(graphs: TensorRtSession, trt: FakeTensorRt) -> None:
    for count in (1, 5, 1, 64, 8, 2):
        images = faces(count, seed=count)
        assert np.allclose(graphs.run(images), reference(SMALL, images), atol=1e-5)
    contexts = [each() for each in trt.contexts]
    assert len(contexts) == 4
    assert all(context is not None and context.captured for context in contexts)


def test_what_cannot_be_recorded_runs_without(
    graphs: TensorRtSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(trt_session, "cuda_graph", refuse)
    with caplog.at_level(logging.INFO):
        for seed in (1, 2):
            images = faces(3, seed=seed)
            assert np.allclose(graphs.run(images), reference(SMALL, images), atol=1e-5)
    assert caplog.text.count("run without a CUDA graph") == 1


def test_what_is_used_of_torch_is_there() -> None:
    """The part of the session that only a GPU runs."""
    for name in ("current_stream", "init", "current_device", "get_device_capability", "get_device_name"):
        assert hasattr(torch.cuda, name)


def test_the_version_names_the_device(trt: FakeTensorRt) -> None:
    assert tensorrt.version() == "10.16.1.11, NVIDIA Stand-in"


def test_it_is_chosen_and_run_through_the_engine(
    trt: FakeTensorRt, chips: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine with a GPU: asked for by nobody, built once, larger batches in parts."""
    monkeypatch.setattr(runtimes, "has_nvidia_gpu", lambda: True)
    engine = open_model(default_model())
    assert engine.runtime == "tensorrt fp16"
    expected = reference(default_model().content, chips[:3])
    assert cosines(engine.run(chips[:3]), expected).min() >= 0.999
    engine.close()
    assert trt.builds == 1


@pytest.mark.parametrize(
    ("version", "words"),
    [("10.11.0", "10.11 is too old"), ("8.6.1", "8.6 is too old"), ("10.12.0", None), ("11.4.0", None)],
)
def test_old_versions_are_passed_over(trt: FakeTensorRt, version: str, words: str | None) -> None:
    trt.__version__ = version
    reason = tensorrt.obstacle("fp16")
    assert reason is None if words is None else words in str(reason)


def test_bf16_has_no_row(trt: FakeTensorRt) -> None:
    assert "not bf16" in str(tensorrt.obstacle("bf16"))


def test_what_is_missing_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(RuntimeMissing, match="pip install tensorrt"):
        tensorrt.version()
    monkeypatch.setitem(sys.modules, MODULE, FakeTensorRt("10.16.1"))
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(RuntimeMissing, match="this one is for CPUs"):
        tensorrt.version()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeMissing, match="sees no NVIDIA GPU"):
        tensorrt.version()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeMissing, match="pip install torch"):
        tensorrt.version()


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB", OutOfDeviceMemory),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OutOfDeviceMemory),
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9", OutOfDeviceMemory),
        ("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be", DeviceLost),
        ("CUDA error: unspecified launch failure", DeviceLost),
        ("CUDNN_STATUS_EXECUTION_FAILED", DeviceLost),
        ("CUDA failure 999: unknown error ; GPU=0", DeviceLost),
        ("shape mismatch", EngineError),
        ("", EngineError),
    ],
)
def test_errors_of_gpu_libraries(message: str, kind: type[EngineError]) -> None:
    error = translated(RuntimeError(message), "a.onnx", "a runtime")
    assert type(error) is kind
    assert "\n" not in str(error)
    assert str(error).startswith("a.onnx: a runtime ")


@pytest.mark.gpu
@pytest.mark.tensorrt
@pytest.mark.parametrize(("precision", "floor"), [("fp16", 0.999), ("fp32", 0.9999)])
def test_the_real_one(chips: NDArray[np.uint8], precision: str, floor: float) -> None:
    try:
        tensorrt.version()
    except RuntimeMissing as err:
        pytest.skip(str(err))
    model = default_model().content
    session = tensorrt.open_session(model, "dlib", precision=precision, threads=1)
    for count in (1, 3, 9, 24):
        assert cosines(session.run(chips[:count]), reference(model, chips[:count])).min() >= floor
    assert tensorrt.ready(model, precision)
    session.close()
    assert onnx.ModelProto.FromString(tensorrt.typed_graph(model, "dlib", precision)).graph.node[0].op_type == "Cast"
