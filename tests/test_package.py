"""The wheel and the source archive hold what an installation needs, and nothing that it must not."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import realtime
from engines.presets import preset_names, training_preset_names

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build(tmp_path_factory.mktemp("wheel"), "--wheel"))


def build(into: Path, kind: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", str(into), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = into.iterdir()
    return built


def files_of(package: str, *suffixes: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }


def test_every_module_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    assert files_of("realtime", ".py") | files_of("engines", ".py") | files_of("train", ".py") <= set(wheel.namelist())


def test_presets_schemas_and_fonts_travel_with_it(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"engines/configs/{name}.yaml" for name in (*preset_names(), *training_preset_names())} <= names
    data = files_of("realtime", ".json", ".ttf", ".otf", ".ttc", ".txt") | files_of("engines", ".json", ".npz")
    assert any(name.endswith(".json") for name in data), "the schemas of the JSON lines are part of the package"
    assert data <= names


def test_tests_and_big_files_stay_out(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {
        "realtime",
        "engines",
        "train",
        f"realtime_arcface-{realtime.__version__}.dist-info",
    }
    assert not [name for name in wheel.namelist() if name.endswith((".onnx", ".sqlite", ".mp4", ".dat", ".pyc"))]


def metadata(wheel: zipfile.ZipFile) -> tuple[str, list[str]]:
    (name,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    fields = Parser().parsestr(wheel.read(name).decode())
    return str(fields["Version"]), [str(value) for value in fields.get_all("Requires-Dist", [])]


def test_the_version_is_said_once(wheel: zipfile.ZipFile) -> None:
    assert metadata(wheel)[0] == realtime.__version__


def test_the_core_asks_for_neither_torch_nor_a_graphical_opencv(wheel: zipfile.ZipFile) -> None:
    core = {re.split(r"[<>=!~;\[ ]", line)[0].lower() for line in metadata(wheel)[1] if "extra ==" not in line}
    assert {"numpy", "opencv-python-headless", "dlib-bin", "onnxruntime"} <= core
    assert not core & {"torch", "opencv-python", "dlib", "scikit-image", "tensorrt"}


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "realtime = realtime.app:main" in wheel.read(name).decode()


def test_the_licence_is_in_it(wheel: zipfile.ZipFile) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_the_source_archive_builds_and_tests_itself(tmp_path: Path) -> None:
    with tarfile.open(build(tmp_path, "--sdist")) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"pyproject.toml", "Makefile", "constraints.txt", "README.md", "LICENSE", "tests/test_package.py"}
    assert wanted | {f"configs/{name}.yaml" for name in (*preset_names(), *training_preset_names())} <= names
    assert not [name for name in names if name.startswith((".venv", "out/"))]


def test_constraints_pin_every_dependency_exactly(wheel: zipfile.ZipFile) -> None:
    lines = [line.split(";")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pinned = {line.split("==")[0] for line in lines if line and not line.startswith("#")}
    assert [line for line in lines if line and not line.startswith("#") and "==" not in line] == []
    wanted = {re.split(r"[<>=!~;\[ ]", line)[0] for line in metadata(wheel)[1]}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in wanted} - pinned == set()
