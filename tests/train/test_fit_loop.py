"""A run from its plan to its weights, and everything that ends one early."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.train.fit_parts import evaluated, kept, listed, small_plan
from tests.train.sets import tiny_set
from tests.train.test_checkpoints import disk_of
from train.errors import CheckpointError, ConfigError, DataError, Diverged, GateFailed
from train.evaluation.sets import open_verification
from train.evaluation.verification import verify_set
from train.fit.curves import draw_curves
from train.fit.embedding import embedder
from train.fit.log import Line, RunLog, read_log
from train.fit.loop import fit
from train.fit.state import BEST
from train.fit.watch import Best, Watch, better
from train.prepared import open_prepared
from train.runs import BACKBONE, CHECKPOINT, CURVES, LOG, SETTINGS, TENSORBOARD, open_run
from train.settings import GateSettings, load_fit_settings

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_set(tmp_path_factory.mktemp("fit") / "set", train_people=4, images=6, size=32)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 30 steps."""
    folder = tmp_path_factory.mktemp("fit") / "run"
    outcome = fit(
        small_plan(
            data,
            "schedule.epochs=10",
            "evaluate.keep=best",
            "log.tensorboard=true",
            evaluated(data),
            "evaluate.every=12",
        ),
        folder,
    )
    assert outcome.finished
    assert outcome.last["kind"] == "end"
    return folder


def value(line: Line) -> float:
    """The figure of an evaluation's only set."""
    (found,) = line["sets"].values()
    return float(found["value"])


def test_a_run_learns_and_leaves_its_files(run: Path) -> None:
    lines = [line for line in read_log(run) if line["kind"] == "train"]
    assert lines[-1]["loss"] < 0.2 * lines[0]["loss"]
    assert lines[-1]["accuracy"] == 1.0
    assert lines[-1]["images_s"] > 0
    assert 0 < lines[-1]["share_of_matmul"] < 1.5
    for name in (CHECKPOINT, BACKBONE, SETTINGS, LOG, CURVES, BEST):
        assert (run / name).is_file(), name
    assert list((run / TENSORBOARD).iterdir())
    assert (run / CURVES).read_bytes().startswith(b"\x89PNG")


def test_others_can_open_it(run: Path, data: Path) -> None:
    opened = open_run(run)
    assert opened.network.name == "iresnet-1-1-1-1-w4"
    assert opened.subjects == open_prepared(data).train.subjects
    assert load_fit_settings(str(run / SETTINGS)) == opened.settings
    wanted = open_verification(listed(data), template="arcface_112", size=32)
    found = verify_set(embedder(opened.module, torch.device("cpu")), wanted)
    best = max(value(line) for line in read_log(run) if line["kind"] == "evaluate" and line["step"])
    assert found.figure[1].value == best


def test_evaluations_come_before_the_first_step_and_after_so_many_and_at_the_end(run: Path) -> None:
    steps = [line["step"] for line in read_log(run) if line["kind"] == "evaluate"]
    assert steps == [0, 12, 24, 30]


def test_what_a_run_keeps_is_its_choice(data: Path, tmp_path: Path) -> None:
    fit(
        small_plan(data, "evaluate.keep=last", "run.ema=0.5", evaluated(data), "schedule.epochs=1"),
        tmp_path / "run",
    )
    ending, left = kept(tmp_path / "run"), torch.load(tmp_path / "run" / BACKBONE, weights_only=True)
    assert ending.ema is not None
    assert set(left) == set(ending.backbone)
    assert all(torch.equal(left[name], value) for name, value in ending.ema.items())


def test_the_best_is_the_first_sets_best() -> None:
    looked = {"a": {"value": 0.8}, "b": {"value": 0.9}}
    assert better(Best(), looked, 4) == Best(0.8, 4)
    assert better(Best(0.8, 4), looked, 9) == Best(0.8, 9)
    assert better(Best(0.81, 4), looked, 9) == Best(0.81, 4)
    assert better(Best(0.8, 4), {}, 9) == Best(0.8, 4)


def test_the_network_stands_still_while_it_is_frozen(data: Path, run: Path, tmp_path: Path) -> None:
    """Its centres come from class means, so the first step already knows everybody."""
    more = (f"init.backbone={run / CHECKPOINT}", "init.frozen_epochs=3", "data.flip=false")
    fit(small_plan(data, *more), tmp_path / "frozen")
    start, end = kept(run).backbone, kept(tmp_path / "frozen").backbone
    assert all(torch.equal(end[name], value) for name, value in start.items() if value.is_floating_point())
    assert read_log(tmp_path / "frozen")[0]["accuracy"] == 1.0


def test_a_run_from_a_run_begins_where_that_ended(data: Path, run: Path, tmp_path: Path) -> None:
    more = (f"init.backbone={run}", "schedule.epochs=1", "init.centres=random", evaluated(data))
    fit(small_plan(data, *more), tmp_path / "next")
    best = max(value(line) for line in read_log(run) if line["kind"] == "evaluate" and line["step"])
    assert value(read_log(tmp_path / "next")[0]) == best


# what ends a run


def test_a_run_that_diverges_names_the_crops_and_keeps_its_checkpoint(data: Path, tmp_path: Path) -> None:
    more = (
        "checkpoint.every=1",
        "optimiser.lr=10",
        "optimiser.clip_norm=null",
        "loss.kind=softmax",
        "evaluate.sets=[]",
    )
    plan = small_plan(data, *more, "schedule.epochs=200", "schedule.kind=constant")
    with pytest.raises(
        Diverged, match=r"^step \d+: the loss, a gradient or a weight is not a number any more, with the crops p00"
    ) as caught:
        fit(plan, tmp_path / "run")
    bad = int(str(caught.value).split()[1].rstrip(":"))
    assert kept(tmp_path / "run").step == bad
    assert all(torch.isfinite(value).all() for value in kept(tmp_path / "run").momentum.values())


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People whom a random network does not tell apart: faint patterns under light of any colour."""
    folder = tiny_set(tmp_path_factory.mktemp("hard") / "set", train_people=6, val_people=4, images=8, size=32)
    crops = np.load(folder / "crops.npy").astype(np.float32)
    light = np.random.default_rng(5).normal(0, 60, (len(crops), 1, 1, 3))
    np.save(folder / "crops.npy", np.clip(128 + 0.35 * (crops - 128) + light, 0, 255).astype(np.uint8))
    return folder


def test_people_never_seen_are_told_apart_and_a_gate_sees_that_forgotten(hard: Path, tmp_path: Path) -> None:
    fit(
        small_plan(hard, "schedule.epochs=8", "optimiser.lr=0.05", "evaluate.every=24", evaluated(hard)),
        tmp_path / "run",
    )
    looks = [value(line) for line in read_log(tmp_path / "run") if line["kind"] == "evaluate"]
    assert looks[0] < 0.6 < 0.7 < looks[-1]

    more = (f"init.backbone={tmp_path / 'run'}", f"gate.set={listed(hard)}", "gate.max_drop=0.05", "schedule.epochs=1")
    torn = ("optimiser.lr=10", "optimiser.clip_norm=null", "schedule.kind=constant", "init.centres=random")
    with pytest.raises(GateFailed, match=r"the run has forgotten: .* before and is at [0-9.]+ % after"):
        fit(small_plan(hard, *more, *torn), tmp_path / "torn")
    assert (tmp_path / "torn" / BACKBONE).is_file()
    gate = read_log(tmp_path / "torn")[-1]["gate"]
    assert gate["before"] == max(looks[1:])
    assert gate["after"] < gate["before"] - 0.05

    gentle = fit(small_plan(hard, *more, "optimiser.lr=1e-4"), tmp_path / "gentle")
    assert gentle.last["gate"]["after"] >= gate["before"] - 0.05


def test_weights_that_are_no_numbers_are_not_kept(data: Path, tmp_path: Path) -> None:
    """The loss of the last step is fine; what the step makes of the weights is not."""
    more = ("optimiser.lr=10", "optimiser.weight_decay=1", "optimiser.clip_norm=null", "schedule.kind=constant")
    plan = small_plan(data, *more, "loss.kind=softmax", "schedule.epochs=100")
    with pytest.raises(Diverged):
        fit(plan, tmp_path / "run")
    if (tmp_path / "run" / CHECKPOINT).is_file():
        state = kept(tmp_path / "run")
        assert all(torch.isfinite(value).all() for value in (*state.backbone.values(), *state.centres.values()))


def test_a_gate_allows_what_it_says(data: Path) -> None:
    watch = Watch(open_prepared(data), [], GateSettings(set="val", max_drop=0.01))
    watch.check_gate(0.99, 0.9801)
    with pytest.raises(GateFailed):
        watch.check_gate(0.99, 0.9799)


def test_a_set_with_one_kind_of_comparison_ends_the_run_before_it_begins(data: Path, tmp_path: Path) -> None:
    single = tiny_set(tmp_path / "single", train_people=0, val_people=5, images=1, size=32)
    lone = tmp_path / "pairs.txt"
    lone.write_text("p004/0000.jpg p004/0001.jpg 1\n")
    for spec in (single, f"{data},{lone}"):
        with pytest.raises(DataError, match="there is one kind only"):
            fit(small_plan(data, f"evaluate.sets=['{spec}']"), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_set_that_is_not_there_ends_the_run_before_it_begins(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        fit(small_plan(data, "evaluate.sets=[lfw.bin]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from tests.train.fit_parts import small_plan
from train.errors import CheckpointError
from train.fit.loop import fit

torch.set_num_threads(1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def full(done, total):
    if done == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    fit(small_plan(Path(sys.argv[1])), Path(sys.argv[2]), progress=full)
except CheckpointError as err:
    print(err)
    sys.exit(3)
"""


def test_a_full_disk_keeps_the_last_good_checkpoint(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(data), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "go on with --resume" in done.stdout
    assert kept(tmp_path / "run").step == 3
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")) == []
    assert fit(small_plan(data), tmp_path / "run", resume=True).finished


# files


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        RunLog(tmp_path / "not there", done=None, tensorboard=False)


def test_scalars_that_cannot_be_written_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard's thread fails, later than its caller asked for it."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def written() -> None:
        with contextlib.closing(RunLog(tmp_path, done=None, tensorboard=True)) as log:
            log.write("a", 1, {str(scalar): 1 for scalar in range(50)})  # 500 bytes of text

    with pytest.raises(CheckpointError, match=r"tensorboard: cannot be written .* go on with --resume"), disk_of(1000):
        written()


def test_a_folder_that_cannot_be_made_is_a_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/run: cannot be made .* choose another place with --output"):
        fit(small_plan(data), tmp_path / "file" / "run")


def test_scalars_are_there_for_tensorboard(run: Path) -> None:
    found = EventAccumulator(str(run / TENSORBOARD))
    found.Reload()
    lines = [line for line in read_log(run) if line["kind"] == "train"]
    losses = [(event.step, event.value) for event in found.Scalars("train/loss")]
    assert losses == [(line["step"], pytest.approx(line["loss"])) for line in lines]
    names = set(found.Tags()["scalars"])
    assert {"train/accuracy", "train/lr", "train/images_s", "train/gradient_norm"} < names
    assert any(name.startswith("evaluate/sets/") and name.endswith("/value") for name in names)


def test_curves_of_any_name_can_be_drawn(tmp_path: Path) -> None:
    """matplotlib takes dollar signs for formulas, and this one is none."""
    folder = tmp_path / r"_a$\frac$b"
    folder.mkdir()
    figures = {"figure": "accuracy", "value": 0.5}
    lines = [
        {"kind": "train", "step": 1, "loss": 2.0, "lr": 0.1, "accuracy": 0.5},
        {"kind": "evaluate", "step": 1, "sets": {r"$\sets$": figures}},
    ]
    (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert draw_curves(folder) == folder / CURVES


def test_there_are_no_curves_without_a_line(tmp_path: Path) -> None:
    assert draw_curves(tmp_path) is None
