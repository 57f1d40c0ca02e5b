"""``python -m train prepare``: what a person types, and reads."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.train.kface_tree import ids, write_tree
from train.commands import prepare as command
from train.errors import ConfigError, DataError, TrainError
from train.prepared import open_prepared
from train.preparing.place import NOTES

ROOT = Path(__file__).resolve().parents[2]
app = typer.Typer()
command.register(app)


@app.callback()
def callback() -> None:
    """So that ``prepare`` is a command of several, as in ``python -m train``."""


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["prepare", *map(str, args)])


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Four people with three aligned crops each."""
    random = np.random.default_rng(0)
    for person in ("ana", "김철수", "c", "d"):
        (tmp_path / "crops" / person).mkdir(parents=True)
        for image in range(3):
            pixels = random.integers(0, 256, (112, 112, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "crops" / person / f"{image}.png")
    return tmp_path / "crops"


class TestFolder:
    def test_a_folder_of_crops(self, crops: Path, tmp_path: Path) -> None:
        result = run("folder", crops, tmp_path / "set", "--aligned", "--val", 2, "--workers", 0)
        assert result.exit_code == 0, result.output
        assert "crops: 6 crops of 2 people to train on, 6 of 2 people kept back (val); 112x112" in result.stdout
        assert "sheet.png" in result.stdout
        assert len(open_prepared(tmp_path / "set").train) == 6

    def test_json_can_be_read_by_a_program(self, crops: Path, tmp_path: Path) -> None:
        (crops / "c/2.png").write_bytes(b"")
        args = ("folder", crops, tmp_path / "set", "--aligned", "--min-images", 3, "--workers", 0, "--json")
        found = json.loads(run(*args).stdout)
        assert (found["train_rows"], found["train_people"], found["refused"]) == (9, 3, 1)
        assert (found["people_left_out"], found["images_left_out"]) == ({"c": 2}, 2)
        assert json.loads(run(*args).stdout)["found_done"]

    def test_what_it_asks_and_refuses(self, crops: Path, tmp_path: Path) -> None:
        out = tmp_path / "set"
        assert isinstance(run("folder", crops, out, "--workers", 0).exception, ConfigError)
        assert run("folder", crops, crops / "set", "--aligned").exit_code == 2
        assert run("folder", crops, out, "--align", "detect").exit_code == 2
        assert isinstance(run("folder", crops, out, "--aligned", "--val", 3).exception, ConfigError)
        assert not out.exists()
        assert run("folder", crops, out, "--aligned", "--workers", 0).exit_code == 0
        assert isinstance(run("folder", crops, out, "--aligned", "--val", 1).exception, ConfigError)
        assert run("folder", crops, out, "--aligned", "--val", 1, "--force", "--workers", 0).exit_code == 0

    def test_the_command_that_it_names_can_be_typed(self, crops: Path, tmp_path: Path) -> None:
        out = tmp_path / "my set"
        last = run("folder", crops, out, "--aligned", "--workers", 0).stdout.splitlines()[-1]
        assert shlex.split(last)[-2:] == ["--data", str(out)]

    def test_huge_numbers(self, crops: Path, tmp_path: Path) -> None:
        for option in ("--val", "--workers", "--min-images"):
            result = run("folder", crops, tmp_path / "set", "--aligned", option, 10**30)
            assert result.exit_code == 2 or isinstance(result.exception, DataError), result.output
            assert "--split" not in result.output

    @pytest.mark.parametrize("verb", ["kface", "folder", "rec"])
    def test_paths_that_cannot_be_looked_up(self, verb: str, crops: Path, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        for path in (tmp_path / ("x" * 300), tmp_path / "loop" / "x"):
            for given in ((path, tmp_path / "set"), (crops, path)):
                result = run(verb, *given)
                assert result.exit_code == 2 or isinstance(result.exception, TrainError), result.exception

    def test_names_that_no_list_can_hold(self, crops: Path, tmp_path: Path) -> None:
        (crops / "ana").rename(crops / "a\nna")
        (crops / "c/0.png").rename(crops / "c/0\t.png")
        result = run("folder", crops, tmp_path / "set", "--aligned", "--rec", "--workers", 0)
        assert result.exit_code == 0, result.exception
        lines = (tmp_path / "set/train.lst").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 12
        assert all(len(line.split("\t")) == 3 for line in lines)


class TestRec:
    """``--force`` takes away what lies in OUT: never the file that is to be prepared."""

    @pytest.fixture
    def rec(self, crops: Path, tmp_path: Path) -> Path:
        assert run("folder", crops, tmp_path / "made", "--aligned", "--rec", "--workers", 0).exit_code == 0
        (tmp_path / "data").mkdir()
        for name in ("train.rec", "train.idx", "property"):
            (tmp_path / "made" / name).rename(tmp_path / "data" / name)
        return tmp_path / "data" / "train.rec"

    def test_out_is_not_where_the_file_lies(self, rec: Path, tmp_path: Path) -> None:
        (tmp_path / "link.rec").symlink_to(rec)
        (tmp_path / "link.idx").symlink_to(rec.with_suffix(".idx"))
        for given in (rec, tmp_path / "link.rec"):
            for more in ((), ("--force",)):
                result = run("rec", given, rec.parent, "--workers", 0, *more)
                assert result.exit_code == 2
                assert "name another folder" in result.output
        assert sorted(path.name for path in rec.parent.iterdir()) == ["property", "train.idx", "train.rec"]
        assert run("rec", rec, tmp_path / "new", "--workers", 0).exit_code == 0

    def test_other_data_is_not_taken_for_a_set(self, rec: Path, crops: Path) -> None:
        result = run("folder", crops, rec.parent, "--aligned", "--force", "--workers", 0)
        assert isinstance(result.exception, ConfigError)
        assert rec.exists()

    def test_a_template_that_nobody_knows(self, rec: Path, tmp_path: Path) -> None:
        for wrong in (("--template", "arcface112"), ("--size", 150), ("--template", "dlib_chip_150", "--size", 112)):
            assert isinstance(run("rec", rec, tmp_path / "new", "--workers", 0, *wrong).exception, ConfigError)
        assert run("rec", rec, tmp_path / "new", "--template", "kface_box", "--workers", 0).exit_code == 0


class TestKFace:
    def test_zips_to_a_set_and_recs_with_each_damage_named(self, tmp_path: Path) -> None:
        people = ids(6)
        damage = {
            people[0]: "truncated",
            f"{people[1]}/S001/L1/E01/C7.jpg": "missing",
            f"{people[2]}/S001/L3/E02/C9.jpg": "broken_jpg",
            f"{people[3]}/S001/L3/E02/C8.jpg": "short_txt",
        }
        write_tree(tmp_path / "kface", people=6, damage=damage)
        args = ("kface", tmp_path / "kface", tmp_path / "set", "--split", 2, "--rec", "--workers", 0)
        result = run(*args)
        assert result.exit_code == 0, result.output
        assert "promised by the selection: 144 = 117 crops + 27 refused" in result.stdout
        refused = (tmp_path / "set" / "refused.jsonl").read_text(encoding="ascii")
        assert all(name in refused for name in list(damage)[1:])
        assert refused.count(f"{people[0]}/S001/") == 24
        found = open_prepared(tmp_path / "set")
        assert found.val is not None
        assert (len(found.train.subjects), len(found.val.subjects)) == (3, 2)
        assert found.manifest.facts["kind"] == "kface"
        for split in ("train", "val"):
            assert all((tmp_path / "set" / f"{split}.{end}").stat().st_size for end in ("rec", "idx", "lst"))

        again = run("rec", tmp_path / "set" / "train.rec", tmp_path / "again", "--workers", 0)
        assert again.exit_code == 0, again.output
        assert (open_prepared(tmp_path / "again").train.labels_N == found.train.labels_N).all()

    def test_what_is_to_be_known_of_crops_and_who_is_lost(self, tmp_path: Path) -> None:
        """Damage decides nobody's split: a repaired download keeps the same people back."""
        people = ids(6)
        damage = {people[4]: "truncated", f"{people[1]}/S001/L1/E01/C7.jpg": "high_coordinates"}
        write_tree(tmp_path / "kface", people=6, damage=damage)
        args = ("kface", tmp_path / "kface", tmp_path / "set", "--split", 2, "--seed", 3, "--workers", 0)
        result = run(*args)
        assert f"coordinates of another resolution, rescaled: {people[1]}/S001/L1/E01/C7.jpg" in result.stdout
        assert f"1 person left out, too few usable images: {people[4]} (0)" in result.stdout
        found = json.loads(run(*args, "--json").stdout)
        assert [tuple(note[:2]) for note in found["notes"]] == [("coordinates of another resolution, rescaled", 1)]
        lines = (tmp_path / "set/images.jsonl").read_text(encoding="ascii").splitlines()
        noted = [line for line in map(json.loads, lines) if "note" in line]
        assert [line["name"] for line in noted] == [f"{people[1]}/S001/L1/E01/C7.jpg"]
        assert noted[0]["note"].endswith("(from 864x576, the high one)")
        damaged = open_prepared(tmp_path / "set").manifest
        write_tree(tmp_path / "kface", people=6)
        assert run(*args, "--force").exit_code == 0
        whole = open_prepared(tmp_path / "set").manifest
        assert set(damaged.train_subjects) == set(whole.train_subjects) - {people[4]}
        assert set(damaged.val_subjects) == set(whole.val_subjects) - {people[4]}

    def test_a_zip_of_zips_gives_the_same_set(self, tmp_path: Path) -> None:
        rows = []
        for form in ("zips", "zip_of_zips", "extracted"):
            write_tree(tmp_path / form, people=3, select=((1,), (1,), (1,), (7, 8)), form=form)
            args = ("--select", "S1/L1/E1/C7,8", "--split", "none", "--workers", 0)
            assert run("kface", tmp_path / form, tmp_path / f"{form}.set", *args).exit_code == 0
            rows.append((tmp_path / f"{form}.set" / "crops.npy").read_bytes())
        assert rows[0] == rows[1] == rows[2]

    def test_mistakes_are_told_in_a_sentence(self, tmp_path: Path) -> None:
        for wrong in (("--split", "half"), ("--crop", "eyes"), ("--resolution", "8k"), ("--rec-layout", "zip")):
            result = run("kface", tmp_path, tmp_path / "set", *wrong)
            assert result.exit_code == 2 or isinstance(result.exception, DataError), result.output
        assert isinstance(run("kface", tmp_path, tmp_path / "set", "--select", "X1").exception, ConfigError)
        assert isinstance(run("kface", tmp_path, tmp_path / "set").exception, DataError)


def test_a_rec_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(b"not a record file")
    assert isinstance(run("rec", tmp_path / "a.rec", tmp_path / "set").exception, DataError)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "set"
    program = f"""
import typer
from pathlib import Path
from tests.train.drawn_source import DrawnSource
from train.commands.prepare import _prepare
from train.preparing.plan import Wishes
app = typer.Typer()
@app.command()
def go() -> None:
    source = DrawnSource(people=20, images=100, slow_s=0.02)
    _prepare(source, Path({str(out)!r}), Wishes(), 0, False, False, "recbuilder", False)
app()
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", program], env=env, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not ((out / NOTES).exists() and (out / NOTES).stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == [f"train: stopped; the same command goes on in {out} where it was"]


@pytest.mark.parametrize("verb", ["kface", "folder", "rec"])
def test_help_is_there(verb: str) -> None:
    assert "Prepare" in run(verb, "--help").stdout


def test_the_command_loads_nothing_heavy() -> None:
    program = (
        "import sys, train.commands.prepare; print([m for m in ('cv2','numpy','PIL','torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
