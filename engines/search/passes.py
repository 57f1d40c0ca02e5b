"""What reads coarse rows, in plain torch: the best score of each group of rows, and the scores of some groups.

Enters: ``Rows`` and probes of the same kind. Leaves: float32 scores, without the probes' own scales. ``triton_passes``
does the same in kernels that write no more than that; this is what they are held to, and what runs without Triton.
"""

from __future__ import annotations

from typing import Final, Protocol

import torch
from torch import Tensor

from engines.search.rows import GROUP, Rows

# P probes; Q padded rows, G groups of them, C groups that were chosen; W numbers of a padded row
CHUNK: Final = 1 << 16
"""Rows at a time: 128 MB of float32."""


class Passes(Protocol):
    """How coarse rows are read."""

    def maxima(self, rows: Rows, probes_PW: Tensor) -> Tensor:
        """(P, G) best scores; probes int8 or float16. Rows beyond the last count as -inf."""

    def scores(self, rows: Rows, probes_PW: Tensor, chosen_PC: Tensor) -> Tensor:
        """(P, C * GROUP) scores of the rows of each probe's chosen groups (int64)."""


class TorchPasses:
    """Sums of int8 products below 2^24 are exact in float32, up to 1,040 numbers a row."""

    def maxima(self, rows: Rows, probes_PW: Tensor) -> Tensor:
        best = []
        for start in range(0, len(rows.coarse_QW), CHUNK):
            place = slice(start, start + CHUNK)
            scores_PQ = probes_PW.float() @ rows.coarse_QW[place].float().T * rows.scales_Q[place]
            row_Q = torch.arange(start, start + scores_PQ.shape[1], device=rows.device)
            scores_PQ = scores_PQ.masked_fill(row_Q >= rows.count, -torch.inf)
            best.append(scores_PQ.view(len(probes_PW), -1, GROUP).amax(dim=2))
        return torch.cat(best, dim=1)

    def scores(self, rows: Rows, probes_PW: Tensor, chosen_PC: Tensor) -> Tensor:
        row_PR = rows_of(chosen_PC)
        sums_PR = torch.einsum("prw,pw->pr", rows.coarse_QW[row_PR].float(), probes_PW.float())
        return (sums_PR * rows.scales_Q[row_PR]).masked_fill(row_PR >= rows.count, -torch.inf)


def rows_of(groups_PC: Tensor) -> Tensor:
    """(P, C * GROUP) int64: the rows of groups."""
    lane = torch.arange(GROUP, device=groups_PC.device)
    return (groups_PC[:, :, None] * GROUP + lane).flatten(1)
