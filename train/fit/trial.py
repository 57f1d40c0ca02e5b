"""A few steps on made-up pictures: how long a run will take, and whether it fits, before it reads a crop.

Enters: a plan. Leaves: seconds a step, and on a GPU the most memory that was taken.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from train.fit.crops import Part
from train.fit.device import device_troubles, prepare_device
from train.fit.graph import WARM, stepper
from train.fit.plan import Plan
from train.fit.rate import finish, matmul_flops
from train.fit.state import RunState

STEPS: Final = 2
"""Timed, after as many as a recording needs."""

LARGEST_FLOP: Final = 3e11
"""Of a trial's part on a processor, which does as much in a few seconds; a larger part is tried in small."""


@dataclass(frozen=True, slots=True)
class Trial:
    step_s: float
    """Seconds of a whole step, without evaluations and checkpoints."""
    crops: int
    """Of the part that was timed."""
    matmul_flops: float
    """The device's matrix products, multiplications and additions a second."""
    peak_bytes: int | None
    """Taken of a GPU's memory at most, without resident crops; None on a processor."""


def try_steps(plan: Plan) -> Trial:
    """Collective. The trial's weights are thrown away.

    Raises:
        DeviceFull: the memory does not hold the run.
    """
    device, share = plan.ranks.device, plan.order.share
    whole = plan.settings.run.batch // (share.parts * share.ranks)
    crops = whole if device.type == "cuda" else max(2, min(whole, int(LARGEST_FLOP / plan.flops)))
    prepare_device(plan)
    with device_troubles(plan):
        state = RunState(plan)
        part = _made_up(plan, crops)
        rate = torch.zeros((), device=device)
        trainer = stepper(state.trainer, plan.settings, plan.precision, plan.ranks)
        before = 1 if trainer is state.trainer else WARM + 1
        for step in range(before):
            trainer.step([part], step, rate)
        finish(device)
        start = time.perf_counter()
        for step in range(before, before + STEPS):
            trainer.step([part], step, rate)
        finish(device)
        seconds = (time.perf_counter() - start) / STEPS
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        return Trial(seconds * share.parts * whole / crops, crops, matmul_flops(device, plan.precision), peak)


def _made_up(plan: Plan, crops: int) -> Part:
    random = np.random.default_rng(0)
    side = plan.network.input_size
    return Part(
        torch.from_numpy(random.integers(0, 256, (crops, side, side, 3), dtype=np.uint8)).to(plan.ranks.device),
        torch.from_numpy(random.integers(0, 2, crops) == 1).to(plan.ranks.device),
        torch.from_numpy(random.integers(0, plan.classes, crops)).to(plan.ranks.device),
    )
