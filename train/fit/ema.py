"""A running mean of the weights, which is often the better network.

Enters: a module after each step. Leaves: the mean, to be put in its place for an evaluation or a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """mean = d * mean + (1 - d) * weight over parameters and the statistics of norms.

    d is the decay, but (1 + t) / (10 + t) while that is less: the fresh weights of the first steps would stay in the
    mean for long.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = float_state(module)
        self.mean = {name: value.detach().clone() for name, value in self._live.items()}

    def decay_at(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))

    def update(self, step: int) -> None:
        """After step ``step``, counted from 0."""
        with torch.no_grad():
            weight = 1 - self.decay_at(step)
            torch._foreach_lerp_(list(self.mean.values()), list(self._live.values()), weight)

    def load(self, mean: Mapping[str, Tensor]) -> None:
        """From a checkpoint: the same names and shapes."""
        with torch.no_grad():
            for name, value in self.mean.items():
                value.copy_(mean[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module with the mean as its weights; its own come back bit by bit."""
        kept = {name: value.detach().clone() for name, value in self._live.items()}
        try:
            _copy(self._live, self.mean)
            yield
        finally:
            _copy(self._live, kept)


def float_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and floating buffers by name: what training changes, but for counters."""
    return {name: value for name, value in module.state_dict(keep_vars=True).items() if value.is_floating_point()}


def _copy(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in into.items():
            value.copy_(values[name])
