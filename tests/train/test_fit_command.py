"""``python -m train fit`` as people type it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from tests.train.fit_parts import SMALL, kept
from tests.train.sets import tiny_set
from train.commands import fit as command
from train.errors import TrainError
from train.fit.log import read_log
from train.runs import BACKBONE, SETTINGS

ROOT = Path(__file__).resolve().parents[2]
SETS = [part for option in SMALL for part in ("--set", option)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_set(tmp_path_factory.mktemp("fit") / "set", train_people=4, images=6, size=32)


def typed(*words: str) -> Result:
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)  # with one command typer takes no name
    return CliRunner().invoke(app, ["fit", *words])


def said(result: Result) -> str:
    """The sentence of a failure."""
    assert isinstance(result.exception, TrainError | Exception)
    return str(result.exception)


def test_a_plan_touches_nothing(data: Path, tmp_path: Path) -> None:
    result = typed("--data", str(data), "--output", str(tmp_path / "run"), *SETS, "--print-plan", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["steps"] == 9
    assert facts["trial"]["run_s"] > 0
    assert not (tmp_path / "run").exists()
    table = typed("--data", str(data), *SETS, "--print-plan").stdout
    assert "9: 3 epochs of 3 with 8 crops, 8 at a time; 0 crops left out of each epoch" in table
    assert "img/s" in table


def test_a_run_and_its_summary(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"schedule": {"epochs": 2}, "data": {"path": str(data)}}))
    short = [option for option in SMALL if not option.startswith(("schedule.epochs", "evaluate.sets"))]
    words = [part for option in short for part in ("--set", option)]
    result = typed(str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "run"), *words)
    assert result.exit_code == 0, result.output
    assert "arcface, 24 images of 4 people, 6 steps of 8 crops, fp32 on cpu" in result.stdout
    assert "val: accuracy" in result.stdout
    assert "weights in backbone.pth" in result.stdout
    assert (tmp_path / "run" / BACKBONE).is_file()
    again = typed(str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "run"), *words)
    assert "holds a run already" in said(again)


def test_json_is_one_object(data: Path, tmp_path: Path) -> None:
    result = typed(
        "--data", str(data), "--output", str(tmp_path / "run"), *SETS, "--json", "--set", "evaluate.sets=[val]"
    )
    found = json.loads(result.stdout)
    assert found["kind"] == "end"
    assert found["plan"]["steps"] == 9
    assert found["best"]["value"] > 0.5


def test_a_run_needs_a_set() -> None:
    assert "no prepared set is named" in said(typed())


def test_a_typo_is_met_with_the_nearest_option(data: Path) -> None:
    result = typed("--data", str(data), "--set", "optimiser.rl=1")
    assert "unknown key 'rl'; did you mean 'lr'?" in said(result)


def test_resuming_takes_the_runs_own_settings(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert "holds no run to go on with" in said(typed("--output", str(folder), "--resume"))
    typed("--data", str(data), "--output", str(folder), *SETS)
    assert typed("--output", str(folder), "--resume").exit_code == 0
    assert typed("--output", str(folder), "--resume", "--set", "schedule.epochs=4").exit_code == 0
    assert kept(folder).step == 12
    other = tmp_path / "other.yaml"
    values = yaml.safe_load((folder / SETTINGS).read_text())
    values["optimiser"]["lr"] = 0.5
    other.write_text(yaml.safe_dump(values))
    words = said(typed(str(other), "--output", str(folder), "--resume"))
    assert "was started with optimiser.lr=0.02, and now it is 0.5" in words


def test_ctrl_c_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["fit", "--data", str(data), "--output", str(folder), *SETS, "--set", "schedule.epochs=5000"]
    words += ["--set", "checkpoint.every=1000000", "--set", "run.threads=1"]
    process = subprocess.Popen([sys.executable, "-m", "train", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log = folder / "log.jsonl"
    while process.poll() is None and not (log.is_file() and log.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"go on with `python -m train fit --resume --output {folder}`" in errors
    assert kept(folder).step > 0


def test_torchrun_goes_on_with_what_one_process_began(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    typed("--data", str(data), "--output", str(folder), *SETS, "--set", "schedule.epochs=1")
    words = ["fit", "--resume", "--output", str(folder), "--set", "schedule.epochs=3", "--set", "run.threads=1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "-m", "train", *words, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["plan"]["ranks"] == 2
    assert found["plan"]["crops_at_a_time"] == 4
    assert kept(folder).step == 9
    assert [line["step"] for line in read_log(folder) if line["kind"] == "train"] == [1, 3, 5, 9]
