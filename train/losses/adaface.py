"""AdaFace's margin: wide for a clear face, narrow for a blurred one, read off the length of the raw embedding.

Enters: the lengths of a batch's embeddings before they are normalised, and running statistics of such lengths. Leaves:
a quality for each row and, from it, the row's m2 and m3. The statistics are a tensor of two that the caller keeps.

Source: Kim, Jain and Liu, AdaFace (CVPR 2022, arXiv 2204.00964), section 3.3 and the authors' head.py, whose figures
these are.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from train.losses.margins import Margin

# B embeddings of a batch; statistics_2: mean and standard deviation of lengths

CONCENTRATION: Final = 0.333
"""h: qualities of most rows lie within +-1 then."""
UPDATE: Final = 0.01
"""Weight of a new batch in the statistics."""
SHORTEST: Final = 1e-3
LONGEST: Final = 100.0
START: Final = (20.0, 100.0)
"""Mean and standard deviation before the first batch: no row stands out."""


def first_statistics(device: torch.device | str = "cpu") -> Tensor:
    """(2,) float32; keep it as a buffer, it belongs to a checkpoint."""
    return torch.tensor(START, device=device)


def updated_statistics(statistics_2: Tensor, norms_B: Tensor) -> Tensor:
    """Running mean and standard deviation after one more batch, (2,) float32.

    Args:
        statistics_2: as they were.
        norms_B: lengths of the raw embeddings of all ranks; at least 2.
    """
    lengths_B = norms_B.detach().float().clamp(SHORTEST, LONGEST)
    new_2 = torch.stack([lengths_B.mean(), lengths_B.std()])
    return torch.lerp(statistics_2, new_2, UPDATE)


def quality(norms_B: Tensor, statistics_2: Tensor) -> Tensor:
    """(B,) float32 in [-1, 1]: how far a length stands out; no gradient."""
    mean, deviation = statistics_2.detach().float().unbind()
    lengths_B = norms_B.detach().float().clamp(SHORTEST, LONGEST)
    return torch.clamp((lengths_B - mean) / (deviation + SHORTEST) * CONCENTRATION, -1, 1)


def row_margins(quality_B: Tensor, margin: Margin) -> tuple[Tensor, Tensor]:
    """m2 = -m q and m3 = m + m q for each row: q = -1 is ArcFace's margin, q = 0 CosFace's (equation 12)."""
    return -margin.m2 * quality_B, margin.m3 * (1 + quality_B)
