"""``realtime bench --streams`` from the command line: the dry run runs everything, and wrong usage is said at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from realtime.app import bench
from realtime.errors import EngineError, RealtimeError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said where there is no GPU")


def run(*words: str) -> Result:
    app = typer.Typer()
    bench.register(app)
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--streams", "none"], "not a list of numbers"),
        (["--streams", "0,1"], "from 1 to 1024"),
        (["--streams", "1", "--size", "720p"], "expected WIDTHxHEIGHT"),
        (["--streams", "1", "--photo", "Ana=ana.jpg"], "add --clip"),
    ],
)
def test_wrong_usage_is_code_2(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


@without_gpu
def test_without_a_gpu_one_sentence_says_what_to_do() -> None:
    done = run("--streams", "1,2")
    assert isinstance(done.exception, EngineError)
    assert "--dry-run" in str(done.exception)


def test_a_clip_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = run("--streams", "1", "--dry-run", "--clip", str(tmp_path / "none.mp4"))
    assert isinstance(done.exception, RealtimeError)
    assert "no such file" in str(done.exception)


def test_a_dry_run_runs_everything_without_the_script(tmp_path: Path) -> None:
    file = tmp_path / "streams.json"
    words = ["bench", "--streams", "1,2,64", "--dry-run", "--json", str(file)]
    done = subprocess.run([sys.executable, "-m", "realtime", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["part"] == "streams"
    assert found["dry_run"]
    tables = {table["name"]: table for table in found["tables"]}
    assert [row[0] for row in tables["parity"]["rows"]] == ["fp32", "fp16"]
    assert all(row[-1] == row[1] for row in tables["parity"]["rows"])
    assert len(tables["held"]["rows"]) == 2
    assert [row[1] for row in tables["floors"]["rows"]] == ["detection", "upload"]
    played = [table for name, table in tables.items() if name.startswith("streams_")]
    assert [[row[0] for row in table["rows"]] for table in played] == [[1, 2]] * 2
    assert {check["name"] for check in found["checks"]} >= {"boxes, fp32", "names, fp32", "boxes, fp16", "names, fp16"}
    assert "Streams held" in done.stdout
