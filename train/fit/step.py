"""One step of training: forward, backward, clip, update.

Enters: a step's parts, on the device. Leaves: changed weights, and what the step cost, as tensors on the device.
Nothing in a step reads a value back (but for fp16, which must know whether its gradients overflowed), so that a GPU can
run ahead, and a CUDA graph can record the whole of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from train.fit.crops import Part, as_images
from train.fit.precision import LossScale, Precision, autocast
from train.fit.sgd import Sgd
from train.sharding.centres import ClassCentres, HeadOutput
from train.sharding.ranks import Ranks
from train.sharding.rows import RowSgd
from train.sharding.sampling import derived_seed

# M crops of a part; D embedding
TINY: Final = 1e-6
"""Added to the length of a gradient before it divides, as ``torch.nn.utils.clip_grad_norm_`` does."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """Means over the whole batch, on the device."""

    loss: Tensor
    accuracy: Tensor
    """Share of crops whose own class was the nearest."""
    gradient_norm: Tensor
    """Of the network, before it was shortened; 0 while the network is frozen, and of a step that fp16 left out."""
    parts: dict[str, Tensor]
    """Terms of the loss by name."""


class Trainer:
    """A network and its class centres, and how they learn."""

    def __init__(
        self,
        module: nn.Module,
        centres: ClassCentres,
        ranks: Ranks,
        *,
        momentum: float,
        weight_decay: float,
        clip_norm: float | None,
        precision: Precision,
        channels_last: bool,
        seed: int,
        dropout: bool,
    ) -> None:
        """
        Args:
            module: the network, on its device.
            centres: of this rank, on the same device.
            ranks: who shares the work.
            momentum: of SGD.
            weight_decay: of SGD.
            clip_norm: longest gradient of the network; None for any.
            precision: of the network's body.
            channels_last: memory layout of images.
            seed: of the run.
            dropout: the network draws random numbers.
        """
        self.module = module
        self.centres = centres
        self.ranks = ranks
        self.body = Sgd(dict(module.named_parameters()), momentum=momentum, weight_decay=weight_decay)
        head = RowSgd if centres.sampled else Sgd
        self.head = head(dict(centres.named_parameters()), momentum=momentum, weight_decay=weight_decay)
        self.scale = LossScale(precision)
        self.precision = precision
        self.channels_last = channels_last
        self._clip_norm = clip_norm
        self._seed = seed
        self._dropout = dropout
        self._statistics = [buffer for buffer in module.buffers() if buffer.is_floating_point()]

    def step(self, parts: Sequence[Part], step: int, rate: Tensor, *, frozen: bool = False) -> StepResult:
        """
        Args:
            parts: of this rank; all of one size.
            step: its number, of which the centres that are looked at and the dropout are functions.
            rate: learning rate, float32 without a dimension, on the device.
            frozen: the network stays as it is, norms included, and only the centres learn.

        Raises:
            Diverged: fp16 gradients overflow at every scale.
        """
        if self._dropout:
            torch.manual_seed(derived_seed(self._seed, "dropout", step, self.ranks.rank))
        if self.module.training == frozen:
            self.module.train(not frozen)
        self.body.clear()
        self.head.clear()
        outputs = [self._part(part, step, 1 / len(parts), frozen) for part in parts]
        norm = rate.new_zeros(()) if frozen else self._agreed_norm()
        if self.scale.saw(not self.scale.used or self._finite(norm)):
            self._shorten(norm)
            if not frozen:
                self.body.step(rate)
            self.head.step(rate)
        else:  # fp16 overflowed, which the next step mends
            norm = torch.zeros_like(norm)
        names = outputs[0].parts
        return StepResult(
            loss=torch.stack([output.loss.detach() for output in outputs]).mean(),
            accuracy=torch.stack([output.accuracy.detach() for output in outputs]).mean(),
            gradient_norm=norm,
            parts={name: torch.stack([output.parts[name].detach() for output in outputs]).mean() for name in names},
        )

    def _part(self, part: Part, step: int, weight: float, frozen: bool) -> HeadOutput:
        """Forward and backward of one part; gradients add up over the parts."""
        images = as_images(part.crops_MSSC, part.flips_M, channels_last=self.channels_last)
        with torch.set_grad_enabled(not frozen), autocast(self.precision, images.device):
            embeddings_MD = self.module(images)
        output: HeadOutput = self.centres(embeddings_MD.float(), part.labels_M, step=step)
        torch.autograd.backward(output.loss * (weight * self.scale.scale))
        return output

    def _agreed_norm(self) -> Tensor:
        """Gradients and norms' statistics become their means over ranks; the gradient's length without the scale."""
        gradients = self.body.gradients
        if self.ranks.size > 1:
            average([*gradients, *self._statistics], self.ranks)
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        return norm / self.scale.scale

    def _shorten(self, norm: Tensor) -> None:
        """Take the scale out of all gradients, and what is too much out of the network's."""
        unscale = 1 / self.scale.scale
        if self.scale.used and self.head.gradients:
            torch._foreach_mul_(self.head.gradients, unscale)
        if self._clip_norm is not None:
            torch._foreach_mul_(self.body.gradients, (self._clip_norm / (norm + TINY)).clamp(max=1.0) * unscale)
        elif self.scale.used:
            torch._foreach_mul_(self.body.gradients, unscale)

    def _finite(self, norm: Tensor) -> bool:
        """Whether no rank has a gradient that is infinite or NaN; waits for the device."""
        gradients = self.head.gradients
        lengths = torch.stack([norm, *(torch._foreach_norm(gradients) if gradients else ())])
        return not self.ranks.any(not bool(torch.isfinite(lengths).all()))


def average(values: Sequence[Tensor], ranks: Ranks) -> None:
    """Each tensor becomes its mean over ranks: one message for all of them."""
    flat = ranks.mean_(torch.cat([value.reshape(-1) for value in values]))
    pieces = torch.split(flat, [value.numel() for value in values])
    with torch.no_grad():
        torch._foreach_copy_(list(values), [piece.view_as(value) for piece, value in zip(pieces, values, strict=True)])
