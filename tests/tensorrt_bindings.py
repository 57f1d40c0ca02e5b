"""TensorRT's real Python bindings on a machine that has no TensorRT.

Enters: a version. Leaves: a folder from which ``import tensorrt`` works in a process of its own, with libraries beneath
that do nothing: names and signatures can be looked at, nothing can be built or run. The folder is kept between runs.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

PACKAGES: Final = {
    "10.12.0.36": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu13-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
"""The oldest version that is supported, and the last ones of both majors."""

LIBRARIES: Final = ("nvinfer", "nvinfer_plugin", "nvonnxparser")

NOTHING: Final = "".join(
    f"void *{name}(void) {{ return 0; }}\n"
    for name in (
        *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
        *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
        *("getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins"),
    )
)
"""The entry points that the bindings link against, in C."""


class Unavailable(Exception):  # noqa: N818 - reads better where it is caught
    """The bindings cannot be had here; the message says why."""


def bindings(version: str) -> Path:
    """The folder of a version of ``PACKAGES``.

    Raises:
        Unavailable: no Linux on x86-64, no C compiler, or nothing can be downloaded.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable("TensorRT's bindings are looked at on Linux on x86-64 only")
    if shutil.which("gcc") is None:
        raise Unavailable("no gcc here to make the libraries that TensorRT's bindings load")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder = _kept() / f"{version}-{python}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / "made"
            _make(version, made)
            if not folder.is_dir():
                made.replace(folder)
    return folder


def run_with(version: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with these bindings before all else; the output is captured."""
    folder = bindings(version)
    root = Path(__file__).resolve().parents[1]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "PYTHONPATH": os.pathsep.join((str(folder), str(root))),
    }
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=root)


def _kept() -> Path:
    return Path(tempfile.gettempdir()) / f"tensorrt-bindings-{os.getuid()}"


def _make(version: str, folder: Path) -> None:
    (folder / "lib").mkdir(parents=True)
    (folder / "tensorrt").mkdir()
    _download(f"{PACKAGES[version]}=={version}", folder)
    source = folder / "lib" / "nothing.c"
    source.write_text(NOTHING)
    for library in LIBRARIES:
        file = f"lib{library}.so.{version.split('.')[0]}"
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", str(folder / "lib" / file), str(source)]
        subprocess.run(command, check=True, capture_output=True)
    (folder / "tensorrt" / "__init__.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )


def _download(requirement: str, folder: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    command = [sys.executable, "-m", "pip", "download", "-q", *options, "--platform", "manylinux_2_28_x86_64"]
    try:
        done = subprocess.run([*command, "-d", str(folder), requirement], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired as err:
        raise Unavailable(f"pip took too long to download {requirement}") from err
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise Unavailable(f"pip cannot download {requirement} ({(done.stderr.strip().splitlines() or ['?'])[-1]})")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder)
    wheels[0].unlink()
