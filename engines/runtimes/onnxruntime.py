"""Models on ONNX Runtime's CPU provider, fp32 or int8.

Enters: ONNX bytes. Leaves: a ``Session``. Its threads sleep between calls: a pool that spins would take a core from
decoding and detection.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, ModelFileError, RuntimeMissing, first_line
from engines.quiet import import_quietly
from engines.runtimes.int8 import int8_obstacle

PRECISIONS: Final = ("fp32", "int8")


def version() -> str:
    """Of the library.

    Raises:
        RuntimeMissing: not installed, or it does not load here.
    """
    return str(_library().__version__)


def obstacle(precision: str) -> str | None:
    """int8 without instructions for it is no faster."""
    if precision not in PRECISIONS:
        return f"onnxruntime runs {' and '.join(PRECISIONS)} only"
    return int8_obstacle() if precision == "int8" else None


def ready(content: bytes, precision: str) -> bool:
    """Nothing has to be built."""
    return True


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> OnnxRuntimeSession:
    """Compile; takes a tenth of a second.

    Raises:
        ModelFileError: the runtime refuses the graph.
    """
    return OnnxRuntimeSession(compiled(model, where, threads), where)


def compiled(model: bytes, where: str, threads: int) -> Any:
    """The library's own session, for who wants more outputs than one.

    Raises:
        ModelFileError: the runtime refuses the graph.
        RuntimeMissing: as ``version``.
    """
    library = _library()
    try:
        return library.InferenceSession(model, session_options(library, threads), providers=["CPUExecutionProvider"])
    except errors() as err:
        raise ModelFileError(
            f"{where}: onnxruntime cannot load it ({first_line(err)}); export the model again"
        ) from err


def session_options(library: ModuleType, threads: int) -> Any:
    """What every session of this library is opened with: its threads sleep between calls."""
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def outputs(session: Any, where: str, names: list[str], images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Named outputs of one run of a ``compiled`` session.

    Raises:
        EngineError: the runtime failed.
    """
    try:
        values: list[NDArray[np.float32]] = session.run(names, {session.get_inputs()[0].name: images})
    except errors() as err:
        raise EngineError(f"{where}: onnxruntime failed ({first_line(err)}); try another runtime") from err
    return values


class OnnxRuntimeSession:
    """One graph; the runtime returns fresh arrays."""

    max_batch: Final = 32
    """Larger batches are no faster on a processor, and memory grows with them."""

    def __init__(self, session: Any, where: str) -> None:
        self._session = session
        self._where = where
        self._output: str = session.get_outputs()[0].name

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._session is None:
            raise EngineError(f"{self._where}: the engine is closed; open it again")
        return outputs(self._session, self._where, [self._output], images)[0]

    def close(self) -> None:
        self._session = None


def _library() -> ModuleType:
    try:
        return import_quietly("onnxruntime")
    except (ImportError, OSError) as err:
        raise RuntimeMissing(f"onnxruntime does not load ({err}); install it with `pip install onnxruntime`") from err


def errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions share no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError)
