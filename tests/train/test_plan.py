"""What is said before a run, and what stands against one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.fit_parts import small_plan
from tests.train.sets import tiny_set
from train.errors import ConfigError, DataError
from train.fit.plan import plan_of
from train.fit.trial import try_steps
from train.prepared import LABELS, MANIFEST, open_prepared
from train.settings import load_fit_settings
from train.sharding.ranks import Ranks

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_set(tmp_path_factory.mktemp("plan") / "set", train_people=5, images=6, size=32)


def with_labels(folder: Path, labels: list[int], people: int) -> Path:
    """A set of so many crops with these labels, and nobody kept back."""
    tiny_set(folder, train_people=people, val_people=0, images=-(-len(labels) // people), size=32)
    manifest = json.loads((folder / MANIFEST).read_text())
    np.save(folder / "crops.npy", np.load(folder / "crops.npy")[: len(labels)])
    np.save(folder / LABELS, np.array(labels, dtype=np.int32))
    (folder / MANIFEST).write_text(json.dumps(manifest | {"train_rows": len(labels)}))
    return folder


def test_counts_come_from_the_set(data: Path) -> None:
    plan = small_plan(data, "schedule.warmup_epochs=0.5", "run.accumulate=2", "evaluate.sets=[val]")
    facts = plan.to_json()
    assert (facts["images"], facts["classes"], facts["people_kept_back"]) == (30, 5, 2)
    assert (facts["steps_an_epoch"], facts["left_out_an_epoch"], facts["steps"]) == (3, 6, 9)
    assert (facts["warmup_steps"], facts["crops_at_a_time"]) == (2, 4)
    assert (facts["evaluate_every"], facts["checkpoint_every"]) == (3, 3)
    json.dumps(facts)


def test_the_tutorials_run_is_its_11700_steps(tmp_path: Path) -> None:
    """9,360 images of 390 people, batch 16, 20 epochs; the crops here are of 16 pixels to keep the file small."""
    folder = tiny_set(tmp_path / "kface", train_people=390, val_people=10, images=24, size=16)
    plan = plan_of(load_fit_settings("kface_r50_onegpu"), open_prepared(folder), Ranks.alone())
    assert (plan.steps, plan.classes, plan.frozen, plan.evaluate_every) == (11_700, 390, 0, 2000)
    assert any("8 times insightface's rate" in words for words in plan.warnings)


@pytest.mark.parametrize("preset", ["kface_r50_onegpu", "kface_r50", "kface_smoke"])
def test_presets_can_be_planned(data: Path, preset: str) -> None:
    settings = load_fit_settings(preset, ["run.batch=16"])
    assert plan_of(settings, open_prepared(data), Ranks.alone()).steps > 0


def test_memory_is_counted_by_part(data: Path) -> None:
    facts = small_plan(data, "run.ema=0.9", "data.resident=device").to_json()
    assert facts["memory_in_all"] == sum(facts["memory"].values())
    assert facts["memory"]["crops"] == 30 * 32 * 32 * 3
    assert facts["memory"]["running mean of the weights"] == facts["parameters"] * 4


def test_a_trial_says_how_long_a_step_takes(data: Path) -> None:
    trial = try_steps(small_plan(data, "run.batch=8", "run.accumulate=2"))
    assert trial.crops == 4
    assert trial.step_s > 0
    assert trial.matmul_flops > 0
    assert trial.peak_bytes is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("run.batch=64",), "an epoch has only 30 crops"),
        (("run.batch=7", "run.accumulate=2"), "take a multiple of 2"),
        (("loss.kind=triplet",), "set data.per_subject=4"),
        (("loss.triplet=1",), "set data.per_subject=4"),
        (("init.frozen_epochs=1",), "give init.backbone or set it to 0"),
        (("init.frozen_epochs=1", "loss.kind=triplet", "data.per_subject=2"), "triplet has none"),
        (("schedule.warmup_epochs=3",), "as long as the run of 3 epochs"),
        (("evaluate.keep=best",), "without evaluate.sets nothing says which weights are"),
        (("network.name=iresnet51",), "known are iresnet18"),
        (("network.width=null",), "needs network.blocks"),
    ],
)
def test_options_that_do_not_go_together(data: Path, more: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        small_plan(data, *more)


def test_a_set_of_one_person(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train shows one person \(p000\); telling people apart needs two or more"):
        small_plan(tiny_set(tmp_path / "set", train_people=1, images=20, size=32))
    with pytest.raises(DataError, match="train shows one person"):
        small_plan(with_labels(tmp_path / "empty", [1] * 16, 2))


def test_a_set_with_one_image_a_person(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every person has one image"):
        small_plan(tiny_set(tmp_path / "set", train_people=16, images=1, size=32))


def test_a_set_that_keeps_nobody_back(tmp_path: Path) -> None:
    folder = tiny_set(tmp_path / "set", train_people=4, val_people=0, images=6, size=32)
    with pytest.raises(ConfigError, match="keeps nobody back, so there is no val to evaluate on"):
        small_plan(folder, "evaluate.sets=[val]")
    with pytest.raises(ConfigError, match="keeps nobody back"):
        small_plan(folder, "gate.set=val")
    assert small_plan(folder).evaluate_every == 0


def test_what_is_worth_a_second_thought(tmp_path: Path) -> None:
    folder = with_labels(tmp_path / "set", [0] * 8 + [1] * 7 + [2], 4)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"refused": 3, "template": "kface_box"}))
    words = " / ".join(small_plan(folder, "gate.set=other").warnings)
    for part in (
        "1 of 4 people have one image",
        "1 of 4 people have no image",
        "3 images of the selection",
        "kface_box",
    ):
        assert part in words
    assert "knows nothing to forget" in words


def test_a_plan_says_that_the_weights_to_start_from_are_not_there(data: Path, tmp_path: Path) -> None:
    there = tmp_path / "backbone.pth"
    there.write_bytes(b"")
    for path, said in ((tmp_path / "none.pth", True), (there, False)):
        words = " / ".join(small_plan(data, f"init.backbone={path}").warnings)
        assert (f"init.backbone {path} is not there" in words) == said


def test_the_network_warms_up_after_it_was_frozen() -> None:
    """A rate that rises only while the network stands still would let it start at the full one."""
    schedule, init = (getattr(load_fit_settings("kface_r50"), name) for name in ("schedule", "init"))
    assert schedule.warmup_epochs > init.frozen_epochs > 0


def test_numbers_may_be_written_with_a_power_of_ten() -> None:
    """YAML 1.1 takes them for text."""
    settings = load_fit_settings(None, ["optimiser.lr=1e-3", "optimiser.weight_decay=5E-4"])
    assert (settings.optimiser.lr, settings.optimiser.weight_decay) == (1e-3, 5e-4)
