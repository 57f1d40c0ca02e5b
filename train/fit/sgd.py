"""SGD with momentum and weight decay on tensors that never move.

Enters: parameters by name. Leaves: a step that a CUDA graph can record: the learning rate is a tensor, the momentum is
there from the start. The sums are those of ``torch.optim.SGD`` (a test holds the two together); its momentum comes into
being at the first step, and its rate would be a number that a recorded step keeps for ever.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Sgd:
    """buffer = momentum * buffer + (gradient + decay * weight); weight -= rate * buffer."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, momentum: float, weight_decay: float) -> None:
        """
        Args:
            parameters: by name; those that do not learn are left out.
            momentum: in [0, 1).
            weight_decay: added to the gradient as a share of the weight.
        """
        self._parameters = {name: value for name, value in parameters.items() if value.requires_grad}
        self.momentum = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        """The buffers, by the names of the parameters."""
        self._share = momentum
        self._decay = weight_decay

    @property
    def gradients(self) -> list[Tensor]:
        """Of all parameters, in their order; zeros where nothing has been computed yet."""
        for value in self._parameters.values():
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        return [value.grad for value in self._parameters.values() if value.grad is not None]

    def clear(self) -> None:
        """All gradients to zero, where they lie."""
        if self._parameters:
            torch._foreach_zero_(self.gradients)

    def step(self, rate: Tensor) -> None:
        """
        Args:
            rate: float32 without a dimension, on the parameters' device.
        """
        weights: list[Tensor] = list(self._parameters.values())
        buffers = list(self.momentum.values())
        if not weights:
            return
        with torch.no_grad():
            torch._foreach_mul_(buffers, self._share)
            torch._foreach_add_(buffers, self.gradients)
            torch._foreach_add_(buffers, weights, alpha=self._decay)
            torch._foreach_add_(weights, torch._foreach_mul(buffers, -rate))

    def load(self, momentum: Mapping[str, Tensor]) -> None:
        """Buffers from a checkpoint: the same names and shapes."""
        for name, buffer in self.momentum.items():
            buffer.copy_(momentum[name])
