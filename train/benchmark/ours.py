"""Our own steps on made-up crops, as a run takes them.

Enters: a network, a number of classes, a device, how the steps are taken. Leaves: a call that trains one step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engines.networks import Network, build
from train.benchmark.plain import Step
from train.fit.crops import Part
from train.fit.graph import RecordedTrainer
from train.fit.precision import Precision
from train.fit.step import Trainer
from train.settings import LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks


def our_step(
    network: Network,
    classes: int,
    device: torch.device,
    *,
    precision: Precision,
    recorded: bool = False,
    compiled: bool = False,
    rate: float = 0.02,
) -> Step:
    """
    Args:
        network: trained from scratch, the same weights at each call.
        classes: of the head.
        device: to train on.
        precision: of the network's body.
        recorded: a whole step is one CUDA graph.
        compiled: torch.compile makes the body's kernels.
        rate: learning rate.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = build(network)
    on_gpu = device.type == "cuda"
    if on_gpu:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = module.to(device)
    if compiled:
        module.compile()
    ranks = Ranks.alone(device)
    trainer = Trainer(
        module,
        ClassCentres(classes, network.dimensions, LossSettings(), ranks, seed=1),
        ranks,
        momentum=0.9,
        weight_decay=5e-4,
        clip_norm=5.0,
        precision=precision,
        channels_last=on_gpu,
        seed=1,
        dropout=False,
    )
    steps = RecordedTrainer(trainer) if recorded else trainer
    done, speed = 0, torch.full((), rate, device=device)

    def step(part: Part) -> Tensor:
        nonlocal done
        done += 1
        return steps.step([part], done, speed).loss

    return step


def made_up(batch: int, side: int, classes: int, device: torch.device, *, seed: int = 0) -> Part:
    """Crops of noise, flips and labels, on the device."""
    random = np.random.default_rng(seed)
    return Part(
        torch.from_numpy(random.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)).to(device),
        torch.from_numpy(random.integers(0, 2, batch) == 1).to(device),
        torch.from_numpy(random.integers(0, classes, batch)).to(device),
    )
