"""A torch network as the function that evaluation calls: uint8 faces in, embeddings of unit length out.

Enters: a module, in training or not. Leaves: a callable; the module's mode is as it was after each call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from train.fit.crops import as_images
from train.fit.precision import Precision, autocast
from train.prepared import Embed

# N faces; S side, pixels; D embedding


def embedder(module: nn.Module, device: torch.device, precision: Precision = "fp32", batch: int = 256) -> Embed:
    """
    Args:
        module: (N, 3, S, S) float to (N, D), on ``device``.
        device: where it computes.
        precision: of the network's body.
        batch: faces at a time.

    Returns:
        (N, S, S, 3) uint8 RGB, any strides, N >= 0, to (N, D) float32 of unit length.
    """
    channels_last = device.type == "cuda"

    def embed(faces_NSSC: NDArray[Any]) -> NDArray[np.float32]:
        training = module.training
        module.eval()
        try:
            with torch.no_grad(), autocast(precision, device):
                pieces = [one(faces_NSSC[start : start + batch]) for start in range(0, max(1, len(faces_NSSC)), batch)]
        finally:
            module.train(training)
        return np.concatenate(pieces)

    def one(faces_NSSC: NDArray[Any]) -> NDArray[np.float32]:
        crops_NSSC = torch.from_numpy(np.array(faces_NSSC)).to(device)
        flips_N = torch.zeros(len(crops_NSSC), dtype=torch.bool, device=device)
        embeddings_ND = module(as_images(crops_NSSC, flips_N, channels_last=channels_last)).float()
        unit: NDArray[np.float32] = functional.normalize(embeddings_ND, dim=1).cpu().numpy()
        return unit

    return embed
