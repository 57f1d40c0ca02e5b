"""What the process has used so far, and what it runs on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

PACKAGES: Final = ("dlib-bin", "opencv-python-headless", "av", "onnxruntime", "openvino", "numpy")
"""Whose versions move the numbers."""

_STATUS: Final = Path("/proc/self/status")


def resident_mb() -> float | None:
    """Resident memory of this process now, MiB; None where the system does not say (no /proc)."""
    return _status_mb("VmRSS")


def peak_resident_mb() -> float | None:
    """Greatest resident memory of this process so far, MiB.

    /proc first: ``getrusage`` of a started process counts what its parent held at the start.
    """
    peak = _status_mb("VmHWM")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _status_mb(key: str) -> float | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return None


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor() -> str:
    """The CPU's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, str | int]:
    """For the line above a table and for JSON: CPU, cores, system, versions."""
    values: dict[str, str | int] = {
        "processor": processor(),
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


def machine_line() -> str:
    """``AMD EPYC, 2 cores, Linux x86_64, python 3.11.9, dlib-bin 20.0.1, ...``"""
    values = machine()
    versions = [f"{key} {values[key]}" for key in ("python", *PACKAGES) if key in values]
    return ", ".join([str(values["processor"]), f"{values['cores']} cores", str(values["system"]), *versions])
