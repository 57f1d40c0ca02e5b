"""Classes shared out over two processes give what one process gives: values, gradients and steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.several_ranks import on_ranks
from train.settings import LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.collectives import gathered_rows
from train.sharding.ranks import Ranks
from train.sharding.rows import RowSgd

BATCH = 12
DIMENSIONS = 6
STEPS = 3


@dataclass(frozen=True)
class Case:
    loss: LossSettings = field(default_factory=LossSettings)
    classes: int = 7
    labels: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 6, 5, 0, 0, 1)


CASES = {
    "arcface": Case(),
    "softmax": Case(LossSettings(kind="softmax")),
    "norm_softmax with intra and inter": Case(LossSettings(kind="norm_softmax", intra=1.0, inter=1.0)),
    "softmax with intra and inter": Case(LossSettings(kind="softmax", intra=1.0, inter=1.0)),
    "adaface": Case(LossSettings(kind="adaface")),
    "triplet": Case(LossSettings(kind="triplet")),
    "arcface with triplet": Case(LossSettings(triplet=0.5)),
    "sub-centres": Case(LossSettings(sub_centers=3)),
    "a rank without a positive": Case(labels=(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3)),
    "unlabelled rows": Case(LossSettings(intra=1.0, inter=0.5), labels=(-1, 1, 2, -1, 4, 5, -1, 6, 5, -1, 0, 1)),
    "no labelled row": Case(labels=(-1,) * BATCH),
    "fewer classes than ranks": Case(LossSettings(intra=1.0, inter=1.0), classes=1, labels=(0,) * BATCH),
    "fewer classes than ranks, sub-centres": Case(LossSettings(sub_centers=2), classes=1, labels=(0,) * BATCH),
    "sampled": Case(LossSettings(sample_rate=0.4), classes=31, labels=(0, 1, 2, 3, 30, 29, -1, 1, 1, 0, 2, 30)),
    "sampled sub-centres": Case(LossSettings(sample_rate=0.5, sub_centers=2), classes=20),
    "sampled softmax": Case(LossSettings(kind="softmax", sample_rate=0.5), classes=20),
    "sampled with intra and inter": Case(LossSettings(sample_rate=0.5, intra=1.0, inter=1.0), classes=20),
    "more positives than the sample": Case(LossSettings(sample_rate=0.1)),
    "sampled, a rank with nothing to look at": Case(LossSettings(sample_rate=0.1), classes=8, labels=(0, 1) * 6),
}


def measure(ranks: Ranks, case: Case) -> dict[str, Tensor]:
    """Steps of training in float64; what must not depend on the number of ranks."""
    head = ClassCentres(case.classes, DIMENSIONS, case.loss, ranks, seed=3).double()
    if case.loss.kind == "adaface":
        head.statistics = head.statistics.float()
    named = dict(head.named_parameters())
    learner: Any
    if head.sampled:
        learner = RowSgd(named, momentum=0.9, weight_decay=0.01)
    else:
        learner = torch.optim.SGD(named.values(), lr=0.1, momentum=0.9, weight_decay=0.01)
    size = BATCH // ranks.size
    mine = slice(ranks.rank * size, (ranks.rank + 1) * size)
    random = torch.Generator().manual_seed(1)
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        faces = torch.randn(BATCH, DIMENSIONS, generator=random, dtype=torch.float64)[mine].requires_grad_()
        for value in named.values():
            value.grad = None
        output = head(faces, torch.tensor(case.labels)[mine], step=step)
        output.loss.backward()
        learner.step(0.1) if head.sampled else learner.step()
        assert faces.grad is not None
        found[f"loss {step}"] = output.loss.detach()
        found[f"accuracy {step}"] = output.accuracy
        found |= {f"{name} {step}": part for name, part in output.parts.items()}
        found[f"gradient {step}"] = ranks.gather(faces.grad) / ranks.size
    return found | {f"state {name}": value for name, value in head.whole_state(_momentum(named, learner)).items()}


def _momentum(named: dict[str, torch.nn.Parameter], learner: Any) -> dict[str, Tensor]:
    if isinstance(learner, RowSgd):
        return learner.momentum
    found = {name: learner.state[value].get("momentum_buffer") for name, value in named.items()}
    return {name: value if value is not None else torch.zeros_like(named[name]) for name, value in found.items()}


def everything(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """All that this file asks of two processes, because starting them takes longest."""
    cases = {name: measure(ranks, case) for name, case in CASES.items()}
    return {"cases": cases, "network": network_gradient(ranks), "talk": talk(ranks)}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return on_ranks(2, everything, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CASES)
def test_shards_give_what_one_process_gives(two: list[Any], name: str) -> None:
    expected = measure(Ranks.alone(), CASES[name])
    for found in (answers["cases"] for answers in two):
        assert found[name].keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-9, atol=1e-12, msg=lambda m, k=key: f"{k}: {m}")


def network_gradient(ranks: Ranks) -> Tensor:
    """Gradient of a network's weight, averaged over ranks as a data-parallel run does."""
    network = torch.nn.Linear(5, DIMENSIONS, bias=False).double()
    torch.nn.init.eye_(network.weight)
    head = ClassCentres(7, DIMENSIONS, LossSettings(), ranks, seed=3).double()
    size = BATCH // ranks.size
    inputs = torch.randn(BATCH, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels = torch.arange(BATCH) % 7
    mine = slice(ranks.rank * size, (ranks.rank + 1) * size)
    head(network(inputs[mine]), labels[mine], step=0).loss.backward()
    assert network.weight.grad is not None
    return ranks.mean_(network.weight.grad)


def test_the_mean_of_the_networks_gradients_is_the_gradient_of_the_whole_batch(two: list[Any]) -> None:
    for answers in two:
        torch.testing.assert_close(answers["network"], network_gradient(Ranks.alone()))


def talk(ranks: Ranks) -> dict[str, Any]:
    own = torch.full((2, 3), float(ranks.rank), requires_grad=True)
    rows = gathered_rows(own, ranks)
    (rows * torch.arange(4.0)[:, None]).sum().backward()
    assert own.grad is not None
    ranks.wait()
    return {
        "rows": rows.detach(),
        "grad": own.grad,
        "sum": ranks.sum_(torch.tensor([1.0, ranks.rank])),
        "max": ranks.max_(torch.tensor([float(ranks.rank)])),
        "told": ranks.broadcast_(torch.tensor([5.0 + ranks.rank])),
        "any": [ranks.any(False), ranks.any(ranks.rank == 1)],
        "first": ranks.first,
    }


def test_ranks_talk(two: list[Any]) -> None:
    first, second = (answers["talk"] for answers in two)
    torch.testing.assert_close(first["rows"], torch.tensor([0.0, 0, 1, 1])[:, None].expand(4, 3))
    # each rank's loss is one of two, both depend on a row: the sum of both times the number of ranks
    torch.testing.assert_close(second["grad"], torch.tensor([2.0, 3])[:, None].expand(2, 3) * 4)
    for found in (first, second):
        torch.testing.assert_close(found["sum"], torch.tensor([2.0, 1]))
        assert found["max"].item() == 1
        assert found["told"].item() == 5
        assert found["any"] == [False, True]
    assert (first["first"], second["first"]) == (True, False)
