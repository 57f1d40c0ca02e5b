"""What the steps since the last line of the log did, and how fast.

Enters: results of steps, as tensors on the device. Leaves: figures; only then is anything fetched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from train.fit.plan import Plan
from train.fit.precision import Precision
from train.fit.rate import matmul_flops
from train.fit.step import StepResult


class Meter:
    """Means of loss and accuracy, and crops a second, since the last line of the log."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._peak = _matmul_flops(plan.ranks.device, plan.precision) * plan.ranks.size
        self._sums = torch.zeros(3, device=plan.ranks.device)
        self._terms: dict[str, Tensor] = {}
        self._count = 0
        self._away = 0.0
        self._start = time.perf_counter()

    def add(self, result: StepResult) -> None:
        """A step; nothing is fetched from the device."""
        self._sums = self._sums + torch.stack([result.loss, result.accuracy, result.gradient_norm])
        for name, value in result.parts.items():
            self._terms[name] = self._terms.get(name, 0) + value
        self._count += 1

    @contextmanager
    def away(self) -> Iterator[None]:
        """Time that is not spent on steps."""
        start = time.perf_counter()
        yield
        self._away += time.perf_counter() - start

    def figures(self, step: int, rate: float) -> dict[str, Any]:
        """Of the steps since the last call."""
        loss, accuracy, norm = (self._sums / max(1, self._count)).tolist()
        seconds = time.perf_counter() - self._start - self._away
        images_s = self._count * self._plan.order.batch / seconds
        terms = {name: float(value) / self._count for name, value in self._terms.items()}
        self._clear()
        return {
            "epoch": step / self._plan.order.steps,
            "loss": loss,
            "accuracy": accuracy,
            "gradient_norm": norm,
            "lr": rate,
            "images_s": images_s,
            "share_of_matmul": images_s * self._plan.flops / self._peak,
            **({"terms": terms} if len(terms) > 1 else {}),
        }

    def _clear(self) -> None:
        self._sums = torch.zeros_like(self._sums)
        self._terms = {}
        self._count = 0
        self._away = 0.0
        self._start = time.perf_counter()


@lru_cache(maxsize=4)
def _matmul_flops(device: torch.device, precision: Precision) -> float:
    return matmul_flops(device, precision)
