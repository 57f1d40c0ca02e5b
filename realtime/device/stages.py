"""What each stage of a batch takes, on the device's own clock.

Enters: the ends of stages, in their order. Leaves: seconds by stage, summed. A GPU is timed by its events, so that
nothing waits for being timed; times are read when a batch is over.
"""

from __future__ import annotations

import time
from itertools import pairwise

import torch


class Stages:
    """Of one device; one thread at a time."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self.batches = 0
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[str, torch.cuda.Event | float]] = []

    def clear(self) -> None:
        """Forget what was measured."""
        self.seconds, self.batches = {}, 0

    def begin(self) -> None:
        self._marks = []
        self.end("")

    def end(self, stage: str) -> None:
        """Everything given to the device since the last mark belongs to ``stage``."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((stage, event))
        else:
            self._marks.append((stage, time.perf_counter()))

    def read(self) -> None:
        """Add up a batch whose results were read."""
        if self._on_gpu and self._marks:
            self._marks[-1][1].synchronize()  # type: ignore[union-attr]
        for (_, before), (stage, after) in pairwise(self._marks):
            self.seconds[stage] = self.seconds.get(stage, 0.0) + _between(before, after)
        self.batches += 1

    @property
    def shares(self) -> dict[str, float]:
        """Of the whole, the largest first; they sum to 1."""
        whole = sum(self.seconds.values()) or 1.0
        falling = sorted(self.seconds.items(), key=lambda each: -each[1])
        return {stage: seconds / whole for stage, seconds in falling}


def _between(before: torch.cuda.Event | float, after: torch.cuda.Event | float) -> float:
    if isinstance(before, float) or isinstance(after, float):
        return after - before  # type: ignore[operator]
    return float(before.elapsed_time(after)) / 1e3
