"""Frames on a device: brought there, and grey.

Enters: RGB frames of one size, as arrays or tensors anywhere. Leaves: one uint8 tensor on the device, and its grey.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pictures = Tensor | NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | Sequence[Tensor]
"""(B, H, W, 3) uint8 RGB, or B frames of one size."""


def on_device(pictures: Pictures, device: torch.device) -> Tensor:
    """(B, H, W, 3) on the device. A whole batch that lies there already is not copied, single frames are put together;
    pinned memory is not waited for.

    Raises:
        ValueError: another shape or type, or frames of several sizes.
    """
    if not isinstance(pictures, Tensor):
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError("frames of several sizes cannot go together; give those of one size")
        if len(pictures) and isinstance(pictures[0], Tensor):
            batch = torch.empty(len(pictures), *pictures[0].shape, dtype=pictures[0].dtype, device=device)
            for place, picture in zip(batch, pictures, strict=True):
                place.copy_(torch.as_tensor(picture), non_blocking=True)
            pictures = batch
        else:
            pictures = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    if pictures.dtype != torch.uint8 or pictures.dim() != 4 or pictures.shape[3] != 3:
        raise ValueError(f"frames must be uint8 (B, H, W, 3) RGB, but got {pictures.dtype} {tuple(pictures.shape)}")
    return pictures.to(device, non_blocking=True)


def grey_of(rgb_BHW3: Tensor) -> Tensor:
    """(B, H, W) uint8 luma, to the bit what cv2.cvtColor gives: weights of 15 bits, rounded."""
    red, green, blue = (channel.int() for channel in rgb_BHW3.unbind(-1))
    return ((red * 9798 + green * 19235 + blue * 3735 + (1 << 14)) >> 15).to(torch.uint8)
