"""`python -m train losses`: rows of the paper's table with one budget, one after the other, none twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.train.fit_parts import SMALL
from tests.train.sets import tiny_set
from train.__main__ import app
from train.comparison.run import LINES, PAGE, compare, markdown, read_results, slug
from train.errors import ConfigError
from train.losses.table import ROWS
from train.prepared import open_prepared
from train.settings import load_fit_settings
from train.sharding.ranks import Ranks

torch.set_num_threads(1)
CHOSEN = [row for row in ROWS if row.title in ("ArcFace (0.5)", "Softmax", "Triplet (0.35)")]


def called(data: Path, output: Path, *more: str) -> Result:
    options = [option for pair in SMALL if not pair.startswith("evaluate") for option in ("--set", pair)]
    rows = ",".join(row.title for row in CHOSEN)
    return CliRunner().invoke(app, ["losses", str(data), "--output", str(output), "--rows", rows, *options, *more])


def test_every_row_is_trained_once_and_stands_beside_the_paper(tmp_path: Path) -> None:
    data, output = tiny_set(tmp_path / "set", size=32), tmp_path / "losses"
    done = called(data, output)
    assert done.exit_code == 0, done.output
    results = read_results(output)
    assert [result.title for result in results] == [row.title for row in CHOSEN]
    assert [result.steps for result in results] == [6, 6, 8]  # of a triplet's epochs, of four steps, the nearest
    assert all(0 <= result.low <= result.value <= result.high <= 1 for result in results)
    page = (output / PAGE).read_text(encoding="utf-8")
    assert page.count("\n") == 2 + len(CHOSEN)
    assert "| 99.53 | 95.56 | 95.15 |" in page
    again = called(data, output)
    assert again.exit_code == 0
    assert again.output.count("done before") == len(CHOSEN)
    assert read_results(output) == results


def test_without_time_the_rest_is_left_for_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, output = tiny_set(tmp_path / "set", size=32), tmp_path / "losses"
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr("train.comparison.run.time.monotonic", lambda: next(clock))
    done = called(data, output, "--minutes", "2")
    assert done.exit_code == 3
    assert "still to be trained" in done.output
    first = len(read_results(output))
    assert 0 < first < len(CHOSEN)
    monkeypatch.undo()
    assert called(data, output).exit_code == 0
    assert len(read_results(output)) == len(CHOSEN)


def test_a_row_that_diverges_is_a_result(tmp_path: Path) -> None:
    data, output = tiny_set(tmp_path / "set", size=32), tmp_path / "losses"
    done = called(data, output, "--set", "optimiser.lr=10", "--set", "optimiser.clip_norm=null", "--rows", "Softmax")
    assert done.exit_code == 0, done.output
    (result,) = read_results(output)
    assert result.failure or result.value >= 0
    assert len(list(markdown([result]))) == 3


def test_a_set_that_keeps_nobody_back_is_refused(tmp_path: Path) -> None:
    prepared = open_prepared(tiny_set(tmp_path / "set", size=32, val_people=0))
    with pytest.raises(ConfigError, match="keeps nobody back"):
        compare(lambda overrides: load_fit_settings(None, overrides), prepared, Ranks.alone(), tmp_path / "out")


def test_a_torn_last_line_is_forgotten_and_another_is_named(tmp_path: Path) -> None:
    data, output = tiny_set(tmp_path / "set", size=32), tmp_path / "losses"
    assert called(data, output, "--rows", "Softmax").exit_code == 0
    line = (output / LINES).read_text(encoding="utf-8")
    (output / LINES).write_text(line + line[:20], encoding="utf-8")
    assert len(read_results(output)) == 1
    (output / LINES).write_text(json.dumps({"title": "x"}) + "\n" + line, encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1 is no result"):
        read_results(output)


def test_folders_have_names_of_their_own() -> None:
    assert len({slug(row.title) for row in ROWS}) == len(ROWS)
    assert slug("ArcFace (0.5)") == "arcface-0.5"


def test_unknown_rows_are_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["losses", str(tmp_path), "--output", str(tmp_path / "o"), "--rows", "nothing"])
    assert done.exit_code == 2
