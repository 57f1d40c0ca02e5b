"""``python -m train clean``: lists and sheet are written, the set is left alone, mistakes are sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from engines.networks.random_weights import random_state
from tests.train.evaluation_parts import SMALL
from tests.train.sets import tiny_set
from train.checkpoints import Checkpoint, SetFacts, save_checkpoint
from train.commands import clean as command
from train.errors import ConfigError, DataError
from train.prepared import CROPS, LABELS, open_prepared
from train.settings import FitSettings, LossSettings

app = typer.Typer()
command.register(app)
app.command("other")(lambda: None)


def run_command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["clean", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five people, one image under a wrong name."""
    folder = tiny_set(tmp_path_factory.mktemp("data") / "set", train_people=5, val_people=2, images=8)
    labels = np.load(folder / LABELS)
    labels[3] = 2
    np.save(folder / LABELS, labels)
    return folder


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a random network on the set, with two random centres a class."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        settings=FitSettings(loss=LossSettings(sub_centers=2)),
        network=SMALL,
        data=SetFacts.of(open_prepared(prepared).manifest),
        step=1,
        backbone={name: torch.from_numpy(values) for name, values in random_state(SMALL, 0).items()},
        momentum={},
        centres={"weight": torch.randn(5 * 2, SMALL.dimensions)},
    )
    save_checkpoint(folder / "checkpoint.pt", checkpoint)
    return folder


def values(*arguments: str | Path) -> Any:
    found = run_command(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_a_runs_own_centres_are_used_on_its_own_set(prepared: Path, run: Path, tmp_path: Path) -> None:
    before = (prepared / CROPS).read_bytes()
    facts = values(prepared, run, "--output", tmp_path / "out", "--angle", "60")
    assert facts["centres"] == "2 a class, those of the run"
    assert (facts["images"], facts["people"]) == (40, 5)
    lines = (tmp_path / "out" / "drops.jsonl").read_text().splitlines()
    assert len(lines) == facts["dropped"] > 0
    assert set(json.loads(lines[0])) == {
        *("row", "name", "subject", "angle_deg", "reason", "looks_like", "looks_like_deg")
    }
    with Image.open(tmp_path / "out" / "drops.png") as image:
        assert image.format == "PNG"
    assert (prepared / CROPS).read_bytes() == before


def test_other_sets_get_centres_of_their_own_and_a_clean_copy(run: Path, tmp_path: Path) -> None:
    other = tiny_set(tmp_path / "other", train_people=4, val_people=1, images=6, seed=9)
    out = tmp_path / "cleaned"
    facts = values(other, run, "--output", tmp_path / "out", "--angle", "90", "--apply", out)
    assert facts["centres"].startswith("3 a class, learned")
    assert len(open_prepared(out).train) == 24 - facts["dropped"]
    assert facts["written"][-1] == str(out)


def test_text_says_what_would_go(prepared: Path, run: Path, tmp_path: Path) -> None:
    found = run_command(prepared, run, "--output", tmp_path / "out", "--angle", "own")
    assert found.exit_code == 0, found.output
    assert "of 40 images would go, of 5 people" in found.stdout
    assert str(tmp_path / "out" / "drops.jsonl") in found.stdout


@pytest.mark.parametrize("angle", ["0", "200", "wide", "nan"])
def test_angles_that_are_none_are_refused(prepared: Path, run: Path, tmp_path: Path, angle: str) -> None:
    found = run_command(prepared, run, "--output", tmp_path / "out", "--angle", angle)
    assert found.exit_code == 2
    assert "--angle" in found.output
    assert not (tmp_path / "out").exists()


def test_crops_of_another_template_are_refused(run: Path, tmp_path: Path) -> None:
    other = tiny_set(tmp_path / "set", size=48)
    found = run_command(other, run, "--output", tmp_path / "out")
    assert isinstance(found.exception, DataError)
    assert f"of {SMALL.input_size}" in str(found.exception)


def test_a_folder_for_the_copy_that_is_taken_is_refused_first(prepared: Path, run: Path, tmp_path: Path) -> None:
    found = run_command(prepared, run, "--output", tmp_path / "out", "--apply", prepared)
    assert isinstance(found.exception, ConfigError)
    assert not (tmp_path / "out").exists()
