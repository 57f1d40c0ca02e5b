"""Models on ONNX Runtime's CUDA provider, fp32.

Enters: ONNX bytes. Leaves: a ``Session``. Where the provider does not start, ONNX Runtime runs on the processor without
an error; here that is one.
"""

from __future__ import annotations

import contextlib
import io
import logging
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import DeviceLost, EngineError, ModelFileError, OutOfDeviceMemory, RuntimeMissing, first_line
from engines.gpu.cuda_errors import translated
from engines.quiet import import_quietly
from engines.runtimes.onnxruntime import errors, session_options

INSTALL: Final = "pip install onnxruntime-gpu"

MAX_BATCH: Final = 64
"""Larger batches are no faster on the GPUs that have no other runtime, and the arena keeps the largest one's memory."""

_PROVIDER: Final = "CUDAExecutionProvider"

_OPTIONS: Final = {
    "device_id": "0",
    # a search over all algorithms would run at every new batch size
    "cudnn_conv_algo_search": "HEURISTIC",
    # doubling would take memory that the window and the other engines need
    "arena_extend_strategy": "kSameAsRequested",
    # what is called fp32 is
    "use_tf32": "0",
}

_log = logging.getLogger(__name__)


def version() -> str:
    """Of the library.

    Raises:
        RuntimeMissing: not installed, it does not load, or it is the one for processors alone.
    """
    library = _library()
    if _PROVIDER not in library.get_available_providers():
        raise RuntimeMissing(f"this onnxruntime has no CUDA provider; install one that has with `{INSTALL}`")
    return str(library.__version__)


def obstacle(precision: str) -> str | None:
    """Also whether the provider starts at all: the library being there says nothing of CUDA and cuDNN."""
    return "onnxruntime-cuda runs fp32 only" if precision != "fp32" else _refusal()


def ready(content: bytes, precision: str) -> bool:
    return True


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> OnnxRuntimeCudaSession:
    """Load; takes a second or two.

    Raises:
        ModelFileError: the runtime refuses the graph.
        RuntimeMissing: the CUDA provider does not start.
        OutOfDeviceMemory: the GPU's memory is too small or taken.
        DeviceLost: the driver does not answer.
    """
    version()
    return OnnxRuntimeCudaSession(_opened(model, where, threads), where)


class OnnxRuntimeCudaSession:
    """One graph; the runtime uploads, downloads and returns fresh arrays."""

    max_batch: Final = MAX_BATCH

    def __init__(self, session: Any, where: str) -> None:
        self._session = session
        self._where = where
        self._input: str = session.get_inputs()[0].name

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._session is None:
            raise EngineError(f"{self._where}: the engine is closed; open it again")
        try:
            output: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        except errors() as err:
            raise translated(err, self._where, "onnxruntime-cuda") from err
        return output

    def close(self) -> None:
        self._session = None


def _opened(model: bytes, where: str, threads: int) -> Any:
    library = _library()
    options = session_options(library, threads)
    providers = [(_PROVIDER, _OPTIONS), "CPUExecutionProvider"]
    try:
        session = library.InferenceSession(model, options, providers=providers)
    except errors() as err:
        error = translated(err, where, "onnxruntime-cuda")
        if isinstance(error, OutOfDeviceMemory | DeviceLost):
            raise error from err
        raise ModelFileError(
            f"{where}: onnxruntime-cuda cannot load it ({first_line(err)}); export the model again"
        ) from err
    if session.get_providers()[0] != _PROVIDER:
        raise RuntimeMissing(
            "onnxruntime's CUDA provider does not start, it fell back to the processor; "
            "install the CUDA and cuDNN that its release notes name, or another runtime"
        )
    session.disable_fallback()
    return session


@lru_cache(maxsize=1)
def _refusal() -> str | None:
    """Why a session of one node does not get the provider; None where it does. Asked once: it takes a second."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", values[:1], values[1:])
    probe = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        _opened(probe.SerializeToString(), "a graph of one node", 1)
    except EngineError as err:
        return str(err)
    return None


def _library() -> ModuleType:
    """With the CUDA libraries that came as Python packages, where the version can load them itself."""
    try:
        library = import_quietly("onnxruntime")
    except (ImportError, OSError) as err:
        raise RuntimeMissing(f"onnxruntime does not load ({first_line(err)}); install it with `{INSTALL}`") from err
    if _PROVIDER in library.get_available_providers():
        _preload(library)
    return library


@lru_cache(maxsize=1)
def _preload(library: ModuleType) -> None:
    """It prints what it misses; that goes to the log."""
    if hasattr(library, "preload_dlls"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            library.preload_dlls()
        _log.debug("onnxruntime.preload_dlls: %s", printed.getvalue().strip())
