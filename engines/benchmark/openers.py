"""How each kind of contestant is opened, in its own process.

Enters: a ``Contestant``. Leaves: an ``Opened``: a function that embeds so many faces of noise once, and what it took to
get there. Arithmetic takes the same time on noise as on faces.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.benchmark.contestants import EAGER, FRAME, MATMUL, WHEEL, Contestant
from engines.errors import EngineError

if TYPE_CHECKING:
    from engines.export import ModelFile

SIDE: Final = 2048
"""Of the square matrices on a processor: 16 MiB each in fp32, beyond its caches, a fifth of a second on one core."""

CUDA_SIDE: Final = 8192
"""On a GPU: below a tenth of a second on anything, and enough to fill the largest."""

KEPT: Final = (".onnx", ".plan")
"""How files of the cache end that took time to build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A contestant that is ready to run."""

    run: Callable[[int], object]
    """Once, on a batch of so many."""
    load_s: float | None = None
    """Library, file and session: what a start takes when everything is built; None where that is all of opening."""
    build_s: float | None = None
    """What was built on the way and kept for later starts; None where nothing had to be."""
    flop: float | None = None
    """Of one run; of matrix products only."""


def open_contestant(spec: Contestant) -> Opened:
    """Load what the contestant is made of.

    Raises:
        EngineError: it cannot run here; the message says why.
    """
    start = time.perf_counter()
    opened = OPENERS[spec.kind](spec)
    return opened if opened.load_s is not None else replace(opened, load_s=time.perf_counter() - start)


def _engine(spec: Contestant) -> Opened:
    from engines.engine import open_model
    from engines.runtimes import runtime_module

    start = time.perf_counter()
    model = _model(spec)
    runtime_module(spec.runtime).version()
    library_s = time.perf_counter() - start

    def opening() -> tuple[Any, float]:
        begun = time.perf_counter()
        engine = open_model(
            model, runtime=spec.runtime, precision=spec.precision, threads=spec.threads, on_device_loss="stop"
        )
        return engine, time.perf_counter() - begun

    kept, build_s = _kept(), None
    engine, session_s = opening()
    if _kept() - kept:
        engine.close()
        first_s = session_s
        engine, session_s = opening()
        build_s = max(first_s - session_s, 0.0)
    faces_NHWC = _noise(spec, model.manifest.input_size)
    return Opened(run=lambda count: engine.run(faces_NHWC[:count]), load_s=library_s + session_s, build_s=build_s)


def _kept() -> frozenset[Path]:
    """What is in the cache: whatever had to be built is a new file there."""
    from engines.store import cache_dir

    return frozenset(path for path in cache_dir().rglob("*") if path.suffix in KEPT)


def _eager(spec: Contestant) -> Opened:
    """The network as people write it, with weights of no meaning: torch's defaults, fp32, nothing folded."""
    from engines.networks import NETWORKS, build
    from engines.networks.library import torch_library

    torch = torch_library()
    device = torch.device(spec.runtime)
    torch.set_num_threads(spec.threads)
    manifest = _model(spec).manifest
    shape = replace(NETWORKS[manifest.network], dimensions=manifest.dimensions, input_size=manifest.input_size)
    network = build(shape).eval().to(device)
    faces_NHWC = _noise(spec, manifest.input_size)

    def run(count: int) -> object:
        with torch.inference_mode():
            faces = torch.from_numpy(faces_NHWC[:count]).to(device)
            pixels = (faces.permute(0, 3, 1, 2).float() - 127.5) / 127.5
            embeddings = network(pixels)
            if spec.mirrored:
                embeddings = embeddings + network(pixels.flip(3))
            return embeddings.cpu().numpy()

    return Opened(run=run)


def _wheel(spec: Contestant) -> Opened:
    import dlib

    from engines.dlib.descriptor_graph import CHIP
    from engines.models import DEFAULT, known_model

    network = dlib.face_recognition_model_v1(str(known_model(DEFAULT).weights_path()))
    faces_NHWC = _noise(spec, CHIP)
    both = [faces_NHWC, np.ascontiguousarray(faces_NHWC[:, :, ::-1])] if spec.mirrored else [faces_NHWC]
    return Opened(run=lambda count: [network.compute_face_descriptor(list(chips[:count])) for chips in both])


def _detector(spec: Contestant) -> Opened:
    from engines.dlib.detector import CnnDetector

    detector = CnnDetector(runtime=spec.runtime, precision=spec.precision, threads=spec.threads)
    frame_HW3 = _frame()
    detector.detect(frame_HW3)  # compiles for this size
    return Opened(run=lambda _count: detector.detect(frame_HW3))


def _wheel_detector(spec: Contestant) -> Opened:
    import dlib

    from engines.models import CNN_DETECTOR, find_weights

    detector = dlib.cnn_face_detection_model_v1(str(find_weights(*CNN_DETECTOR)))
    frame_HW3 = _frame()
    return Opened(run=lambda _count: detector(frame_HW3, 0))


def _matmul_fp32(spec: Contestant) -> Opened:
    """numpy's BLAS; its threads are set in the process's environment."""
    a = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    return Opened(run=lambda _count: a @ a, flop=2 * SIDE**3)


def _matmul_bf16(spec: Contestant) -> Opened:
    from engines.networks.library import torch_library

    torch = torch_library()
    torch.set_num_threads(spec.threads)
    a = torch.randn(SIDE, SIDE).bfloat16()
    return Opened(run=lambda _count: a @ a, flop=2 * SIDE**3)


def _matmul_int8(spec: Contestant) -> Opened:
    """uint8 by int8, as a quantised convolution has them: ONNX Runtime's product, the fastest that is at hand."""
    import onnx
    from onnx import TensorProto, helper

    from engines.quiet import import_quietly

    library = import_quietly("onnxruntime")
    noise = np.random.default_rng(0)
    weights = helper.make_tensor(
        "b", TensorProto.INT8, [SIDE, SIDE], noise.integers(-127, 128, SIDE**2, dtype=np.int8).tobytes(), raw=True
    )
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        MATMUL,
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [SIDE, SIDE])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [SIDE, SIDE])],
        [weights],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = library.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = library.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    a = noise.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    return Opened(run=lambda _count: session.run(None, {"a": a}), flop=2 * SIDE**3)


def _matmul_cuda(spec: Contestant) -> Opened:
    from engines.networks.library import torch_library

    torch = torch_library()
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if spec.precision not in kinds:
        raise EngineError(f"torch multiplies no {spec.precision} matrices on a GPU; compare with fp16")
    a = torch.randn(CUDA_SIDE, CUDA_SIDE, device="cuda", dtype=kinds[spec.precision])

    def run(_count: int) -> None:
        a @ a
        torch.cuda.synchronize()

    return Opened(run=run, flop=2 * CUDA_SIDE**3)


OPENERS: Final[dict[str, Callable[[Contestant], Opened]]] = {
    "engine": _engine,
    EAGER: _eager,
    WHEEL: _wheel,
    "detector": _detector,
    "wheel detector": _wheel_detector,
    f"{MATMUL} fp32": _matmul_fp32,
    f"{MATMUL} bf16": _matmul_bf16,
    f"{MATMUL} int8": _matmul_int8,
    f"{MATMUL} cuda": _matmul_cuda,
}


def _model(spec: Contestant) -> ModelFile:
    from engines.store import default_model, find_model

    if spec.file is None:
        return default_model(unit_length=spec.unit_length, mirrored=spec.mirrored)
    return find_model(spec.file)


def _noise(spec: Contestant, side: int) -> NDArray[np.uint8]:
    shape = (spec.batches[-1], side, side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _frame() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*FRAME, 3), dtype=np.uint8)
