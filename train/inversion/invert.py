"""Images drawn out of a network's weights alone.

Enters: a network, whom to draw, a seed. Leaves: ``Inverted``: pictures and the cosine that each reaches. They start as
noise; Adam lowers identity loss + .05 norm distance + 1e-3 total variation + 1e-4 length.

Source: ArcFace (arXiv 1801.07698v4), section 3.6: x from N(0, 1), Adam with lr .25, norms in eval mode, 20,000 steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.fit.crops import MEAN, as_images
from train.inversion.norms import NormDistance
from train.inversion.targets import Target

# B images; S side, pixels; 3 channels RGB; T steps done
LR: Final = 0.25
NORM_WEIGHT: Final = 0.05
VARIATION_WEIGHT: Final = 1e-3
LENGTH_WEIGHT: Final = 1e-4

Progress = Callable[[int, int], object]
"""Told (steps done, steps in all)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Inverted:
    """What was drawn."""

    pictures_BSS3: NDArray[np.uint8]
    """RGB."""
    cosines_B: NDArray[np.float32]
    """Of each picture's embedding, as a file would hold it, to its target."""
    noise_cosines_B: NDArray[np.float32]
    """Of the noise that each began as."""
    losses_T: NDArray[np.float32]
    """Whole loss before each step."""
    stopped: bool
    """Ctrl-C came before the last step."""


def invert(
    module: nn.Module,
    target: Target,
    *,
    images: int,
    size: int,
    steps: int,
    seed: int = 1,
    progress: Progress | None = None,
) -> Inverted:
    """Draw; Ctrl-C ends it with what there is.

    Args:
        module: (B, 3, S, S) float in [-1, 1] to (B, D), on any device; left in the mode it was in.
        target: whom each of the images is to show; on the same device.
        images: B.
        size: S.
        steps: at most.
        seed: of the noise.
        progress: see ``Progress``.
    """
    random = torch.Generator().manual_seed(seed)
    device = next(module.parameters()).device
    drawn_B3SS = torch.randn(images, 3, size, size, generator=random).to(device).requires_grad_()
    optimiser = torch.optim.Adam([drawn_B3SS], lr=LR)
    losses: list[float] = []
    stopped = False
    was_training, wanted = module.training, [value.requires_grad for value in module.parameters()]
    module.eval().requires_grad_(False)
    try:
        noise_cosines = _judged(module, target, as_pictures(drawn_B3SS))
        with NormDistance(module) as norms:
            for step in range(steps):
                optimiser.zero_grad()
                loss = whole_loss(module, norms, target, drawn_B3SS)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                losses.append(float(loss.detach()))
                if progress is not None:
                    progress(step + 1, steps)
    except KeyboardInterrupt:
        if not losses:
            raise
        stopped = True
    finally:
        module.train(was_training)
        for value, need in zip(module.parameters(), wanted, strict=True):
            value.requires_grad_(need)
    pictures_BSS3 = as_pictures(drawn_B3SS)
    return Inverted(
        pictures_BSS3=pictures_BSS3,
        cosines_B=_judged(module, target, pictures_BSS3),
        noise_cosines_B=noise_cosines,
        losses_T=np.array(losses, dtype=np.float32),
        stopped=stopped,
    )


def whole_loss(module: nn.Module, norms: NormDistance, target: Target, images_B3SS: Tensor) -> Tensor:
    """Scalar."""
    identity = target.loss(module(images_B3SS))
    return (
        identity
        + NORM_WEIGHT * norms.take()
        + VARIATION_WEIGHT * total_variation(images_B3SS)
        + LENGTH_WEIGHT * length(images_B3SS)
    )


def total_variation(images_B3SS: Tensor) -> Tensor:
    """Sum of the absolute differences of neighbours, across and down, mean over the images."""
    across = (images_B3SS[..., :, 1:] - images_B3SS[..., :, :-1]).abs().sum()
    down = (images_B3SS[..., 1:, :] - images_B3SS[..., :-1, :]).abs().sum()
    return (across + down) / len(images_B3SS)


def length(images_B3SS: Tensor) -> Tensor:
    """l2 norm of an image, mean over the images."""
    norms_B: Tensor = torch.linalg.vector_norm(images_B3SS.flatten(1), dim=1)
    return norms_B.mean()


def as_pictures(images_B3SS: Tensor) -> NDArray[np.uint8]:
    """(B, S, S, 3) RGB; what is brighter or darker than a picture can be is cut off."""
    shown = (images_B3SS.detach() * MEAN + MEAN).round().clamp(0, 255).to(torch.uint8)
    pictures: NDArray[np.uint8] = shown.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pictures


def _judged(module: nn.Module, target: Target, pictures_BSS3: NDArray[Any]) -> NDArray[np.float32]:
    """Cosines of pictures as they would be read from a file."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            crops = torch.from_numpy(pictures_BSS3).to(next(module.parameters()).device)
            still = torch.zeros(len(crops), dtype=torch.bool, device=crops.device)
            embeddings_BD = module(as_images(crops, still, channels_last=False))
            cosines_B: NDArray[np.float32] = target.cosine(embeddings_BD).cpu().numpy()
    finally:
        module.train(was_training)
    return cosines_B
