"""A run that has left the numbers, stopped at the batch that did it.

Enters: loss and length of the gradient of each step. Leaves: ``Diverged`` with the step and the crops in it. The look
is taken on the device and fetched every few steps, so that a GPU need not wait for it; the first bad step is
remembered, and its crops are a function of its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from train.errors import Diverged
from train.fit.order import Order
from train.prepared import Split

SHOWN: Final = 8
"""Crops of the batch that the sentence names; all of its rows can be computed again from the step."""

GPU_STEPS: Final = 20
"""Between two looks on a GPU; a look makes it wait."""


class Guard:
    """Remembers the first step whose loss or gradient is NaN or infinite."""

    def __init__(self, device: torch.device, order: Order, split: Split) -> None:
        self._bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._order = order
        self._split = split
        self.every = GPU_STEPS if device.type == "cuda" else 1
        """Steps between two looks."""

    def note(self, step: int, loss: Tensor, gradient_norm: Tensor) -> None:
        """Of a finished step; without waiting for the device."""
        wrong = ~torch.isfinite(loss.detach() + gradient_norm.detach())
        self._bad = torch.where(wrong & (self._bad < 0), step, self._bad)

    def look(self) -> None:
        """
        Raises:
            Diverged: a noted step was bad.
        """
        bad = int(self._bad.item())
        if bad >= 0:
            raise Diverged(self.sentence(bad))

    def look_at(self, weights: Sequence[Tensor], step: int) -> None:
        """Before they are kept: the last step's loss says nothing of what it has made of the weights.

        Raises:
            Diverged: ``step`` has put something into them that is no number.
        """
        with torch.no_grad():
            lengths = torch.stack(torch._foreach_norm(list(weights)))
        if not bool(torch.isfinite(lengths).all()):
            raise Diverged(self.sentence(step))

    @contextmanager
    def over(self, step: int) -> Iterator[None]:
        """Around a step: one that gives up by itself, in fp16, names its crops as well."""
        try:
            yield
        except Diverged as err:
            raise Diverged(self.sentence(step)) from err

    def sentence(self, step: int) -> str:
        """Which crops were in a step, and what to do."""
        rows_B = self._order.rows_B(step)
        named = ", ".join(
            f"{self._split.names[row]} (label {self._split.labels_N[row]})" for row in rows_B[:SHOWN].tolist()
        )
        more = f" and {len(rows_B) - SHOWN} more" if len(rows_B) > SHOWN else ""
        return (
            f"step {step}: the loss, a gradient or a weight is not a number any more, with the crops {named}{more}; "
            "what was saved before is kept: look at these crops, or lower optimiser.lr, set optimiser.clip_norm or "
            "another run.precision"
        )
