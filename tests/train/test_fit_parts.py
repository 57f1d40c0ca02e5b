"""What a run is made of: schedule, SGD, running mean, precision, guard, memory, embedding."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engines.networks import NETWORKS, Network, build
from tests.train.sets import tiny_set
from train.errors import Diverged
from train.fit.ema import Ema
from train.fit.embedding import embedder
from train.fit.guard import Guard
from train.fit.memory import kept_values, memory, parameters
from train.fit.order import Order
from train.fit.precision import LossScale, autocast, precision_for
from train.fit.rate import matmul_flops, training_flops
from train.fit.schedule import Schedule, in_steps, lr_warning
from train.fit.sgd import Sgd
from train.prepared import open_prepared

torch.set_num_threads(1)
CPU = torch.device("cpu")
TINY = Network(name="tiny", family="iresnet", blocks=(1, 2, 1, 1), width=8, dimensions=16, input_size=32)


# schedule


def test_polynomial_is_arcface_torchs() -> None:
    """lr_scheduler.py of arcface_torch: t / W, then (1 - (t - W) / (T - W)) ** power."""
    schedule = Schedule(lr=0.02, steps=100, warmup=20, kind="polynomial", power=2.0)
    for step in range(100):
        wanted = step / 20 if step < 20 else (1 - (step - 20) / 80) ** 2
        assert schedule.at(step) == pytest.approx(0.02 * wanted, rel=1e-12)


def test_cosine_and_constant() -> None:
    cosine = Schedule(lr=1.0, steps=100, warmup=0, kind="cosine", power=2.0)
    assert [cosine.at(0), cosine.at(50)] == pytest.approx([1.0, 0.5])
    assert cosine.at(99) == pytest.approx((1 + math.cos(0.99 * math.pi)) / 2)
    constant = Schedule(lr=1.0, steps=100, warmup=10, kind="constant", power=2.0)
    assert [constant.at(0), constant.at(5), constant.at(10), constant.at(99)] == [0.0, 0.5, 1.0, 1.0]


@given(
    st.sampled_from(["polynomial", "cosine", "constant"]), st.integers(1, 500), st.integers(0, 400), st.floats(0.1, 5)
)
def test_rates_stay_between_nothing_and_the_highest(kind: str, steps: int, warmup: int, power: float) -> None:
    schedule = Schedule(lr=0.1, steps=steps, warmup=min(warmup, steps - 1), kind=kind, power=power)
    rates = [schedule.at(step) for step in range(steps)]
    assert all(0 <= rate <= 0.1 for rate in rates)
    falling = rates[schedule.warmup :]
    assert all(later <= earlier for earlier, later in itertools.pairwise(falling))


def test_fractions_of_epochs_are_rounded_to_steps() -> None:
    assert in_steps(0.5, 585) == 292
    assert in_steps(0, 585) == 0


def test_the_tutorials_rate_is_called_loud_and_insightfaces_is_not() -> None:
    assert lr_warning(0.02, 128) is None
    words = lr_warning(0.02, 16)
    assert words is not None
    assert "8 times insightface's rate an image" in words
    assert "0.0025" in words


# SGD


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_torchs(momentum: float) -> None:
    torch.manual_seed(1)
    ours, theirs = nn.Linear(7, 5).double(), nn.Linear(7, 5).double()
    theirs.load_state_dict(ours.state_dict())
    own = Sgd(dict(ours.named_parameters()), momentum=momentum, weight_decay=5e-4)
    torchs = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=momentum, weight_decay=5e-4)
    for step in range(10):
        x = torch.randn(4, 7, dtype=torch.float64)
        rate = 0.1 / (1 + step)
        torchs.param_groups[0]["lr"] = rate
        for module, optimiser in ((ours, own), (theirs, torchs)):
            optimiser.clear() if isinstance(optimiser, Sgd) else optimiser.zero_grad()
            module(x).square().sum().backward()
        own.step(torch.tensor(rate, dtype=torch.float64))
        torchs.step()
        assert torch.allclose(ours.weight, theirs.weight, rtol=1e-12, atol=0)
        assert torch.allclose(ours.bias, theirs.bias, rtol=1e-12, atol=0)


def test_what_does_not_learn_has_no_momentum() -> None:
    module = build(TINY)
    names = set(Sgd(dict(module.named_parameters()), momentum=0.9, weight_decay=0).momentum)
    assert "features.weight" not in names
    assert "features.bias" in names


# running mean


def test_the_running_mean_is_one() -> None:
    module = nn.BatchNorm1d(3)
    ema = Ema(module, 0.5)
    wanted = torch.ones(3)
    for step in range(8):
        with torch.no_grad():
            module.weight += 1
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * module.weight.detach()
        ema.update(step)
    assert torch.allclose(ema.mean["weight"], wanted)
    own = module.weight.detach().clone()
    with ema.in_place():
        assert torch.allclose(module.weight, wanted)
    assert torch.equal(module.weight, own)


# precision


def test_a_processor_computes_in_float32_unless_asked() -> None:
    assert precision_for("auto", CPU) == "fp32"
    assert precision_for("bf16", CPU) == "bf16"
    with autocast("bf16", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_the_scale_of_the_loss_falls_at_once_and_rises_slowly() -> None:
    scale = LossScale("fp16")
    assert not scale.saw(False)
    assert scale.scale == LossScale.FIRST / 2
    for _ in range(LossScale.CALM - 1):
        assert scale.saw(True)
    again = LossScale("fp16")
    again.load(scale.state())
    assert again.saw(True)
    assert again.scale == LossScale.FIRST
    while again.scale > 1:
        again.saw(False)
    with pytest.raises(Diverged, match="at every scale"):
        again.saw(False)


def test_other_precisions_have_no_scale() -> None:
    scale = LossScale("bf16")
    assert scale.saw(False)
    assert scale.scale == 1.0


# guard


def test_a_step_that_gives_up_by_itself_names_its_crops_too(tmp_path: Path) -> None:
    split = open_prepared(tiny_set(tmp_path / "set", size=16)).train
    guard = Guard(CPU, Order(split.labels_N, batch=10, seed=1), split)
    scale = LossScale("fp16")
    scale.scale = 1.0
    with pytest.raises(Diverged, match=r"^step 3: .* with the crops p00\d/000\d.jpg \(label \d\)"), guard.over(3):
        scale.saw(False)


def test_the_guard_names_step_crops_and_labels(tmp_path: Path) -> None:
    split = open_prepared(tiny_set(tmp_path / "set", size=16)).train
    order = Order(split.labels_N, batch=10, seed=1)
    guard = Guard(CPU, order, split)
    guard.note(0, torch.tensor(1.0), torch.tensor(2.0))
    guard.look()
    guard.note(1, torch.tensor(1.0), torch.tensor(math.inf))
    guard.note(2, torch.tensor(math.nan), torch.tensor(2.0))
    first = int(order.rows_B(1)[0])
    with pytest.raises(Diverged) as caught:
        guard.look()
    assert str(caught.value).startswith(
        "step 1: the loss, a gradient or a weight is not a number any more, with the crops "
    )
    assert f"{split.names[first]} (label {split.labels_N[first]})" in str(caught.value)
    assert "and 2 more; what was saved before is kept" in str(caught.value)


# memory and speed


@pytest.mark.parametrize("name", ["tiny", "mobilefacenet"])
def test_activations_are_counted_as_autograd_keeps_them(name: str) -> None:
    network = TINY if name == "tiny" else NETWORKS[name]
    module = build(network)
    weights = {parameter.data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() > 1 and tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = max(kept.get(tensor.data_ptr(), 0), tensor.numel())
        return tensor

    faces = 2
    x = torch.randn(faces, 3, network.input_size, network.input_size)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = module(x).sum()
    assert kept_values(network) * faces == pytest.approx(sum(kept.values()), rel=0.05)
    loss.backward()


def test_parameters_and_flops_of_iresnet50_are_the_known_ones() -> None:
    network = NETWORKS["iresnet50"]
    learned = sum(parameter.numel() for parameter in build(network).parameters())
    assert learned == pytest.approx(43.59e6, rel=1e-3)
    assert parameters(network) == pytest.approx(learned, rel=2e-3)
    assert training_flops(network, 0) == pytest.approx(37.81e9, rel=0.01)


def test_half_precision_halves_activations_alone() -> None:
    options = {"part": 16, "centres": 390, "columns": 390, "ema": False, "crops": 0}
    full = memory(NETWORKS["iresnet50"], half=False, **options)  # type: ignore[arg-type]
    half = memory(NETWORKS["iresnet50"], half=True, **options)  # type: ignore[arg-type]
    assert half["activations"] * 2 == full["activations"]
    assert half["gradients and momentum"] == full["gradients and momentum"]


def test_the_machine_has_a_rate() -> None:
    assert matmul_flops(CPU, "fp32") > 1e8


# embedding


def test_an_embedder_gives_unit_vectors_and_leaves_the_mode() -> None:
    torch.manual_seed(0)
    module = build(TINY).train()
    embed = embedder(module, CPU, batch=3)
    faces = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    whole = embed(faces)
    assert whole.dtype == np.float32
    assert whole.shape == (8, 16)
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    assert np.allclose(embed(faces[::-1])[::-1], whole, atol=1e-6)
    assert embed(faces[:0]).shape == (0, 16)
    assert module.training
