"""The people commands, run as a person runs them: output, errors and exit codes, with the real analyser."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from realtime.app import main
from realtime.app.people_output import say, table
from realtime.capture.photo import load_photo
from realtime.people.gallery import Gallery, Reference
from tests.realtime.people.helpers import OTHER_MODEL, analyser, astronaut, crop, unit

PORTRAIT = np.ascontiguousarray(load_photo(astronaut())[0:260, 90:350])


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``realtime ARGS`` in this process, with a data folder of its own."""
    monkeypatch.setenv("REALTIME_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("realtime.faces.analysis.open_analyser", lambda settings: analyser())

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["realtime", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def people(tmp_path: Path) -> Path:
    folder = tmp_path / "people"
    (folder / "Eileen Collins").mkdir(parents=True)
    Image.fromarray(PORTRAIT).save(folder / "Eileen Collins" / "1.png")
    Image.fromarray(PORTRAIT[:, ::-1]).save(folder / "Eileen Collins" / "2.png")
    (folder / "Bob.jpg").write_bytes(b"no photo at all")
    return folder


def gallery_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gallery.sqlite"


def test_enrol_list_show_identify(run: Run, people: Path, tmp_path: Path) -> None:
    ran = run("enroll", people)
    assert ran.code == 0
    assert f"{people}/Eileen Collins/1.png: enrolled as Eileen Collins" in ran.out
    assert f"2 accepted, 1 refused; 1 person in {gallery_file(tmp_path)}" in ran.out
    assert f"{people}/Bob.jpg: is text, not an image" in ran.err

    assert run("gallery", "list").out.splitlines()[1].split()[:3] == ["Eileen", "Collins", "2"]
    (listed,) = run("gallery", "list", "--json").lines
    assert (listed["name"], listed["photos"]) == ("Eileen Collins", 2)

    shown = run("gallery", "show", "eileen collins", "--json").lines[0]
    assert [photo["source"] for photo in shown["photos"]] == ["1.png", "2.png"]
    assert shown["photos"][0]["crop"] is True
    assert "1.png" in run("gallery", "show", "Eileen Collins").out

    named = run("identify", people / "Eileen Collins" / "1.png", "--json")
    (face,) = named.lines[0]["faces"]
    assert named.code == 0
    assert set(face) == {"box", "state", "name", "distance", "second_distance", "detector_score"}
    assert (face["state"], face["name"], face["second_distance"]) == ("named", "Eileen Collins", None)
    assert face["distance"] < 0.01
    assert len(face["box"]) == 4
    assert ": Eileen Collins (0.00" in run("identify", people / "Eileen Collins").out


def test_enrol_json_is_a_line_a_photo(run: Run, people: Path) -> None:
    ran = run("enroll", people, "--json")
    assert [(line["name"], line["accepted"], line["reason"]) for line in ran.lines] == [
        ("Bob", False, "unreadable"), ("Eileen Collins", True, None), ("Eileen Collins", True, None),
    ]  # fmt: skip
    again = run("enroll", people / "Eileen Collins", "--name", "eileen collins", "--json")
    assert again.code == 0
    assert {line["reason"] for line in again.lines} == {"already there"}


def test_nobody_enrolled_is_a_failure(run: Run, people: Path, tmp_path: Path) -> None:
    ran = run("enroll", people / "Bob.jpg")
    assert ran.code == 1
    assert "1 refused" in ran.out
    assert run("enroll", tmp_path / "missing").code == 1


def test_somebody_else_needs_force(run: Run, people: Path) -> None:
    run("enroll", people / "Eileen Collins" / "1.png", "--name", "Eileen")
    refused = run("enroll", people / "Eileen Collins" / "2.png", "--name", "Sally")
    assert refused.code == 1
    assert "looks like 'Eileen', who is enrolled" in refused.err
    assert run("enroll", people / "Eileen Collins" / "2.png", "--name", "Sally", "--force").code == 0
    found = run("gallery", "check", "--json")
    assert found.code == 1
    assert "collision" in {line["kind"] for line in found.lines}
    assert "'Eileen' and 'Sally' are 0.0" in run("gallery", "check").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["enroll"],
        ["enroll", "--source", "0"],
        ["enroll", "a.jpg", "--source", "0", "--name", "A"],
        ["enroll", "--wrong"],
        ["gallery", "shows"],
        ["identify"],
    ],
)
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).code == 2


def test_wrong_settings_are_usage(run: Run, people: Path) -> None:
    ran = run("enroll", people, "--set", "gallery.min_fac_px=3")
    assert ran.code == 2
    assert "did you mean 'min_face_px'" in ran.err


def test_settings_reach_the_gate(run: Run, people: Path) -> None:
    ran = run("enroll", people / "Eileen Collins", "--name", "E", "--set", "gallery.min_face_px=200", "--json")
    assert {line["reason"] for line in ran.lines} == {"too small"}
    assert ran.code == 1


def test_bad_names_are_one_sentence(run: Run, people: Path) -> None:
    ran = run("enroll", people, "--name", "x" * 10_000)
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "has 10000 characters; 200 are allowed" in ran.err
    for name in ("a/b", "'\"", "👩‍🚀", "김민준"):
        assert run("enroll", people / "Eileen Collins" / "1.png", "--name", name, "--force").code == 0
        assert run("gallery", "remove", name, "--yes").code == 0


def test_without_a_gallery(run: Run, people: Path) -> None:
    for arguments in (["list"], ["show", "A"], ["rename", "A", "B"], ["remove", "A", "--yes"], ["check"], ["reembed"]):
        ran = run("gallery", *arguments)
        assert ran.code == 1
        assert "no such gallery; enrol somebody first, with `realtime enroll PHOTO`" in ran.err
    assert run("identify", people / "Eileen Collins").code == 1


def test_identify_goes_on_after_a_bad_photo(run: Run, people: Path) -> None:
    run("enroll", people)
    ran = run("identify", people, "--json")
    assert ran.code == 1
    assert [len(line["faces"]) for line in ran.lines] == [0, 1, 1]
    assert "is text, not an image" in ran.lines[0]["error"]


def test_rename_and_remove(run: Run, people: Path) -> None:
    run("enroll", people)
    assert "did you mean 'Eileen Collins'" in run("gallery", "rename", "Aileen Collins", "X").err
    assert run("gallery", "rename", "eileen collins", "E. Collins", "--json").lines[0]["name"] == "E. Collins"
    asked = run("gallery", "remove", "E. Collins")
    assert asked.code == 2
    assert "add --yes" in asked.err
    assert run("gallery", "remove", "E. Collins", "--yes", "--json").lines == [{"name": "E. Collins", "photos": 2}]
    assert "nobody is enrolled" in run("gallery", "list").err
    assert run("gallery", "remove", "E. Collins", "--yes").code == 1


def test_remove_asks(run: Run, people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("enroll", people)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code, left in ((False, 1, 1), (True, 0, 0)):
        monkeypatch.setattr("typer.confirm", _confirm(answer))
        assert run("gallery", "remove", "Eileen Collins").code == code
        assert len(run("gallery", "list", "--json").lines) == left


def _confirm(answer: bool) -> Callable[..., bool]:
    def confirm(text: str, *, abort: bool, err: bool) -> bool:
        assert text == "Forget Eileen Collins and their 2 photos?"
        assert err
        if abort and not answer:
            raise typer.Abort
        return answer

    return confirm


def test_export_and_import(run: Run, people: Path, tmp_path: Path) -> None:
    run("enroll", people)
    archive, other = tmp_path / "people.zip", tmp_path / "other.sqlite"
    assert run("gallery", "export", archive, "--json").lines == [{"file": str(archive), "photos": 2}]
    assert run("gallery", "import", archive, "--gallery", other, "--json").lines == [
        {"people": 1, "photos": 2, "new": 2}
    ]
    assert "0 of them new" in run("gallery", "import", archive, "--gallery", other).out
    assert run("identify", people / "Eileen Collins", "--gallery", other).out.count("Eileen Collins (") == 2
    (tmp_path / "bad.zip").write_text("x")
    assert run("gallery", "import", tmp_path / "bad.zip").code == 1


def test_check_of_a_sound_gallery(run: Run, people: Path) -> None:
    run("enroll", people / "Eileen Collins" / "1.png", "--name", "Eileen")
    ran = run("gallery", "check")
    assert ran.code == 0
    assert ran.out.startswith("advice: 'Eileen' has 1 photo; with three or more")
    run("enroll", people / "Eileen Collins" / "2.png", "--name", "Eileen")
    assert "nothing is wrong" in run("gallery", "check").out


def test_a_gallery_of_another_model_says_how_to_move_it(run: Run, people: Path, tmp_path: Path) -> None:
    path = gallery_file(tmp_path)
    with Gallery.open(path, OTHER_MODEL) as gallery:
        made = Reference(embedding_D=unit(1, 4), photo_sha256="0" * 64, source="a.jpg", quality=1.0, crop=crop())
        gallery.add("Ana", [made])
    for arguments in (["enroll", people], ["identify", people]):
        ran = run(*arguments)
        assert ran.code == 1
        assert f"`realtime gallery reembed --gallery {path}`" in ran.err
    ran = run("gallery", "reembed", "--json")
    assert ran.code == 0
    assert ran.lines == [{"gallery": str(path), "model": analyser().manifest.name, "photos": 1}]
    assert run("gallery", "list", "--json").lines[0]["name"] == "Ana"
    assert run("enroll", people).code == 0


def test_compare(run: Run, people: Path, tmp_path: Path) -> None:
    one, other = people / "Eileen Collins" / "1.png", people / "Eileen Collins" / "2.png"
    ran = run("compare", one, other, "--json")
    assert ran.code == 0
    (verdict,) = ran.lines
    manifest = analyser().manifest
    assert verdict["same"] is True
    assert (verdict["threshold"], verdict["false_match_rate"]) == (manifest.threshold, manifest.threshold_fmr)
    assert run("compare", one, other).out.startswith("the same person: distance 0.0")
    strict = run("compare", one, other, "--set", "identity.threshold=0.0001")
    assert strict.code == 0
    assert strict.out.startswith("not the same person")
    Image.new("RGB", (50, 50)).save(tmp_path / "wall.png")
    assert "no face was found" in run("compare", one, tmp_path / "wall.png").err
    assert run("compare", one, tmp_path / "wall.png").code == 1
    assert run("compare", one, people / "Bob.jpg").code == 1


def test_enrol_from_a_clip(run: Run, tmp_path: Path) -> None:
    """Pictures as a source: the same way that a camera goes."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, width in enumerate((260, 200, 330)):
        Image.fromarray(PORTRAIT).resize((width, 260)).save(folder / f"{number}.png")
    ran = run("enroll", "--source", folder, "--name", "Eileen", "--json")
    assert ran.code == 0, ran
    assert ran.lines[0]["accepted"] is True
    assert ran.lines[0]["views"] >= 1
    assert run("gallery", "list", "--json").lines[0]["name"] == "Eileen"
    other = run("enroll", "--source", folder, "--name", "Sally")
    assert other.code == 1
    assert "looks like 'Eileen'" in other.err
    assert run("enroll", "--source", tmp_path / "missing.mp4", "--name", "Sally").code == 1


def test_lines_hold_whatever_a_file_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[31m\n\udcff.jpg 김 👩‍🚀")
    assert capsys.readouterr().out == "a\\x1b[31m\\n\\udcff.jpg 김 👩‍🚀\n"


def test_columns_of_wide_letters(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name", "photos"), [("김민준", "2"), ("Zoe\u0308", "10")])
    assert capsys.readouterr().out.splitlines() == ["name    photos", "김민준  2", "Zoe\u0308     10"]
