"""The pretended GPU notices what it is there for, and what runs on a real one passes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engines.networks import build
from tests.pretended_gpu import moved, pretended_gpu
from train.fit.crops import Part
from train.fit.step import Trainer
from train.losses.table import ROWS, Row
from train.networks import network_of
from train.settings import load_fit_settings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks

SMALL = ("network.name=custom", "network.blocks=[1,1,1,1]", "network.width=8", "network.dimensions=16")


def test_tensors_of_two_devices_are_refused() -> None:
    with pretended_gpu() as device, pytest.raises(RuntimeError, match="device"):
        torch.empty(3, device=device) + torch.empty(3)


@pytest.mark.parametrize(
    "wait", [lambda x: bool(x.sum() > 0), lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0]]
)
def test_waiting_for_the_device_is_refused(wait: Callable[[Tensor], object]) -> None:
    with pretended_gpu() as device, pytest.raises(Exception, match="aten"):
        wait(torch.empty(3, device=device))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_a_step_of_every_loss_can_be_recorded(row: Row) -> None:
    settings = load_fit_settings(None, [*SMALL, *row.overrides])
    module = build(network_of(settings.network, input_size=32)).to(memory_format=torch.channels_last)
    with pretended_gpu() as device:
        ranks = Ranks.alone(str(device))
        trainer = Trainer(
            moved(module, device),
            ClassCentres(50, 16, settings.loss, ranks, seed=1),
            ranks,
            momentum=0.9,
            weight_decay=5e-4,
            clip_norm=5.0,
            precision="fp32",
            channels_last=True,
            seed=1,
            dropout=False,
        )
        crops_MSSC = torch.empty(8, 32, 32, 3, dtype=torch.uint8, device=device)
        flips_M = torch.empty(8, dtype=torch.bool, device=device)
        labels_M = torch.empty(8, dtype=torch.int64, device=device)
        result = trainer.step([Part(crops_MSSC, flips_M, labels_M)], 0, torch.empty((), device=device))
    assert result.loss.device == device
