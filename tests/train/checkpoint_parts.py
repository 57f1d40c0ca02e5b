"""A small run's state for tests of what keeps it and reads it."""

from __future__ import annotations

from typing import Any

import torch

from engines.networks import Network, build
from train.checkpoints import Checkpoint, SetFacts
from train.settings import FitSettings, LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks

NETWORK = Network(name="tiny", family="iresnet", blocks=(1, 1, 1, 1), width=4, dimensions=8, input_size=32)
SUBJECTS = ("ann", "bob", "cem", "dörte", "eve")


def small_checkpoint(network: Network = NETWORK, **changes: Any) -> Checkpoint:
    """After some steps; ``changes`` are of the checkpoint's fields."""
    torch.manual_seed(0)
    module = build(network)
    loss = LossSettings(sub_centers=2)
    head = ClassCentres(len(SUBJECTS), network.dimensions, loss, Ranks.alone(), seed=1)
    learning = {name: value for name, value in module.named_parameters() if value.requires_grad}
    whole: dict[str, Any] = {
        "settings": FitSettings(loss=loss),
        "network": network,
        "data": SetFacts(name="faces", digest="d" * 64, template="arcface_112", size=32, subjects=SUBJECTS),
        "step": 12,
        "backbone": module.state_dict(),
        "momentum": {name: torch.randn_like(value) for name, value in learning.items()},
        "centres": head.whole_state({"weight": torch.randn_like(head.weight)}),
        "scale": {"scale": 1024.0, "calm": 3.0},
        "notes": {"best": 0.5, "gate": {"before": None}},
    }
    return Checkpoint(**whole | changes)
