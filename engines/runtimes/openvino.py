"""Models on OpenVINO's CPU plugin, fp32, bf16 or int8.

Enters: ONNX bytes. Leaves: a ``Session``. The precision is set explicitly: left alone, the plugin takes bf16 wherever
the processor has it, and a model that is called fp32 would not be. What of an int8 model is not int8 runs in bf16 where
the processor has it.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, ModelFileError, RuntimeMissing
from engines.machine import cpu_flags
from engines.quiet import import_quietly
from engines.runtimes.int8 import int8_obstacle

PRECISIONS: Final = ("fp32", "bf16", "int8")


def version() -> str:
    """Of the library.

    Raises:
        RuntimeMissing: not installed, or it does not load here.
    """
    return str(_library().__version__).split("-")[0]


def obstacle(precision: str) -> str | None:
    """bf16 and int8 without instructions for them are slower than fp32."""
    if precision not in PRECISIONS:
        return f"openvino runs {', '.join(PRECISIONS)} only"
    if precision == "int8":
        return int8_obstacle()
    if precision == "bf16" and not _has_bf16():
        return "this processor has no bf16 instructions (AVX512_BF16 or AMX)"
    return None


def ready(content: bytes, precision: str) -> bool:
    """Nothing has to be built."""
    return True


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> OpenVinoSession:
    """Compile; takes 0.2 s, of which the plugin's own cache of compiled graphs would save a third.

    Raises:
        ModelFileError: the runtime refuses the graph.
    """
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _arithmetic(precision),
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # two engines pinned to the same cores would wait for each other
        "ENABLE_CPU_PINNING": False,
    }
    core = _core()
    try:
        content = _with_pairs_at_convolutions(model) if precision == "int8" else model
        return OpenVinoSession(core.compile_model(core.read_model(content), "CPU", options), where)
    except RuntimeError as err:
        raise ModelFileError(f"{where}: openvino cannot load it ({_last_line(err)}); export the model again") from err


class OpenVinoSession:
    """One graph and one request; results are copied out of the runtime's buffer."""

    max_batch: Final = 32
    """Larger batches are no faster on a processor, and memory grows with them."""

    def __init__(self, compiled: Any, where: str) -> None:
        self._request = compiled.create_infer_request()
        self._where = where

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._request is None:
            raise EngineError(f"{self._where}: the engine is closed; open it again")
        try:
            self._request.infer({0: images}, share_inputs=True)
        except RuntimeError as err:
            raise EngineError(f"{self._where}: openvino failed ({_last_line(err)}); try another runtime") from err
        output: NDArray[np.float32] = self._request.get_output_tensor(0).data.copy()
        return output

    def close(self) -> None:
        self._request = None


def _arithmetic(precision: str) -> str:
    """The plugin's name for it; of an int8 model, for what is not int8."""
    return "bf16" if precision == "bf16" or (precision == "int8" and _has_bf16()) else "f32"


def _with_pairs_at_convolutions(model: bytes) -> bytes:
    """A third less time than with the pairs that ONNX Runtime wants, and half the error."""
    import onnx

    from engines.graphs.quantisation import only_convolutions

    content: bytes = only_convolutions(onnx.ModelProto.FromString(model)).SerializeToString()
    return content


def _has_bf16() -> bool:
    """The processor's own word where the system passes it on, else the plugin's."""
    flags = cpu_flags()
    if flags and platform.machine() in ("x86_64", "AMD64"):
        return not flags.isdisjoint(("avx512_bf16", "amx_bf16"))
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _library() -> ModuleType:
    try:
        return import_quietly("openvino")
    except (ImportError, OSError) as err:
        raise RuntimeMissing(f"openvino does not load ({err}); install it with `pip install openvino`") from err


@lru_cache(maxsize=1)
def _core() -> Any:
    """One core a process: each would load the plugin and start a thread pool of its own."""
    return _library().Core()


def _last_line(err: Exception) -> str:
    """The cause stands last, but for a line that points to a manual."""
    lines = [line for line in str(err).strip().splitlines() if "://" not in line]
    return lines[-1].lstrip("- ") if lines else "no message"
