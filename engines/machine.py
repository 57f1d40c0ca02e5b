"""What this machine is, as far as a choice of runtime needs it; nothing heavy is loaded to find out.

Leaves: whether there is an NVIDIA GPU, and a name for the processor under which measured answers are kept.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import Final

_DEVICES: Final = Path("/dev")
_CPUINFO: Final = Path("/proc/cpuinfo")


def has_nvidia_gpu() -> bool:
    """A device node (Linux, WSL) or the driver's library (Windows) is there; it may still not work."""
    if sys.platform == "win32":
        return ctypes.util.find_library("nvcuda") is not None
    return any(_DEVICES.glob("nvidia[0-9]*")) or (_DEVICES / "dxg").exists()


def cpu_flags() -> frozenset[str]:
    """Instruction sets by Linux's names (``avx512_vnni``); empty where the system does not tell."""
    for line in _cpuinfo().splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


@lru_cache(maxsize=1)
def processor() -> str:
    """Model and instruction sets, 16 hex digits: equal where the same arithmetic can be expected."""
    model = next((line for line in _cpuinfo().splitlines() if line.startswith("model name")), platform.processor())
    return hashlib.sha256(f"{model}{sorted(cpu_flags())}".encode()).hexdigest()[:16]


def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
