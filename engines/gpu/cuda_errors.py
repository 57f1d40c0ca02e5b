"""What an error of a GPU library means.

Enters: an exception, or a message where the library has nothing else. Leaves: the error of this project that says
whether a smaller batch may help, whether the device is gone, or neither. CUDA's own errors reach Python as text alone.
"""

from __future__ import annotations

import re
from typing import Final

from engines.errors import DeviceLost, EngineError, OutOfDeviceMemory, first_line

_MEMORY: Final = re.compile(
    r"out of memory|outofmemory|failed to allocate|alloc_failed|bad_alloc|not enough memory", re.IGNORECASE
)

_LOST: Final = re.compile(
    r"cuda error|cuda failure|cuda runtime|cudnn_status|cudnn failure|cublas_status|cublas failure|device-side assert"
    r"|launch failure|illegal (memory access|address|instruction)|gpu is lost|driver shutting down|device.*unavailable",
    re.IGNORECASE,
)


def translated(err: Exception | str, where: str, runtime: str) -> EngineError:
    """The error to raise; ``where`` names the model. One sentence, whatever the library's message was."""
    cause = first_line(err)
    if _MEMORY.search(str(err)):
        return OutOfDeviceMemory(
            f"{where}: {runtime} ran out of GPU memory ({cause}); take a smaller batch or end what else uses the GPU"
        )
    if _LOST.search(str(err)):
        return DeviceLost(f"{where}: {runtime} lost the GPU ({cause}); look at `nvidia-smi`, then start again")
    return EngineError(f"{where}: {runtime} failed ({cause}); try another runtime")
