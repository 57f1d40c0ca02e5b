"""A run that was killed or stopped ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.fit_parts import evaluated, kept, same_bits, small_plan
from tests.train.sets import tiny_set
from tests.train.several_ranks import on_ranks
from train.checkpoints import save_checkpoint
from train.errors import CheckpointError, ConfigError
from train.fit.log import read_log
from train.fit.loop import fit
from train.fit.state import RunState
from train.runs import BACKBONE, CHECKPOINT, open_run
from train.sharding.ranks import Ranks

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 crops of 4 people: 3 steps of 8 an epoch, 9 in all."""
    return tiny_set(tmp_path_factory.mktemp("fit") / "set", train_people=4, images=6, size=32)


def signalled(at: int, number: signal.Signals = signal.SIGINT) -> Callable[[int, int], None]:
    """A person who presses Ctrl-C during a step."""

    def progress(done: int, total: int) -> None:
        if done == at:
            os.kill(os.getpid(), number)

    return progress


def whole_and_resumed(data: Path, folder: Path, *more: str, at: int = 4) -> tuple[Path, Path]:
    fit(small_plan(data, *more), folder / "whole")
    stopped = fit(small_plan(data, *more), folder / "halves", progress=signalled(at))
    assert not stopped.finished
    assert stopped.step == kept(folder / "halves").step == at
    assert fit(small_plan(data, *more), folder / "halves", resume=True).finished
    return folder / "whole", folder / "halves"


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.train.fit_parts import small_plan
from train.fit.loop import fit

torch.set_num_threads(1)
fit(small_plan(Path(sys.argv[1]), "checkpoint.every=2"), Path(sys.argv[2]),
    progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == 5 else None)
"""


def test_killed_in_the_middle_of_an_epoch(data: Path, tmp_path: Path) -> None:
    fit(small_plan(data, "checkpoint.every=2"), tmp_path / "whole")
    done = subprocess.run([sys.executable, "-c", KILLED, str(data), str(tmp_path / "killed")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert kept(tmp_path / "killed").step == 4
    again = fit(small_plan(data, "checkpoint.every=2"), tmp_path / "killed", resume=True)
    assert again.finished
    assert same_bits(kept(tmp_path / "whole"), kept(tmp_path / "killed"))
    weights = [torch.load(tmp_path / name / BACKBONE, weights_only=True) for name in ("whole", "killed")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    lines = [[(line["kind"], line["step"]) for line in read_log(tmp_path / name)] for name in ("whole", "killed")]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    "more",
    [
        ("run.ema=0.9", "network.dropout=0.3", "run.accumulate=2"),
        ("loss.sample_rate=0.5", "run.precision=fp16", "evaluate.every=3"),
        ("loss.kind=triplet", "data.per_subject=4", "run.precision=bf16"),
        ("loss.kind=adaface", "schedule.warmup_epochs=1", "schedule.kind=cosine"),
    ],
    ids=["mean and dropout", "sampled in fp16", "triplets in bf16", "adaface with warm-up"],
)
def test_stopped_and_resumed(data: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    whole, halves = whole_and_resumed(data, tmp_path, *more, evaluated(data))
    assert same_bits(kept(whole), kept(halves))
    assert kept(whole).notes["best"]["step"] > 0


def test_a_polite_kill_saves_as_well(data: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    outcome = fit(small_plan(data), tmp_path / "run", progress=signalled(2, signal.SIGTERM))
    assert (outcome.step, outcome.finished) == (2, False)
    assert kept(tmp_path / "run").step == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_stops_at_once(data: Path, tmp_path: Path) -> None:
    def progress(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(small_plan(data), tmp_path / "run", progress=progress)


def two_ranks(ranks: Ranks, folder: Path) -> list[int]:
    data, run = folder.parent / "set", folder.parent / "run"
    outcome = fit(small_plan(data, ranks=ranks), run, progress=signalled(4))
    return [outcome.step, int(outcome.finished)]


def test_two_ranks_stop_together_and_one_goes_on(tmp_path: Path) -> None:
    data = tiny_set(tmp_path / "set", train_people=5, images=5, size=32)
    assert on_ranks(2, two_ranks, tmp_path / "ranks") == [[4, 0], [4, 0]]
    assert fit(small_plan(data), tmp_path / "run", resume=True).finished
    run = open_run(tmp_path / "run")
    assert run.step == 9
    assert run.centres_CKD is not None
    assert run.centres_CKD.shape == (5, 1, 16)


def restored(ranks: Ranks, folder: Path) -> int:
    """What a run was left as, taken up and left again."""
    state = RunState(small_plan(folder.parent / "set", "run.ema=0.9", ranks=ranks))
    state.restore(folder.parent / "run" / CHECKPOINT)
    state.save(folder)
    return state.step


def test_other_ranks_take_a_run_up_bit_by_bit(tmp_path: Path) -> None:
    """There is nothing in the file that depends on how many wrote it."""
    data = tiny_set(tmp_path / "set", train_people=5, images=5, size=32)
    fit(small_plan(data, "run.ema=0.9"), tmp_path / "run", progress=signalled(4))
    assert on_ranks(2, restored, tmp_path / "two") == [4, 4]
    assert same_bits(kept(tmp_path / "run"), kept(tmp_path / "two"))


@pytest.mark.parametrize("hurt", ["a weight is missing", "a shape is another", "a note is none of ours"])
def test_a_checkpoint_that_does_not_hold_what_it_promises_is_a_sentence(data: Path, tmp_path: Path, hurt: str) -> None:
    """Its checksums hold, so somebody has made it."""
    fit(small_plan(data), tmp_path / "run", progress=signalled(1))
    was = kept(tmp_path / "run")
    backbone, momentum, notes = dict(was.backbone), dict(was.momentum), dict(was.notes)
    if hurt == "a weight is missing":
        del backbone["fc.weight"]
    elif hurt == "a shape is another":
        momentum["fc.weight"] = torch.zeros(3, 3)
    else:
        notes["best"] = {"colour": 1}
    changed = replace(was, backbone=backbone, momentum=momentum, notes=notes)
    save_checkpoint(tmp_path / "run" / CHECKPOINT, changed)
    with pytest.raises(CheckpointError, match="does not hold what its own settings promise") as caught:
        fit(small_plan(data), tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)


def test_lines_after_the_checkpoint_are_taken_back(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(small_plan(data), folder, progress=signalled(4))
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": "train", "step": 5, "loss": 0}) + "\n" + '{"kind": "train", "st')
    fit(small_plan(data), folder, resume=True)
    steps = [line["step"] for line in read_log(folder) if line["kind"] == "train"]
    assert steps == [1, 4, 5, 9]
    assert all(line.get("loss") != 0 for line in read_log(folder))


def test_a_run_that_never_saved_begins_again(data: Path, tmp_path: Path) -> None:
    fit(small_plan(data), tmp_path / "whole")
    fit(small_plan(data), tmp_path / "run", progress=signalled(1))
    (tmp_path / "run" / CHECKPOINT).unlink()
    assert fit(small_plan(data), tmp_path / "run", resume=True).finished
    assert same_bits(kept(tmp_path / "whole"), kept(tmp_path / "run"))


def test_a_finished_run_ends_again_and_can_be_made_longer(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(small_plan(data), folder)
    (folder / BACKBONE).unlink()
    assert fit(small_plan(data), folder, resume=True).step == 9
    assert (folder / BACKBONE).is_file()
    assert fit(small_plan(data, "schedule.epochs=4"), folder, resume=True).step == 12


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("run.batch=4",), "was trained with run.batch=8, not 4"),
        (("run.seed=2",), "was trained with run.seed=1, not 2"),
        (("network.width=8",), "is of another network"),
        (("loss.kind=cosface",), "loss.kind arcface, not cosface"),
    ],
)
def test_another_run_does_not_go_on(data: Path, tmp_path: Path, more: tuple[str, ...], words: str) -> None:
    fit(small_plan(data), tmp_path / "run", progress=signalled(1))
    with pytest.raises(CheckpointError, match=words):
        fit(small_plan(data, *more), tmp_path / "run", resume=True)


def test_whose_folder_it_is(data: Path, tmp_path: Path) -> None:
    plan = small_plan(data, "schedule.epochs=1")
    fit(plan, tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run already; go on with it by --resume"):
        fit(plan, tmp_path / "run")
    with pytest.raises(ConfigError, match="holds no run to go on with"):
        fit(plan, tmp_path / "other", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        fit(plan, tmp_path / "file")
