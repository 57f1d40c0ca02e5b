"""The architecture as a test: who may import whom, and what must not be loaded to start."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = ("engines", "realtime", "train")
"""Each may import only itself and those to its left."""

FLOORS: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "sections": {"errors"},
    "settings": {"errors", "sections"},
    "capture": {"records", "settings", "errors"},
    "faces": {"records", "settings", "errors"},
    "show": {"records", "settings", "errors"},
    "people": {"records", "settings", "errors", "faces", "capture"},
    "device": {"records", "settings", "errors", "faces", "people"},
    "flow": {"records", "settings", "errors", "capture", "faces", "show", "people"},
}
"""Rooms of realtime/ and what each may use of it; those of TOP stand on all of them."""

TOP = ("benchmark", "bench", "calibration", "doctor", "app")
"""From lower to higher: each may use every room of FLOORS, and those before it in this row."""

TRAIN = (
    *("errors", "settings", "networks", "prepared", "source", "losses", "kface", "recordio", "preparing", "sharding"),
    *("checkpoints", "runs", "starting", "evaluation", "fit", "export"),
    *("cleaning", "inversion", "toy", "benchmark", "comparison", "commands"),
)
"""Rooms of train/ from lower to higher: each may use those before it in this row."""

HEAVY = (
    *("torch", "cv2", "dlib", "onnx", "onnxruntime", "openvino", "tensorrt", "pygame", "av", "scipy", "skimage"),
    *("PIL", "matplotlib", "safetensors"),
)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted name and line of every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def room(dotted: str, package: str = "realtime") -> str | None:
    """``capture`` of ``realtime.capture.file``; None of ``realtime`` itself and of other packages."""
    parts = dotted.split(".")
    if parts[0] != package or len(parts) == 1:
        return None
    place = ROOT / package / parts[1]
    return parts[1] if place.is_dir() or place.with_suffix(".py").is_file() else None


def room_of(path: Path, package: str = "realtime") -> str:
    return path.relative_to(ROOT / package).parts[0].removesuffix(".py")


def allowed(room: str) -> set[str]:
    if room in FLOORS:
        return FLOORS[room] | {room}
    return set(FLOORS) | set(TOP[: TOP.index(room) + 1])


@pytest.mark.parametrize("package", [name for name in PACKAGES if (ROOT / name).is_dir()])
def test_a_package_imports_only_itself_and_what_stands_below(package: str) -> None:
    above = PACKAGES[PACKAGES.index(package) + 1 :]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for name, line in imports(path)
        if name.split(".")[0] in (*above, "tests")
    ]
    assert wrong == []


def test_every_room_is_in_the_drawing() -> None:
    rooms = {room_of(path) for path in modules("realtime")} - {"__init__", "__main__"}
    assert rooms <= {*FLOORS, *TOP}, "draw it in ARCHITECTURE.md, then here"


def test_a_room_uses_only_the_rooms_below_it() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules("realtime")
        if room_of(path) not in ("__init__", "__main__")
        for name, line in imports(path)
        if (used := room(name)) is not None and used not in allowed(room_of(path))
    ]
    assert wrong == []


def test_a_room_of_train_uses_only_the_rooms_below_it() -> None:
    inner = [path for path in modules("train") if room_of(path, "train") not in ("__init__", "__main__")]
    assert {room_of(path, "train") for path in inner} <= set(TRAIN), "draw it in ARCHITECTURE.md, then here"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in inner
        for name, line in imports(path)
        if (used := room(name, "train")) is not None and TRAIN.index(used) > TRAIN.index(room_of(path, "train"))
    ]
    assert wrong == []


def test_the_drawing_has_no_circle() -> None:
    for upper, below in FLOORS.items():
        for lower in below:
            assert upper not in FLOORS[lower], f"{upper} and {lower} use each other"


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in PACKAGES
        for path in modules(package)
        if room_of_any(path) not in ("app", "commands") and path.name != "__main__.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


def room_of_any(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[1]


def test_threads_are_started_only_in_flow_and_by_those_named_here() -> None:
    starters = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute | ast.Name)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
        in ("Thread", "Timer", "ThreadPoolExecutor", "Process", "ProcessPoolExecutor")
    }
    assert {starter for starter in starters if not starter.startswith("realtime/flow/")} == THREADS_ELSEWHERE
    drawing = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert [name for name in THREADS_ELSEWHERE if name.removeprefix("realtime/") not in drawing] == []


THREADS_ELSEWHERE = {
    *("realtime/capture/connection.py", "realtime/doctor/sources.py"),
    *("train/fit/crops.py", "train/preparing/workers.py"),
}
"""Modules outside flow/ that start a thread or a process; each has its reason in ARCHITECTURE.md."""


@pytest.mark.parametrize(
    "module",
    [
        *("realtime", "realtime.settings", "realtime.records", "engines", "engines.engine", "engines.__main__"),
        *("train", "train.settings", "train.prepared", "train.__main__"),
    ],
)
def test_importing_the_library_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(f"import {module}") == []


def test_help_loads_neither_networks_nor_windows() -> None:
    code = (
        "import sys, realtime.app\n"
        "sys.argv = ['realtime', '--help']\n"
        "sys.stdout = open(__import__('os').devnull, 'w')\n"
        "try: realtime.app.main()\n"
        "except SystemExit: pass\n"
        "sys.stdout = sys.__stdout__"
    )
    assert [name for name in loaded_by(code) if name in ("torch", "onnxruntime", "openvino", "pygame", "onnx")] == []


def loaded_by(code: str) -> list[str]:
    """Which of the heavy packages a fresh interpreter has loaded after ``code``."""
    report = f"\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True, cwd=ROOT)
    found: list[str] = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    return found
