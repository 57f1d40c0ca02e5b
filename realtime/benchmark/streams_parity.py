"""Whether a device sees in a clip what the processor sees.

Enters: what both saw, frame by frame. Leaves: how many boxes, points and names are the same, and the worst embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from realtime.device.analyser import Seen
from realtime.faces.boxes import iou
from realtime.people.matching import References

SAME_FACE_IOU: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Of all frames together."""

    frames: int
    faces: int
    """That the processor found."""
    same_boxes: int
    """Frames in which all boxes are the same to the pixel, in the same order."""
    found: int
    """Faces that the device found, too: a box of its own with an overlap above ``SAME_FACE_IOU``."""
    extra: int
    """Boxes of the device that are on no face of the processor."""
    same_points: float
    """Share of coordinates that are equal, of faces with the same box."""
    farthest_px: float
    worst_cosine: float
    same_names: int
    """Frames with the same names on the same faces."""
    named: int
    """Faces that the processor named."""


def compare(host: Sequence[Seen], device: Sequence[Seen], references: References, threshold: float) -> Parity:
    """
    Args:
        host: what the processor saw, one a frame.
        device: the same frames.
        references: that both compared with.
        threshold: squared distance below which a face is named.
    """
    same_boxes = found = extra = same_names = named = 0
    off: list[float] = []
    cosines: list[float] = []
    for ours, theirs in zip(host, device, strict=True):
        rows = _assigned(ours, theirs)
        names, other_names = ours.names(references, threshold), theirs.names(references, threshold)
        same_boxes += np.array_equal(ours.boxes_N4, theirs.boxes_N4)
        found += len(rows)
        extra += len(theirs.boxes_N4) - len(rows)
        named += sum(name is not None for name in names)
        loose = set(range(len(other_names))) - set(rows.values())
        same_names += all(
            name == (other_names[rows[row]] if row in rows else None) for row, name in enumerate(names)
        ) and not any(other_names[row] for row in loose)
        for row, other in rows.items():
            if np.array_equal(ours.boxes_N4[row], theirs.boxes_N4[other]):
                off += np.abs(ours.points_NP2[row] - theirs.points_NP2[other]).ravel().tolist()
            cosines.append(_cosine(ours.embeddings_ND[row], theirs.embeddings_ND[other]))
    return Parity(
        frames=len(host),
        faces=sum(len(ours.boxes_N4) for ours in host),
        same_boxes=same_boxes,
        found=found,
        extra=extra,
        same_points=float(np.mean([each == 0 for each in off])) if off else 1.0,
        farthest_px=max(off, default=0.0),
        worst_cosine=min(cosines, default=1.0),
        same_names=same_names,
        named=named,
    )


def _assigned(ours: Seen, theirs: Seen) -> dict[int, int]:
    """Faces of the processor and the device's box on each: the best overlaps first, each box once."""
    shares_NM = iou(ours.boxes_N4, theirs.boxes_N4)
    rows: dict[int, int] = {}
    while shares_NM.size and shares_NM.max() > SAME_FACE_IOU:
        row, other = np.unravel_index(int(shares_NM.argmax()), shares_NM.shape)
        rows[int(row)] = int(other)
        shares_NM[row], shares_NM[:, other] = 0, 0
    return rows


def _cosine(a_D: NDArray[np.float32], b_D: NDArray[np.float32]) -> float:
    both = np.array([a_D, b_D], dtype=np.float64)
    return float(both[0] @ both[1] / max(np.linalg.norm(both[0]) * np.linalg.norm(both[1]), 1e-12))
