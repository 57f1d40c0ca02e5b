"""The README is a test: its commands run, its options exist, its JSON is valid, its tree is true."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import jsonschema
import pytest

from engines.presets import preset_names, training_preset_names
from realtime.capture.demo import demo_photo
from tests.scripts import script
from tests.train.kface_tree import write_tree

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMES = ("README.md", "CONTRIBUTING.md", "docs/training.md", "docs/gpu.md")
DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
SCHEMAS = ROOT / "realtime" / "show" / "schemas"


@dataclass(frozen=True)
class Block:
    """Commands of one ``console`` block; ``run`` where the comment above it says so."""

    commands: tuple[str, ...]
    run: bool

    def __str__(self) -> str:
        return self.commands[0]


def blocks(text: str) -> list[Block]:
    found = re.findall(r"(<!-- run -->\n)?```console\n(.*?)```", text, flags=re.DOTALL)
    return [
        Block(tuple(line[2:] for line in body.splitlines() if line.startswith("$ ")), bool(run)) for run, body in found
    ]


COMMANDS = [command for text in DOCUMENTS.values() for block in blocks(text) for command in block.commands]
INLINE = [
    code
    for code in re.findall(r"`(realtime [^`]+|make [^`]+|python -m (?:engines|train) [^`]+)`", README)
    if "..." not in code
]


PROGRAMS = {"realtime": "realtime.app", "python -m engines": "engines.__main__", "python -m train": "train.__main__"}
"""How each is called, and where its commands are."""


def cli(program: str = "realtime") -> Any:
    from typer.main import get_command

    return get_command(importlib.import_module(PROGRAMS[program]).app)


def command_of(root: Any, words: list[str]) -> tuple[Any, list[str]]:
    """The click command that a program's WORDS reach, and the words left over."""
    found, rest = root, words
    while rest and rest[0] in getattr(found, "commands", {}):
        found, rest = found.commands[rest[0]], rest[1:]
    return found, rest


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("command", [*COMMANDS, *INLINE])
def test_a_command_that_is_written_down_exists_with_its_options(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert all(re.search(rf"^{word}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for word in words[1:2])
        return
    if words[0] == "pip":
        return
    if words[0] == "torchrun":  # its own options, then ours
        words = ["python", *words[words.index("-m") :]]
    program = " ".join(words[:3]) if words[0] == "python" else words[0]
    assert program in PROGRAMS, f"neither make nor one of {', '.join(PROGRAMS)}: {command}"
    root = cli(program)
    found, rest = command_of(root, words[len(program.split()) :])
    assert root is not found or program == "realtime", f"no such command: {command}"
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options_of(found)


def test_options_in_the_text_exist() -> None:
    commands = [command for program in PROGRAMS for command in all_commands(cli(program))]
    known = {option for command in commands for option in options_of(command)}
    written = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert written - known - {"--force-reinstall", "--nproc-per-node"} == set()


def test_settings_in_the_text_exist() -> None:
    from realtime.settings import Settings
    from train.settings import FitSettings

    fields = {**Settings.model_fields, **FitSettings.model_fields}
    for section, key in set(re.findall(r"\b([a-z]+)\.([a-z_]+)=", README)) - {("section", "key")}:
        owner: Any = fields[section].annotation
        assert key in owner.model_fields, f"{section}.{key}"


def all_commands(command: Any) -> list[Any]:
    inner = getattr(command, "commands", {}).values()
    return [command, *(one for child in inner for one in all_commands(child))]


def test_every_command_has_a_place_in_the_readme_and_a_help() -> None:
    for name, command in cli().commands.items():
        if not command.hidden:
            assert f"realtime {name}" in README, f"{name} is not in the README"
            assert command.help, f"{name} has no help"


@pytest.mark.parametrize("program", [program for program in PROGRAMS if program != "realtime"])
def test_every_command_of_a_module_has_a_place_in_the_readme_and_a_help(program: str) -> None:
    for name, command in cli(program).commands.items():
        assert f"{program} {name}" in README, f"{name} is not in the README"
        assert command.help, f"{name} has no help"


def test_the_keys_are_those_of_the_windows_help() -> None:
    from realtime.show.panels import KEYS

    rows = [f"| {', '.join(f'`{key}`' for key in keys.split(', '))} | {text} |" for keys, text in KEYS]
    assert [row for row in rows if row not in README] == []


def test_every_preset_has_a_place_in_the_readme() -> None:
    assert [
        name
        for name in (*preset_names(), *training_preset_names())
        if f"`{name}`" not in README and not name.endswith("default")
    ] == []


# the blocks that are run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README talks of: photos, whose face is the demo's, and a drawn K-FACE tree."""
    folder = tmp_path_factory.mktemp("readme")
    write_tree(folder / "K-FACE", people=14)
    portrait = cv2.imread(str(demo_photo()))[:320]
    (folder / "photos" / "Eileen").mkdir(parents=True)
    for name, picture in (
        ("eileen.jpg", portrait),
        ("again.jpg", cv2.convertScaleAbs(portrait, alpha=0.8, beta=10)),
        ("photos/Eileen/first.jpg", portrait),
        ("photos/Eileen/second.jpg", portrait[:, ::-1]),
    ):
        assert cv2.imwrite(str(folder / name), picture)
    return folder


@pytest.mark.parametrize("block", [block for block in blocks(README) if block.run], ids=str)
def test_a_block_that_says_run_runs(block: Block, folder: Path, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "REALTIME_DATA": str(tmp_path), "COLUMNS": "120"}
    for command in block.commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "--json" in command:
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            assert lines, f"{command} printed nothing"
            if command.startswith("realtime identify"):
                assert [face["name"] for line in lines for face in line["faces"]] == ["Eileen Collins"]
                for line in lines:
                    jsonschema.validate(line, schema("photo"))
    for command in block.commands:
        check_what_it_wrote(folder, shlex.split(command))


def check_what_it_wrote(folder: Path, words: list[str]) -> None:
    files = dict(itertools.pairwise(words))
    if (video := files.get("--output", "")).endswith(".mp4"):
        with av.open(str(folder / video)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 300
    if (events := files.get("--events")) is not None:
        lines = [json.loads(line) for line in (folder / events).read_text().splitlines()]
        for line in lines:
            jsonschema.validate(line, schema("event"))
        assert "Eileen Collins" in {line["name"] for line in lines}


# JSON, picture, tree


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "text"), re.findall(r"<!-- schema: (\w+) -->\n```json\n(.*?)```", README, re.DOTALL))
def test_a_line_that_is_shown_is_valid_and_shows_every_field(name: str, text: str) -> None:
    line = json.loads(text)
    jsonschema.validate(line, schema(name))
    assert set(line) == set(schema(name)["required"])


def test_every_field_of_a_frame_is_explained() -> None:
    fields = set(schema("frame")["properties"]) | set(schema("event")["properties"]) - {"event"}
    assert [field for field in fields - {"faces"} if f"`{field}`" not in README] == []


def test_the_python_example_runs(folder: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    code = example.replace("ana.jpg", "eileen.jpg")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 faces, 128 numbers each\n"


def test_files_that_are_linked_exist() -> None:
    for name, text in DOCUMENTS.items():
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
        assert [link for link in links if not (ROOT / name).parent.joinpath(link).is_file()] == [], name


def test_the_tree_is_true() -> None:
    assert script("write_tree").with_tree(README) == README, "run `make docs`"


def test_no_path_of_somebodys_machine_is_in_the_documents() -> None:
    for path in [*ROOT.glob("*.md"), ROOT / "Makefile", *ROOT.glob("configs/*.yaml"), *ROOT.glob("docs/*")]:
        if path.suffix in (".md", ".yaml", ".py", ".svg", ""):
            assert not re.search(r"/(home|root|Users|tmp|work)/\w", path.read_text(encoding="utf-8")), path.name
