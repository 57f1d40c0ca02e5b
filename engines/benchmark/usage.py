"""What a process has used so far, and the machine and the versions that figures belong to.

Enters: nothing; the system is asked. Leaves: MiB, or None where the system does not say.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    *("dlib-bin", "opencv-python-headless", "av", "numpy"),
    *("onnxruntime", "openvino", "torch", "tensorrt"),
)
"""Whose versions move the figures."""

_STATUS: Final = Path("/proc/self/status")
_CPUINFO: Final = Path("/proc/cpuinfo")


def resident_mib() -> float | None:
    """Resident memory of this process now, MiB; None without /proc."""
    return _status_mib("VmRSS")


def peak_mib() -> float | None:
    """Greatest resident memory of this process so far, MiB.

    /proc first: ``getrusage`` of a started process counts what its parent held at the start.
    """
    peak = _status_mib("VmHWM")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor_name() -> str:
    """As its maker calls it."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, str | int]:
    """Processor, cores, system and versions, for the line above a table and for JSON."""
    values: dict[str, str | int] = {
        "processor": processor_name(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            values[package] = version(package)
        except PackageNotFoundError:
            continue
    return values


def machine_line(values: dict[str, str | int]) -> str:
    """``AMD EPYC, 2 cores, Linux x86_64, python 3.11.9, numpy 2.4.6, ...``"""
    versions = [f"{key} {value}" for key, value in values.items() if key not in ("processor", "cores", "system", "gpu")]
    gpu = [str(values["gpu"])] if "gpu" in values else []
    return ", ".join([str(values["processor"]), f"{values['cores']} cores", *gpu, str(values["system"]), *versions])


def _status_mib(key: str) -> float | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return None
