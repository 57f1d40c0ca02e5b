"""Sessions of torch: on the processor, and on a GPU as far as a processor can show it."""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines import plans
from engines.engine import open_model
from engines.errors import DeviceLost, EngineError, ModelFileError, OutOfDeviceMemory, RuntimeMissing
from engines.gpu.buckets import BUCKETS, PIECES, BucketedSession, Compute, bucket_for, host_buffer
from engines.gpu.candidates import COMPILE_MARGIN, WAYS, Candidates, best, measured, open_fastest, remembered
from engines.gpu.opening import open_on_device
from engines.graphs import epilogues
from engines.graphs.epilogues import fuse
from engines.graphs.folding import fold
from engines.graphs.stem import widen
from engines.graphs.torch_graph import to_torch
from engines.machine import has_nvidia_gpu
from engines.runtimes import torch_cpu, torch_cuda
from engines.store import default_model
from tests.engines.graph_pieces import onnx_answer, random_images, small_iresnet, worst_cosine

CPU = torch.device("cpu")
SHAPE = (24, 24, 3)
SIDE = 24

Float32 = NDArray[np.float32]


# the processor


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return small_iresnet()


@pytest.mark.parametrize(("precision", "floor"), [("fp32", 0.9999999), ("bf16", 0.999)])
def test_the_processor_gives_the_same_embeddings(network: onnx.ModelProto, precision: str, floor: float) -> None:
    session = torch_cpu.open_session(network.SerializeToString(), "small", precision=precision, threads=1)
    images = random_images(5, SIDE)
    answer = session.run(images)
    assert answer.dtype == np.float32
    assert worst_cosine(answer, onnx_answer(network, images)) >= floor
    kept = answer.copy()
    session.run(images[::-1].copy())
    assert np.array_equal(answer, kept)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_embedded_descriptor_on_the_processor(precision: str, chips: NDArray[np.uint8]) -> None:
    engine = open_model(default_model(), runtime="torch", precision=precision)
    expected = open_model(default_model(), runtime="onnxruntime", precision="fp32").run(chips[:5])
    assert worst_cosine(engine.run(chips[:5]), expected) >= (0.999 if precision == "bf16" else 0.9999999)


def test_images_that_may_not_be_written_are_taken_in_silence(network: onnx.ModelProto) -> None:
    session = torch_cpu.open_session(network.SerializeToString(), "small", precision="fp32", threads=1)
    images = random_images(2, SIDE)
    images.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert session.run(images).shape == (2, 16)


def test_the_number_of_threads_is_given_back(network: onnx.ModelProto) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def compute(images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return images.float()

    torch_cpu.TorchSession(compute, "x", threads=before + 1).run(random_images(1, SIDE))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_closed_session_says_so(network: onnx.ModelProto) -> None:
    session = torch_cpu.open_session(network.SerializeToString(), "small.onnx", precision="fp32", threads=1)
    session.close()
    session.close()
    with pytest.raises(EngineError, match=r"small\.onnx: the engine is closed"):
        session.run(random_images(1, SIDE))


def test_a_graph_that_does_not_run_is_the_files_fault(network: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(network)
    model.graph.node[0].attribute[0].ints[:] = [0, 1, 2, 3]  # the channels stay last
    with pytest.raises(ModelFileError, match=r"odd\.onnx: torch cannot load it") as caught:
        torch_cpu.open_session(model.SerializeToString(), "odd.onnx", precision="fp32", threads=1)
    assert "\n" not in str(caught.value)


def test_a_precision_that_torch_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fp32 and bf16 only" in str(torch_cpu.obstacle("int8"))
    with pytest.raises(EngineError, match="fp32 and bf16 only"):
        torch_cpu.open_session(b"", "x", precision="fp16", threads=1)
    monkeypatch.setattr(torch_cpu, "cpu_flags", lambda: frozenset({"avx2"}))
    assert "no bf16 instructions" in str(torch_cpu.obstacle("bf16"))
    assert torch_cpu.obstacle("fp32") is None


def test_without_torch_both_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in (torch_cpu, torch_cuda):
        with pytest.raises(RuntimeMissing, match="pip install torch"):
            module.version()


# what the GPU's runtime says of a machine


def torch_like(**cuda: Any) -> SimpleNamespace:
    version = SimpleNamespace(cuda=cuda.pop("version", "13.0"))
    given = {"is_available": lambda: True, "get_device_name": lambda: "NVIDIA H200"} | cuda
    return SimpleNamespace(__version__="2.11.0", version=version, cuda=SimpleNamespace(**given))


def test_the_version_names_torch_cuda_and_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_cuda, "library", torch_like)
    assert torch_cuda.version() == "2.11.0, CUDA 13.0, NVIDIA H200"


def test_a_build_without_cuda_and_a_machine_without_gpu_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_cuda, "library", lambda: torch_like(version=None))
    with pytest.raises(RuntimeMissing, match=r"torch 2\.11\.0 is a build without CUDA"):
        torch_cuda.version()

    def unavailable() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old (found version 11040).\nUpdate it.", stacklevel=1)
        return False

    monkeypatch.setattr(torch_cuda, "library", lambda: torch_like(is_available=unavailable))
    with pytest.raises(RuntimeMissing, match=r"no NVIDIA GPU \(The NVIDIA driver .* too old .*\); look at"):
        torch_cuda.version()


@pytest.mark.parametrize(
    ("capability", "precision", "words"),
    [
        ((9, 0), "fp16", None),
        ((9, 0), "bf16", None),
        ((7, 5), "bf16", "no fast bf16 (compute capability 7.5, compute capability 8.0 is needed)"),
        ((7, 5), "fp16", None),
        ((6, 1), "fp16", "no kernels for the GPU (compute capability 6.1)"),
        ((9, 0), "int8", "fp16, bf16 and fp32 only, not int8"),
    ],
)
def test_obstacles(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str, words: str | None
) -> None:
    library = torch_like(get_device_capability=lambda: capability, get_arch_list=lambda: ["sm_75", "sm_80", "sm_90"])
    monkeypatch.setattr(torch_cuda, "library", lambda: library)
    obstacle = torch_cuda.obstacle(precision)
    assert obstacle is None if words is None else words in str(obstacle)


@pytest.mark.parametrize(
    ("built_for", "capability", "runs"),
    [
        (["sm_80", "sm_90"], (8, 9), True),
        (["sm_90"], (8, 9), False),
        (["sm_86"], (8, 0), False),
        (["sm_90a", "compute_90"], (12, 0), True),
        (["sm_120", "compute_120"], (9, 0), False),
        ([], (9, 0), True),
    ],
)
def test_a_build_runs_on_its_own_generation_and_translates_for_later_ones(
    built_for: list[str], capability: tuple[int, int], runs: bool
) -> None:
    assert torch_cuda.runs_on(built_for, capability) == runs


# buckets


@given(count=st.integers(1, 256))
def test_the_smallest_bucket_that_holds_a_batch(count: int) -> None:
    size = bucket_for(count, BUCKETS)
    assert size in BUCKETS
    assert count <= size < 2 * count or size == count == 1


class Marks:
    """Computes a number a picture, and notes the batches that it was given."""

    def __init__(self, fails_above: int = 1 << 30, error: Callable[[], Exception] = RuntimeError) -> None:
        self.batches: list[int] = []
        self.fails_above = fails_above
        self.error = error

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        if len(images) > self.fails_above:
            raise self.error()
        return images.float().sum(dim=(1, 2, 3))[:, None]

    def session(self, **options: Any) -> BucketedSession:
        return BucketedSession(self, "marks.onnx", "torch-cuda", image_shape=(2, 2, 3), device=CPU, **options)


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(1, 33), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_padding_never_reaches_a_result(counts: list[int], seed: int) -> None:
    """Each batch gets its own numbers, whatever larger or smaller ones lay in the buffers before."""
    random, session = np.random.default_rng(seed), Marks().session()
    answers = []
    for count in counts:
        images = random.integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
        answers.append((session.run(images), images.sum(axis=(1, 2, 3), dtype=np.float32)[:, None]))
    for answer, expected in answers:
        assert np.array_equal(answer, expected)  # of earlier batches too: the caller's to keep
    assert session.prepared == tuple(sorted({bucket_for(count, BUCKETS) for count in counts}))


@settings(deadline=None)
@given(count=st.integers(1, 40))
def test_more_than_the_largest_bucket_goes_in_pieces(count: int) -> None:
    """Two are under way at once, each in buffers of its own."""
    marks = Marks()
    session = marks.session(sizes=(1, 2, 4), pieces=10)
    assert session.max_batch == 40
    images = np.random.default_rng(count).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
    assert np.array_equal(session.run(images), images.sum(axis=(1, 2, 3), dtype=np.float32)[:, None])
    assert max(marks.batches) <= 4


@settings(deadline=None)
@given(count=st.integers(1, 20))
def test_images_on_the_device_stay_there(count: int) -> None:
    session = Marks().session(sizes=(1, 2, 4))
    images = np.random.default_rng(count).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
    first = session.on_device(torch.from_numpy(images))
    session.on_device(torch.from_numpy(images[::-1].copy()))
    assert np.array_equal(first.numpy(), images.sum(axis=(1, 2, 3), dtype=np.float32)[:, None])


def test_a_closed_session_takes_nothing_on_the_device_either() -> None:
    session = Marks().session()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.on_device(torch.zeros(1, 2, 2, 3, dtype=torch.uint8))


def test_a_piece_that_does_not_fit_is_cut_smaller_next_time() -> None:
    session = Marks(fails_above=2, error=lambda: torch.OutOfMemoryError("CUDA out of memory")).session(
        sizes=(1, 2, 4), pieces=3
    )
    images = np.ones((9, 2, 2, 3), dtype=np.uint8)
    with pytest.raises(OutOfDeviceMemory):
        session.run(images)
    assert session.max_batch == 6
    assert session.run(images[:6]).ravel().tolist() == [12.0] * 6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_is_opened_for_faces_on_the_device(precision: str, chips: NDArray[np.uint8]) -> None:
    session = open_on_device(default_model(), CPU, precision)
    expected = open_model(default_model(), runtime="onnxruntime", precision="fp32").run(chips[:3])
    answer = session.on_device(torch.from_numpy(chips[:3])).numpy()
    assert worst_cosine(answer, expected) >= (0.999 if precision == "bf16" else 0.9999999)


def test_batches_are_padded_to_buckets() -> None:
    marks = Marks()
    session = marks.session()
    assert session.max_batch == 256
    assert session.run(np.zeros((5, 2, 2, 3), dtype=np.uint8)).shape == (5, 1)
    assert set(marks.batches) == {8}


def test_the_whole_network_in_buckets(network: onnx.ModelProto) -> None:
    """Folded, fused, in each precision: the same whichever bucket a face falls into."""
    images = random_images(11, SIDE)
    expected = onnx_answer(network, images)
    for dtype, floor in ((torch.float32, 0.9999999), (torch.bfloat16, 0.999)):
        session = Candidates(fold(network), "small", CPU, dtype, ways={"reference": reference_way}).session("reference")
        session.prepare((1, 4))
        together = session.run(images)
        assert worst_cosine(together, expected) >= floor
        alone = np.concatenate([session.run(image[None]) for image in images])
        assert worst_cosine(alone, together) >= floor
        session.close()


def test_a_graph_of_one_batch_has_one_bucket(network: onnx.ModelProto) -> None:
    model = fold(network)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    session = Candidates(model, "small", CPU, torch.float32, ways={"reference": reference_way}).session("reference")
    assert session.max_batch == 1
    assert session.run(random_images(1, SIDE)).shape == (1, 16)


def test_where_memory_cannot_be_pinned_ordinary_memory_serves() -> None:
    if torch.cuda.is_available():
        pytest.skip("memory can be pinned here")
    buffer = host_buffer((2, 3), torch.uint8, pinned=True)
    assert not buffer.is_pinned()
    assert buffer.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_session_may_move_from_thread_to_thread() -> None:
    session, answers = Marks().session(), []
    images = np.ones((1, 2, 2, 3), dtype=np.uint8)

    def work() -> None:
        answers.append(float(session.run(images)[0, 0]))

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert answers == [12.0, 12.0]


def test_the_bucketed_session_closes_twice_and_then_says_so() -> None:
    session = Marks().session()
    session.run(np.zeros((1, 2, 2, 3), dtype=np.uint8))
    session.close()
    session.close()
    assert session.prepared == ()
    with pytest.raises(EngineError, match=r"marks\.onnx: the engine is closed"):
        session.run(np.zeros((1, 2, 2, 3), dtype=np.uint8))


# what goes wrong on a device


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee docs"),
            OutOfDeviceMemory,
        ),
        (lambda: RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), OutOfDeviceMemory),
        (lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OutOfDeviceMemory),
        (lambda: RuntimeError("CUDA error: device-side assert triggered"), DeviceLost),
        (lambda: RuntimeError("CUDA error: unspecified launch failure"), DeviceLost),
        (
            lambda: getattr(torch, "AcceleratorError", RuntimeError)(
                "CUDA error: an illegal memory access was encountered"
            ),
            DeviceLost,
        ),
        (lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"), EngineError),
    ],
)
def test_errors_of_the_device_are_told_apart(error: Callable[[], Exception], kind: type[EngineError]) -> None:
    session = Marks(fails_above=0, error=error).session()
    with pytest.raises(EngineError) as caught:
        session.run(np.zeros((3, 2, 2, 3), dtype=np.uint8))
    assert type(caught.value) is kind
    assert str(caught.value).startswith("marks.onnx: torch-cuda ")
    assert "\n" not in str(caught.value)


def no_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_bucket_that_does_not_fit_is_freed_with_all_larger_ones() -> None:
    marks = Marks()
    session = marks.session()
    session.run(np.zeros((1, 2, 2, 3), dtype=np.uint8))
    session.run(np.zeros((16, 2, 2, 3), dtype=np.uint8))
    marks.fails_above, marks.error = 4, no_memory
    with pytest.raises(OutOfDeviceMemory):
        session.run(np.zeros((7, 2, 2, 3), dtype=np.uint8))
    assert session.prepared == (1,)
    assert session.max_batch == 4
    assert session.run(np.ones((4, 2, 2, 3), dtype=np.uint8)).tolist() == [[12.0]] * 4


def test_what_a_failed_bucket_held_is_free_when_the_caller_hears_of_it() -> None:
    """While the error travels, the next smaller batch is tried: it needs the room."""
    held: list[weakref.ref[torch.Tensor]] = []

    def record(compute: Compute, images: torch.Tensor) -> Callable[[], torch.Tensor]:
        workspace = torch.zeros(1000)
        held.extend((weakref.ref(workspace), weakref.ref(images)))
        raise no_memory()

    session = Marks().session(record=record)
    try:
        session.run(np.zeros((3, 2, 2, 3), dtype=np.uint8))
    except OutOfDeviceMemory:
        assert len(held) == 2
        assert all(reference() is None for reference in held)


def test_memory_that_ends_while_a_graph_is_recorded_is_told_as_such() -> None:
    def record(compute: Compute, images: torch.Tensor) -> Callable[[], torch.Tensor]:
        try:
            raise no_memory()
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    with pytest.raises(OutOfDeviceMemory, match=r"Tried to allocate 2\.00 GiB"):
        Marks().session(record=record).run(np.zeros((1, 2, 2, 3), dtype=np.uint8))


def test_one_face_that_does_not_fit_leaves_one_bucket() -> None:
    session = Marks(fails_above=0, error=no_memory).session()
    for _ in range(2):
        with pytest.raises(OutOfDeviceMemory):
            session.run(np.zeros((1, 2, 2, 3), dtype=np.uint8))
    assert session.max_batch == 1


def test_buckets_prepared_at_open_are_left_out_where_they_do_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    session = Marks(fails_above=2, error=no_memory).session()
    session.prepare((1, 2, 4, 8))
    assert session.prepared == (1, 2)
    assert session.max_batch == 2
    assert "marks.onnx: torch-cuda ran out of GPU memory" in caplog.text
    with pytest.raises(OutOfDeviceMemory):
        Marks(fails_above=0, error=no_memory).session().prepare((1, 2))


# which way is taken


def reference_way(module: torch.fx.GraphModule, device: torch.device) -> Compute:
    return epilogues.fuse(module).to(device).forward


class Ways:
    """Ways whose times are given; an error in a time's place is raised."""

    def __init__(self, **times: float | Exception) -> None:
        self.times = times
        self.asked: list[str] = []
        self.names = tuple(times)

    def seconds(self, way: str) -> float:
        self.asked.append(way)
        time = self.times[way]
        if isinstance(time, Exception):
            raise time
        return time


def test_the_fastest_of_those_that_work_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="engines.gpu.candidates")
    ways = Ways(triton=EngineError("no C compiler"), eager=0.003, compile=OutOfDeviceMemory("full"))
    assert best(measured(ways)) == "eager"
    assert ways.asked == ["triton", "eager", "compile"]
    assert "triton is passed over: no C compiler" in caplog.text
    assert "eager 3.00 ms" in caplog.text


def test_torch_compile_must_be_worth_its_start() -> None:
    assert best({"triton": 1.0, "compile": 0.99}) == "triton"
    assert best({"triton": 1.0, "compile": 0.9 / COMPILE_MARGIN}) == "compile"
    assert best({"compile": 9.0}) == "compile"


def test_a_lost_device_ends_the_measuring_and_no_way_at_all_is_an_error() -> None:
    with pytest.raises(DeviceLost):
        measured(Ways(triton=DeviceLost("gone"), eager=1.0))
    with pytest.raises(EngineError, match="first"):
        measured(Ways(triton=EngineError("first"), eager=EngineError("second")))


def test_what_was_measured_is_remembered() -> None:
    key = ("model", "torch", "gpu", "fp16")
    first, second = Ways(triton=2.0, eager=1.0), Ways(triton=1.0, eager=2.0)
    assert remembered(key, first) == "eager"
    assert plans.have("torch-cuda", key)
    assert remembered(key, second) == "eager"
    assert second.asked == []
    assert remembered((*key, "other"), second) == "triton"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", json.dumps({"way": "gone"}).encode(), b"\xff"])
def test_what_was_remembered_wrongly_is_measured_again(content: bytes) -> None:
    key = ("model", repr(content))
    plans.write("torch-cuda", key, content)
    assert remembered(key, Ways(triton=1.0)) == "triton"


def test_ways_are_measured_by_the_latency_of_one_and_the_rate_of_many(network: onnx.ModelProto) -> None:
    calls: list[object] = []

    def clock(call: Callable[[], object]) -> float:
        call()
        calls.append(call)
        return 0.001 * 4 ** len(calls)

    candidates = Candidates(fold(network), "small", CPU, torch.float32, ways={"reference": reference_way}, clock=clock)
    assert candidates.seconds("reference") == pytest.approx(0.008)  # of 4 and 16 ms
    assert len(calls) == 2


def one_second(call: Callable[[], object]) -> float:
    call()
    return 1.0


def test_a_session_opens_in_the_fastest_way_with_its_first_buckets_made(network: onnx.ModelProto) -> None:
    def broken(module: torch.fx.GraphModule, device: torch.device) -> Compute:
        raise ImportError("no Triton here")

    ways = {"broken": broken, "eager": WAYS["eager"]}
    candidates = Candidates(fold(network), "small", CPU, torch.float32, ways=ways, clock=one_second)
    session = open_fastest(candidates, ("opens", "fastest"))
    assert session.prepared == (1, 2, 4, 8)
    images = random_images(20, SIDE)
    assert worst_cosine(session.run(images), onnx_answer(network, images)) > 0.9999999
    assert session.prepared == (1, 2, 4, 8, 32)


def test_a_compiler_that_fails_is_an_engine_error(network: onnx.ModelProto) -> None:
    def without_compiler(module: torch.fx.GraphModule, device: torch.device) -> Compute:
        def compute(images: torch.Tensor) -> torch.Tensor:
            raise FileNotFoundError("gcc")

        return compute

    candidates = Candidates(fold(network), "small", CPU, torch.float32, ways={"x": without_compiler})
    with pytest.raises(EngineError, match=r"small: torch-cuda failed .*kernels cannot be compiled: gcc"):
        candidates.seconds("x")


def test_without_triton_its_way_is_passed_over(network: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "engines.graphs.triton_epilogue", raising=False)
    candidates = Candidates(fold(network), "small", CPU, torch.float32, ways={"triton": WAYS["triton"]})
    with pytest.raises(EngineError, match="triton"):
        candidates.seconds("triton")


def test_torchs_own_kernels_are_a_way(network: onnx.ModelProto) -> None:
    images = random_images(3, SIDE)
    session = Candidates(fold(network), "small", CPU, torch.float32, ways={"eager": WAYS["eager"]}).session("eager")
    assert worst_cosine(session.run(images), onnx_answer(network, images)) > 0.9999999
    assert tuple(WAYS) == ("triton", "triton-wide", "eager", "compile")


def test_a_wide_first_convolution_gives_the_same(network: onnx.ModelProto) -> None:
    ways = {"plain": lambda module, device: fuse(module).to(device).forward}
    ways["wide"] = lambda module, device: fuse(widen(module)).to(device).forward
    candidates = Candidates(fold(network), "small", CPU, torch.float32, ways=ways)
    images = random_images(3, SIDE)
    plain, wide = (candidates.session(way).run(images) for way in ways)
    assert np.allclose(plain, wide, rtol=1e-5, atol=1e-6)
    module = widen(to_torch(fold(network), dtype=torch.float32))
    convolved = [node for node in module.graph.nodes if node.target is torch.nn.functional.conv2d]
    assert module.get_buffer(str(convolved[0].args[1].target)).shape[1] == 8


def test_the_triton_kernel_is_the_reference() -> None:
    """Runs where Triton is: interpreted on a processor (TRITON_INTERPRET=1), compiled on a GPU."""
    pytest.importorskip("triton")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("a processor runs Triton's kernels only with TRITON_INTERPRET=1")
    kernel = importlib.import_module("engines.graphs.triton_epilogue").epilogue
    generator = torch.Generator().manual_seed(3)

    def values(*shape: int) -> torch.Tensor:
        made = torch.randn(shape, generator=generator).to(device, torch.float16)
        return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made

    for n, c, h, w in ((2, 16, 7, 5), (3, 45, 9, 8), (1, 8, 1, 1), (1, 1, 4, 4)):
        for shift in (None, values(1, c, 1, 1), values(1, c, h, w)):
            for residual in (None, values(n, c, h, w)):
                for slope in (None, values(c).abs()):
                    x = values(n, c, h, w)
                    expected = epilogues.reference(x.clone(), shift, residual, slope)
                    answer = kernel(x, shift, residual, slope)
                    assert torch.allclose(answer, expected, rtol=1e-3, atol=1e-3)


# a GPU

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (has_nvidia_gpu() and torch.cuda.is_available()), reason="no NVIDIA GPU and torch for it"),
]


def gpu(test: Callable[..., None]) -> Callable[..., None]:
    for mark in needs_gpu:
        test = mark(test)
    return test


@pytest.fixture(params=["fp32", "fp16", "bf16"])
def gpu_precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@gpu
def test_on_a_gpu_every_batch_is_the_same_network(network: onnx.ModelProto, gpu_precision: str) -> None:
    content = network.SerializeToString()
    session = torch_cuda.open_session(content, "small", precision=gpu_precision, threads=1)
    assert torch_cuda.ready(content, gpu_precision)
    floor = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.999}[gpu_precision]
    images = random_images(256, SIDE)
    expected = onnx_answer(network, images)
    for count in (1, 3, 8, 33, 256):
        answer = session.run(images[:count])
        assert worst_cosine(answer, expected[:count]) >= floor
    session.close()


@gpu
@pytest.mark.parametrize("way", WAYS)
def test_on_a_gpu_every_way_works(network: onnx.ModelProto, way: str) -> None:
    candidates = Candidates(fold(network), "small", torch.device("cuda", 0), torch.float16)
    images = random_images(5, SIDE)
    assert worst_cosine(candidates.session(way).run(images), onnx_answer(network, images)) >= 0.999
    assert 0 < candidates.seconds(way) < 1


@gpu
def test_on_a_gpu_a_batch_that_does_not_fit_is_smaller_next_time(network: onnx.ModelProto) -> None:
    session = Candidates(fold(network), "small", torch.device("cuda", 0), torch.float16).session("eager")
    session.prepare((1,))
    total = torch.cuda.get_device_properties(0).total_memory
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (8 << 20)) / total)
    try:
        with pytest.raises(OutOfDeviceMemory):
            session.run(random_images(256, SIDE))
        assert session.max_batch < 256 * PIECES
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert session.run(random_images(1, SIDE)).shape == (1, 16)
