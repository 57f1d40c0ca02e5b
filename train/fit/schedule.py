"""The learning rate of every step, in closed form.

Enters: a run's options and its number of steps. Leaves: a function of the step, which a resumed run calls as well.
Warm-up and polynomial are those of arcface_torch's ``PolynomialLRWarmup`` (its lr_scheduler.py): t / W, then
(1 - (t - W) / (T - W)) ** power.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from train.settings import OptimiserSettings, ScheduleSettings

REFERENCE_LR: Final = 0.02
REFERENCE_BATCH: Final = 128
"""insightface's configurations for one GPU."""

LOUD: Final = 4.0
"""How many times the reference's rate an image is worth a warning."""


def _polynomial(share: float, power: float) -> float:
    return float((1 - share) ** power)


def _cosine(share: float, power: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


def _constant(share: float, power: float) -> float:
    return 1.0


SHAPES: Final[dict[str, Callable[[float, float], float]]] = {
    "polynomial": _polynomial,
    "cosine": _cosine,
    "constant": _constant,
}
"""How the rate falls over the share of the run after the warm-up, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    lr: float
    """The highest."""
    steps: int
    """T: of the whole run."""
    warmup: int
    """W: steps in which the rate rises from 0."""
    kind: str
    power: float

    def at(self, step: int) -> float:
        """Learning rate of a step, 0 <= step < steps."""
        if step < self.warmup:
            return self.lr * step / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * SHAPES[self.kind](min(share, 1.0), self.power)


def schedule_of(schedule: ScheduleSettings, optimiser: OptimiserSettings, steps_an_epoch: int) -> Schedule:
    """The schedule of a run."""
    return Schedule(
        lr=optimiser.lr,
        steps=schedule.epochs * steps_an_epoch,
        warmup=in_steps(schedule.warmup_epochs, steps_an_epoch),
        kind=schedule.kind,
        power=schedule.power,
    )


def in_steps(epochs: float, steps_an_epoch: int) -> int:
    """A number of epochs, which may be a fraction, in whole steps."""
    return round(epochs * steps_an_epoch)


def lr_warning(lr: float, batch: int) -> str | None:
    """What to think of a rate that is far above insightface's for as many images (its issues #1395, #1455)."""
    like = REFERENCE_LR * batch / REFERENCE_BATCH
    if lr <= LOUD * like:
        return None
    return (
        f"optimiser.lr {lr:g} at batch {batch} is {lr / like:.3g} times insightface's rate an image ({REFERENCE_LR} at "
        f"{REFERENCE_BATCH}); its equal is {like:.2g}"
    )
