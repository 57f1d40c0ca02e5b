"""From score maps to boxes on the device, while the host waits for nothing.

Enters: the maps of several frames of one size, and what box each cell stands for. Leaves: a fixed number of places for
boxes a frame, the better ones first, and whether they sufficed. Every step has shapes that do not depend on what is in
the frames, so that it can be recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

CANDIDATES: Final = 512
"""Cells of a frame that are looked at: a face has 10 to 27 above the limit in group photos."""

PLACES: Final = 64
"""Boxes of a frame."""

ROUNDS: Final = 6
"""Of suppression. Each settles the boxes whose better neighbours are settled; group photos need 2."""

HEAD: Final = 5 * PLACES + 2
"""Values of a frame before its map: boxes, scores, count, whether the places were too few."""

_INDICES: Final = 1 << 32
"""An index takes the lower half of a key."""

# B frames; M cells of a map; C candidates; K places; 4 = x1, y1, x2, y2


@dataclass(frozen=True, slots=True)
class Rules:
    """What a cell's score means."""

    boxes_M4: torch.Tensor
    """float32, whole pixels."""
    nms_iou: float
    nms_covered: float


def decoded(maps_BM: torch.Tensor, least: torch.Tensor, rules: Rules) -> torch.Tensor:
    """Boxes of each frame.

    Args:
        maps_BM: float32.
        least: one float32; scores at or below it are left out.
        rules: on the same device.

    Returns:
        (B, HEAD + M) float32: boxes (K, 4), scores (K,), how many there are, 1 where the places did not suffice and the
        frame must be decoded from its map, which follows.
    """
    scores_BC, cells_BC, too_many_B = best(maps_BM, least)
    boxes_BC4 = rules.boxes_M4[cells_BC]
    kept_BC, settled_B = suppressed(boxes_BC4, scores_BC > least, rules)
    counts_B = kept_BC.sum(dim=1)
    short_B = too_many_B | ~settled_B | (counts_B > PLACES)
    place_BC = (kept_BC.cumsum(dim=1) - 1).masked_fill(~kept_BC, PLACES).clamp(max=PLACES)
    boxes_BK4 = boxes_BC4.new_zeros(len(maps_BM), PLACES + 1, 4)
    boxes_BK4 = boxes_BK4.scatter(1, place_BC[:, :, None].expand(-1, -1, 4), boxes_BC4)[:, :PLACES]
    scores_BK = scores_BC.new_zeros(len(maps_BM), PLACES + 1).scatter(1, place_BC, scores_BC)[:, :PLACES]
    ends_B2 = torch.stack([counts_B.clamp(max=PLACES), short_B], dim=1).to(torch.float32)
    return torch.cat([boxes_BK4.flatten(1), scores_BK, ends_B2, maps_BM], dim=1)


def best(maps_BM: torch.Tensor, least: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The highest scores of each frame, equal ones in the order of the cells.

    Returns:
        Scores (B, C), at or below ``least`` where there are no more; cells (B, C); whether more were above (B,).
    """
    above_BM = maps_BM > least
    # one whole number a cell: rising with the score, and among equals falling with the cell, so that none are equal
    bits_BM = (maps_BM + 0.0).view(torch.int32)
    rising_BM = torch.where(bits_BM < 0, bits_BM ^ 0x7FFFFFFF, bits_BM).to(torch.int64)
    cells_M = torch.arange(maps_BM.shape[1], device=maps_BM.device)
    keys_BM = rising_BM.masked_fill(~above_BM, -(1 << 31)) * _INDICES + (_INDICES - 1 - cells_M)
    keys_BC = keys_BM.topk(min(CANDIDATES, maps_BM.shape[1]), dim=1).values
    cells_BC = _INDICES - 1 - (keys_BC & (_INDICES - 1))
    scores_BC = torch.where(above_BM.gather(1, cells_BC), maps_BM.gather(1, cells_BC), least)
    return scores_BC, cells_BC, above_BM.sum(dim=1) > CANDIDATES


def suppressed(boxes_BC4: torch.Tensor, there_BC: torch.Tensor, rules: Rules) -> tuple[torch.Tensor, torch.Tensor]:
    """Which boxes no better one that stays overlaps, best first; and whether that is certain, by frame.

    As ``engines.dlib.detector.suppress``: the greedy choice is the one that agrees with itself, and it is approached
    from all boxes in rounds. Where the last round changed nothing it has been reached.
    """
    hidden_BCC = overlapping(boxes_BC4, rules).tril(-1) & there_BC[:, None]
    kept_BC = before_BC = there_BC
    for _ in range(ROUNDS):
        before_BC, kept_BC = kept_BC, there_BC & ~(hidden_BCC & kept_BC[:, None]).any(dim=2)
    return kept_BC, (before_BC == kept_BC).all(dim=1)


def overlapping(boxes_BC4: torch.Tensor, rules: Rules) -> torch.Tensor:
    """(B, C, C): whether two boxes are too near for both to stay.

    Sides are whole numbers, exact in float32; areas and their ratios are float64, as on the host.
    """
    wide_BCC, wide_around_BCC = _spans(boxes_BC4[..., 0], boxes_BC4[..., 2])
    high_BCC, high_around_BCC = _spans(boxes_BC4[..., 1], boxes_BC4[..., 3])
    inner_BCC = wide_BCC.double().mul_(high_BCC)
    outer_BCC = wide_around_BCC.double().mul_(high_around_BCC)
    sides_BC2 = (boxes_BC4[..., 2:] - boxes_BC4[..., :2]).double()
    area_BC = sides_BC2[..., 0] * sides_BC2[..., 1]
    smaller_BCC = torch.minimum(area_BC[:, :, None], area_BC[:, None])
    return (inner_BCC / outer_BCC > rules.nms_iou) | (inner_BCC.div_(smaller_BCC) > rules.nms_covered)


def _spans(low_BC: torch.Tensor, high_BC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, C, C) twice, along one axis: what two boxes share, and what encloses both."""
    low_BC1, high_BC1, low_B1C, high_B1C = low_BC[:, :, None], high_BC[:, :, None], low_BC[:, None], high_BC[:, None]
    shared = torch.minimum(high_BC1, high_B1C).sub_(torch.maximum(low_BC1, low_B1C)).clamp_(min=0)
    around = torch.maximum(high_BC1, high_B1C).sub_(torch.minimum(low_BC1, low_B1C))
    return shared, around
