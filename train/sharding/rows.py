"""SGD for centres of which a step has looked at some only.

Enters: parameters whose gradient is sparse: the rows that took part. Leaves: these rows changed. A gradient with zeros
in the other rows is not the same: momentum and weight decay would go on moving centres that the step has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

# R rows that took part; D embedding


class RowSgd:
    """buffer = momentum * buffer + (gradient + decay * weight); weight -= rate * buffer, in the rows that took part.

    A row sums as ``torch.optim.SGD`` does, as if the steps in which it took part were all there are.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, momentum: float, weight_decay: float) -> None:
        """
        Args:
            parameters: by name, of a ``ClassCentres`` with a ``sample_rate`` below 1.
            momentum: in [0, 1).
            weight_decay: added to the gradient as a share of the weight.
        """
        self._parameters = dict(parameters)
        self.momentum = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        """The buffers, by the names of the parameters; (rows, D) as the parameters."""
        self._share = momentum
        self._decay = weight_decay

    @property
    def gradients(self) -> list[Tensor]:
        """(R, D) of the rows that took part, parameter by parameter; none where nothing was computed."""
        found = []
        for value in self._parameters.values():
            if value.grad is not None:
                value.grad = value.grad.coalesce()
                found.append(value.grad.values())
        return found

    def clear(self) -> None:
        """Forget the gradients."""
        for value in self._parameters.values():
            value.grad = None

    def step(self, rate: Tensor | float) -> None:
        """
        Args:
            rate: learning rate; a tensor without a dimension, or a number.
        """
        with torch.no_grad():
            for name, weight in self._parameters.items():
                if weight.grad is None:
                    continue
                grad = weight.grad.coalesce()
                rows_R = grad.indices()[0]
                own_RD = weight[rows_R]
                buffer_RD = self.momentum[name][rows_R] * self._share + grad.values() + own_RD * self._decay
                self.momentum[name][rows_R] = buffer_RD
                weight[rows_R] = own_RD - buffer_RD * rate

    def load(self, momentum: Mapping[str, Tensor]) -> None:
        """Buffers from a checkpoint: the same names and shapes."""
        for name, buffer in self.momentum.items():
            buffer.copy_(momentum[name])
