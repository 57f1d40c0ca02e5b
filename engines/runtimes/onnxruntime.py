"""Models on ONNX Runtime's CPU provider, fp32.

Enters: ONNX bytes. Leaves: a ``Session``. Its threads sleep between calls: a pool that spins would take a core from
decoding and detection.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, ModelFileError, RuntimeMissing
from engines.quiet import import_quietly


def version() -> str:
    """Of the library.

    Raises:
        RuntimeMissing: not installed, or it does not load here.
    """
    return str(_library().__version__)


def obstacle(precision: str) -> str | None:
    return None if precision == "fp32" else "onnxruntime runs fp32 only"


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> OnnxRuntimeSession:
    """Compile; takes a tenth of a second.

    Raises:
        ModelFileError: the runtime refuses the graph.
    """
    library = _library()
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = library.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _errors() as err:
        raise ModelFileError(
            f"{where}: onnxruntime cannot load it ({_first_line(err)}); export the model again"
        ) from err
    return OnnxRuntimeSession(session, where)


class OnnxRuntimeSession:
    """One graph; the runtime returns fresh arrays."""

    def __init__(self, session: Any, where: str) -> None:
        self._session = session
        self._where = where
        self._input: str = session.get_inputs()[0].name

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._session is None:
            raise EngineError(f"{self._where}: the engine is closed; open it again")
        try:
            output: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        except _errors() as err:
            raise EngineError(f"{self._where}: onnxruntime failed ({_first_line(err)}); try another runtime") from err
        return output

    def close(self) -> None:
        self._session = None


def _library() -> ModuleType:
    try:
        return import_quietly("onnxruntime")
    except (ImportError, OSError) as err:
        raise RuntimeMissing(f"onnxruntime does not load ({err}); install it with `pip install onnxruntime`") from err


def _errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions share no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError)


def _first_line(err: Exception) -> str:
    return (str(err).strip().splitlines() or ["no message"])[0]
