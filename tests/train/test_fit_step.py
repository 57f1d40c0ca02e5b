"""One step: the same gradient however the batch is worked on, on one process or two, recorded or not."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.train.fit_parts import settings_of, small_plan
from tests.train.sets import tiny_set
from tests.train.several_ranks import on_ranks
from train.errors import DeviceFull
from train.fit.crops import Feed, Part, keeper_for
from train.fit.device import device_troubles, prepare_device
from train.fit.graph import RecordedTrainer, obstacle
from train.fit.order import Order
from train.fit.precision import Precision
from train.fit.state import RunState
from train.fit.step import Trainer
from train.prepared import open_prepared
from train.settings import LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks

torch.set_num_threads(1)
SIDE, CLASSES, DIMENSIONS, BATCH = 16, 5, 8, 8


class Plain(nn.Module):
    """Without norms a batch is the sum of its crops."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.fc = nn.Linear(4 * 7 * 7, DIMENSIONS)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.tanh(self.conv(x)).flatten(1))
        return y


def trainer(ranks: Ranks, *, precision: Precision = "fp32", clip: float | None = 1.0, **loss: Any) -> Trainer:
    torch.manual_seed(3)
    module = Plain().to(ranks.device)
    settings = LossSettings(scale=16.0, **loss)
    return Trainer(
        module,
        ClassCentres(CLASSES, DIMENSIONS, settings, ranks, seed=3),
        ranks,
        momentum=0.9,
        weight_decay=5e-4,
        clip_norm=clip,
        precision=precision,
        channels_last=False,
        seed=3,
        dropout=False,
    )


def batch(step: int) -> Part:
    random = torch.Generator().manual_seed(step)
    return Part(
        torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), generator=random, dtype=torch.uint8),
        torch.randint(0, 2, (BATCH,), generator=random) == 1,
        torch.randint(0, CLASSES, (BATCH,), generator=random),
    )


def pieces(part: Part, count: int) -> list[Part]:
    cut = zip(*(values.chunk(count) for values in (part.crops_MSSC, part.flips_M, part.labels_M)), strict=True)
    return [Part(*each) for each in cut]


def weights(learner: Trainer) -> dict[str, Tensor]:
    return {**learner.module.state_dict(), "centres": learner.centres.whole_weight()}


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6) for name in one)


@pytest.mark.parametrize("clip", [None, 0.05])
def test_four_parts_are_one_batch(clip: float | None) -> None:
    whole, parts = (trainer(Ranks.alone(), clip=clip) for _ in range(2))
    for step in range(4):
        part, rate = batch(step), torch.tensor(0.1)
        one = whole.step([part], step, rate)
        other = parts.step(pieces(part, 4), step, rate)
        assert torch.allclose(one.loss, other.loss, rtol=1e-5)
        assert torch.allclose(one.gradient_norm, other.gradient_norm, rtol=1e-4)
        assert one.accuracy == other.accuracy
    assert close(weights(whole), weights(parts))


def two_ranks(ranks: Ranks, folder: Path) -> dict[str, Tensor]:
    learner = trainer(ranks, clip=0.05)
    norms = []
    for step in range(3):
        part = pieces(batch(step), ranks.size)[ranks.rank]
        norms.append(learner.step([part], step, torch.tensor(0.1)).gradient_norm)
    return {**weights(learner), "norms": torch.stack(norms)}


def test_two_processes_are_one(tmp_path: Path) -> None:
    alone = two_ranks(Ranks.alone(), tmp_path)
    for found in on_ranks(2, two_ranks, tmp_path / "ranks"):
        assert close(alone, found)


def test_a_gradient_that_is_too_long_is_shortened() -> None:
    learner = trainer(Ranks.alone(), clip=1e-3)
    result = learner.step([batch(0)], 0, torch.tensor(0.1))
    length = torch.stack([gradient.norm() for gradient in learner.body.gradients]).norm()
    assert result.gradient_norm > 1e-2
    assert float(length) == pytest.approx(1e-3, rel=1e-2)


def test_a_frozen_network_stays_and_its_centres_learn(tmp_path: Path) -> None:
    plan = small_plan(tiny_set(tmp_path / "set", size=32))
    state = RunState(plan)
    before = {name: value.clone() for name, value in state.module.state_dict().items()}
    centres = state.centres.whole_weight()
    part = Part(torch.zeros(4, 32, 32, 3, dtype=torch.uint8), torch.zeros(4, dtype=torch.bool), torch.arange(4))
    result = state.trainer.step([part], 0, torch.tensor(0.1), frozen=True)
    assert all(torch.equal(value, before[name]) for name, value in state.module.state_dict().items())
    assert not torch.equal(state.centres.whole_weight(), centres)
    assert result.gradient_norm == 0
    state.trainer.step([part], 1, torch.tensor(0.1))
    assert not torch.equal(state.module.state_dict()["fc.weight"], before["fc.weight"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_nearly_the_same(precision: Precision) -> None:
    full, half = trainer(Ranks.alone()), trainer(Ranks.alone(), precision=precision)
    half.scale.scale = min(half.scale.scale, 256.0)  # from where it starts the first steps overflow
    for step in range(5):
        one = full.step([batch(0)], step, torch.tensor(0.1))
        other = half.step([batch(0)], step, torch.tensor(0.1))
    assert float(other.loss) == pytest.approx(float(one.loss), rel=0.05)
    assert all(value.dtype == torch.float32 for value in weights(half).values())


def test_a_step_that_overflows_fp16_is_left_out() -> None:
    learner = trainer(Ranks.alone(), precision="fp16")
    learner.scale.scale = 2.0**127
    before = weights(learner)
    learner.step([batch(0)], 0, torch.tensor(0.1))
    assert all(torch.equal(value, before[name]) for name, value in weights(learner).items())
    assert learner.scale.scale == 2.0**126


def test_centres_that_a_step_does_not_look_at_do_not_move() -> None:
    learner = trainer(Ranks.alone(), sample_rate=0.2)
    part = batch(0)
    only = Part(part.crops_MSSC, part.flips_M, torch.full((BATCH,), 2))
    for step in range(3):
        before = learner.centres.whole_weight()
        learner.step([only], step, torch.tensor(0.1))
        moved = (learner.centres.whole_weight() != before).any(dim=1)
        assert moved.tolist() == [False, False, True, False, False]


# recording


def test_a_step_is_a_function_of_tensors_that_can_stay_where_they_are() -> None:
    """What a CUDA graph needs: the same buffers with other contents give what fresh tensors give."""
    fresh, static = (trainer(Ranks.alone()) for _ in range(2))
    held = batch(99)
    rate = torch.tensor(0.0)
    for step in range(4):
        part = batch(step)
        for name in ("crops_MSSC", "flips_M", "labels_M"):
            getattr(held, name).copy_(getattr(part, name))
        rate.fill_(0.1 / (1 + step))
        addresses = [gradient.data_ptr() for gradient in (*static.body.gradients, *static.head.gradients)]
        static.step([held], 7, rate)
        assert addresses == [gradient.data_ptr() for gradient in (*static.body.gradients, *static.head.gradients)]
        fresh.step([part], step, torch.tensor(0.1 / (1 + step)))
    assert all(torch.equal(value, weights(fresh)[name]) for name, value in weights(static).items())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("run.batch=8", "there is no GPU"),
        ("run.cuda_graph=never", "run.cuda_graph is never"),
    ],
)
def test_why_steps_are_not_recorded(override: str, words: str) -> None:
    assert obstacle(settings_of(Path("set"), override), "fp32", Ranks.alone()) == words


@pytest.mark.parametrize(
    ("override", "precision", "words"),
    [
        ("run.batch=512", "bf16", "keeps the GPU busy"),
        ("run.batch=16", "fp16", "looks at its gradients"),
        ("loss.sample_rate=0.5", "bf16", "draws other classes"),
        ("network.dropout=0.4", "bf16", "another dropout"),
        ("run.batch=16", "bf16", None),
    ],
)
def test_what_a_gpu_records(override: str, precision: Precision, words: str | None) -> None:
    found = obstacle(settings_of(Path("set"), override), precision, Ranks.alone("cuda:0"))
    assert (found is None) if words is None else (words in str(found))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU and torch for it")
def test_a_recorded_step_is_the_step() -> None:
    ranks = Ranks.alone("cuda")
    plain, recorded = trainer(ranks), trainer(ranks)
    recorder = RecordedTrainer(recorded)
    for step in range(8):
        part = batch(step)
        there = Part(*(getattr(part, name).cuda() for name in ("crops_MSSC", "flips_M", "labels_M")))
        rate = torch.full((), 0.1 / (1 + step), device="cuda")
        one = plain.step([there], step, rate)
        other = recorder.step([there], step, rate)
        assert torch.allclose(one.loss, other.loss, rtol=1e-4)
    assert close(weights(plain), weights(recorded))


# a GPU that is told


def test_a_run_works_on_the_gpu_that_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream is made on the current one: steps recorded on another would not be the run's."""
    plan = replace(small_plan(tiny_set(tmp_path / "set", size=32)), ranks=Ranks.alone("cuda:1"))
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    prepare_device(plan)
    assert current == [torch.device("cuda", 1)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU and torch for it")
def test_crops_come_to_a_gpu_as_they_are(tmp_path: Path) -> None:
    split = open_prepared(tiny_set(tmp_path / "set", size=32)).train
    order, device = Order(split.labels_N, batch=10, seed=1), torch.device("cuda", 0)
    for wish in ("device", "host"):
        feed = Feed(split, order, keeper_for(split, wish, device), device)
        for step, (part,) in enumerate(feed.steps(0, 6)):
            rows_B = order.rows_B(step)
            assert np.array_equal(part.crops_MSSC.cpu().numpy(), split.crops_NSS3[rows_B])
            assert np.array_equal(part.labels_M.cpu().numpy(), split.labels_N[rows_B])
            assert np.array_equal(part.flips_M.cpu().numpy(), order.flips_B(step))


# a device that is full


def test_a_full_device_says_what_to_lower(tmp_path: Path) -> None:
    plan = small_plan(tiny_set(tmp_path / "set", size=32))
    with (
        pytest.raises(DeviceFull, match=r"cpu: out of memory .*: raise run.accumulate to 2") as caught,
        device_troubles(plan),
    ):
        torch.empty(1 << 50, dtype=torch.uint8)
    assert "\n" not in str(caught.value)


def test_other_mistakes_stay_what_they_are(tmp_path: Path) -> None:
    plan = small_plan(tiny_set(tmp_path / "set", size=32))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), device_troubles(plan):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    code = """
import resource, sys, torch
from train.fit.device import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "plain")
    }
    assert faults["kept"] < 0.1 * faults["plain"]


# a network that torch compiles


def test_a_compiled_network_takes_the_same_steps_under_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_module = nn.Module.compile  # without writing C++, which would take most of a minute here
    monkeypatch.setattr(nn.Module, "compile", lambda module: compile_module(module, backend="aot_eager"))
    data = tiny_set(tmp_path / "set", size=32)
    states = [RunState(small_plan(data, f"run.compile={on}")) for on in ("false", "true")]
    part = pieces(batch(0), 1)[0]
    crops_MSSC = torch.randint(
        0, 256, (BATCH, 32, 32, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    losses = [
        [
            float(
                state.trainer.step([Part(crops_MSSC, part.flips_M, part.labels_M % 4)], step, torch.tensor(0.01)).loss
            )
            for step in range(3)
        ]
        for state in states
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert list(states[0].module.state_dict()) == list(states[1].module.state_dict())
