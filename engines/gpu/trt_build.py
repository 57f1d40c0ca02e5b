"""TensorRT plans: built from ONNX, and loaded.

Enters: ONNX bytes that name the precision of every node, and the ``tensorrt`` module (10.12 or newer, 11 too: only
names that both have are used). Leaves: the bytes of a plan for this GPU, and the engine that they hold.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from engines import plans
from engines.errors import EngineError, ModelFileError, first_line
from engines.gpu.cuda_errors import translated

PROFILES: Final = ((1, 1, 2), (4, 8, 16), (32, 64, 256))
"""Batches (smallest, the one that kernels are chosen for, largest), in order and without overlap.

TensorRT picks kernels for the middle one. Batch 1 has its own, because a camera's face must not wait; 8 is a group on
one picture; from 32 on more faces a call gain little. A fourth would cost a third of the build time again.
"""

WORKSPACE_BYTES: Final = 4 << 30
"""Scratch memory that a kernel may ask for; without a limit the builder tries what only an empty GPU can hold."""

_log = logging.getLogger(__name__)


def build_plan(trt: Any, onnx_model: bytes, where: str, device: tuple[str, ...]) -> bytes:
    """Build; takes a minute or more. Can be interrupted.

    Args:
        trt: the module ``tensorrt``.
        onnx_model: one uint8 input (N, S, S, 3), one float32 output.
        where: names the model in messages.
        device: what the timing cache depends on beside the version: compute capability, name.

    Raises:
        ModelFileError: TensorRT's parser refuses the graph.
        OutOfDeviceMemory: the builder needs more than the GPU has.
        EngineError: anything else.
    """
    log = make_log(trt)
    builder = _created(trt.Builder, log, where)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, onnx_model, where, log)
    config = _configured(trt, builder, network)
    timing = _TimingCache(trt, config, device)
    monitor = _make_monitor(trt)
    config.progress_monitor = monitor
    _log.info("%s: TensorRT builds an engine for this GPU; this takes minutes, once", where)
    started = time.monotonic()
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise translated(log.last, where, "TensorRT's builder")
    timing.keep()
    _log.info("%s: TensorRT's engine is built, in %.0f s", where, time.monotonic() - started)
    return bytes(plan)


class LoadedPlan:
    """An engine and what must live as long as it does."""

    def __init__(self, trt: Any) -> None:
        self.trt = trt
        self.log = make_log(trt)
        self.engine: Any = None
        self._runtime: Any = None

    def load(self, plan: bytes) -> bool:
        """False: it was built by another version or for another GPU, or is damaged."""
        self._runtime = self._runtime or _created(self.trt.Runtime, self.log, "TensorRT")
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        return self.engine is not None

    def close(self) -> None:
        self.engine = self._runtime = None


def make_log(trt: Any) -> Any:
    """A ``trt.ILogger`` that writes to ours and remembers its last error in ``last``."""
    severity = trt.ILogger.Severity
    levels = {severity.INTERNAL_ERROR: logging.WARNING, severity.ERROR: logging.WARNING, severity.WARNING: logging.INFO}

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = "no message"

        def log(self, severity: Any, msg: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level == logging.WARNING:
                self.last = msg
            _log.log(level, "TensorRT: %s", msg)

    return Log()


def _make_monitor(trt: Any) -> Any:
    """A ``trt.IProgressMonitor`` that ends the build on Ctrl-C, which TensorRT does not see by itself."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            pass

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                return not self.interrupted
            except KeyboardInterrupt:
                self.interrupted = True
                return False

    return Monitor()


def _created(kind: Any, log: Any, where: str) -> Any:
    """A builder or a runtime. The bindings raise a TypeError where the driver does not answer."""
    try:
        return kind(log)
    except (TypeError, RuntimeError) as err:
        cause = log.last if log.last != "no message" else first_line(err)
        raise translated(f"CUDA error: {cause}", where, "TensorRT") from err


def _parse(trt: Any, network: Any, onnx_model: bytes, where: str, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse(onnx_model):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    causes = [f"{err.node_operator()} {err.node_name()}: {first_line(err.desc())}" for err in errors]
    raise ModelFileError(
        f"{where}: TensorRT cannot read it ({'; '.join(causes) or first_line(log.last)}); use another runtime"
    )


def _configured(trt: Any, builder: Any, network: Any) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # what is called fp32 is: the last layer is kept in it for its digits
    faces = network.get_input(0)
    image = tuple(faces.shape)[1:]
    for batches in PROFILES:
        profile = builder.create_optimization_profile()
        profile.set_shape(faces.name, *((batch, *image) for batch in batches))
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses batches {batches} of {image}; use another runtime")
    return config


class _TimingCache:
    """How long each kernel took on this GPU: the next build of any model with this version is quicker."""

    def __init__(self, trt: Any, config: Any, device: tuple[str, ...]) -> None:
        self._config = config
        self._parts = (str(trt.__version__), *device)
        self._before = plans.read("tensorrt-timing", self._parts) or b""
        cache = config.create_timing_cache(self._before)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        self._cache = cache  # must outlive the build

    def keep(self) -> None:
        cache = self._config.get_timing_cache()
        after = bytes(cache.serialize()) if cache is not None else b""
        if after and after != self._before:
            plans.write("tensorrt-timing", self._parts, after)
