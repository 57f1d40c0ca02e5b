"""Where boxes go from one grey picture to the next, and whether they still hold the same picture.

Enters: two small grey pictures and boxes in the first. Leaves: the boxes in the second, whether that can be believed,
and how alike their contents are. Knows nothing of tracks.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

# N boxes, K = GRID * GRID flow points a box, 4 = x1, y1, x2, y2
GRID: Final = 5
"""Flow points a side of the grid in each box: 25 votes for a median of two numbers."""

INNER: Final = 0.7
"""Share of the box that carries the grid: outside of it is background."""

MAX_FLOW_ERROR: Final = 0.06
"""A point that flow does not bring back to within this share of the box's width is not counted (Kalal 2010)."""

MIN_GOOD_SHARE: Final = 0.4
"""With fewer good points than this the flow has lost the face."""

MAX_SCALE_STEP: Final = 1.25
"""A head does not grow or shrink by more than this from one frame to the next."""

PATCH: Final = 12
"""Side of the picture in which boxes are compared."""

REACH_PX: Final = 28
"""How far from its start flow finds a point: half a window on its coarsest level, 6 * 2 ** 2, and a little."""

HALF_FROM_PX: Final = 48
"""A face this wide, pixels of the small picture, is followed at half its size: as surely, for a third of the price."""

Window = tuple[slice, slice]
"""Rows and columns of a part of a picture."""

FLOW: Final[dict[str, Any]] = {
    "winSize": (13, 13),
    "maxLevel": 2,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03),
}


def flow_boxes(
    before: NDArray[np.uint8], after: NDArray[np.uint8], boxes_N4: NDArray[np.float32], scale: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Median flow (Kalal, Mikolajczyk and Matas 2010) of each box from one grey picture to the next.

    Args:
        before, after: uint8 pictures of the same shape.
        boxes_N4: xyxy pixels of ``before``.
        scale: pictures' pixels per frame pixel; the returned boxes are in frame pixels.

    Returns:
        boxes (N, 4) in frame pixels, and whether the flow of each can be believed.
    """
    points_NK2 = _grids(boxes_N4)
    ends_NK2, error_NK = np.empty_like(points_NK2), np.empty(points_NK2.shape[:2], np.float32)
    widths_N = boxes_N4[:, 2] - boxes_N4[:, 0]
    for rows, window in _windows(boxes_N4, before.shape):
        half = widths_N[rows].min() >= HALF_FROM_PX
        ends_NK2[rows], error_NK[rows] = _follow(before[window], after[window], points_NK2[rows], window, half=half)
    good_NK = error_NK < np.maximum(MAX_FLOW_ERROR * widths_N, 0.5)[:, None]
    moved_N4 = boxes_N4.copy()
    believed_N = good_NK.mean(axis=1) >= MIN_GOOD_SHARE
    for row in np.flatnonzero(believed_N):
        good_K = good_NK[row]
        moved_N4[row], believed_N[row] = _move(boxes_N4[row], points_NK2[row, good_K], ends_NK2[row, good_K])
    return moved_N4 / np.float32(scale), believed_N


def _follow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points_NK2: NDArray[np.float32], window: Window, *, half: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where points went, and how far from their start flow brings them when it runs backwards (infinite: nowhere)."""
    follow: Any = cv2.calcOpticalFlowPyrLK
    corner_2 = np.array([window[1].start, window[0].start], dtype=np.float32)
    scale = np.float32(1)
    if half:
        scale, size = np.float32(0.5), (max(1, before.shape[1] // 2), max(1, before.shape[0] // 2))
        before, after = _resized(before, size), _resized(after, size)
    starts = ((points_NK2 - corner_2) * scale).reshape(-1, 1, 2)
    forth, seen, _ = follow(before, after, starts, None, **FLOW)
    back, seen_back, _ = follow(after, before, forth, None, **FLOW)
    error = np.linalg.norm(back - starts, axis=2) / scale
    error[(seen & seen_back) == 0] = np.inf
    shape = points_NK2.shape
    return forth.reshape(shape) / scale + corner_2, error.reshape(shape[:2])


def _resized(grey: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _windows(boxes_N4: NDArray[np.float32], shape: tuple[int, ...]) -> list[tuple[list[int], Window]]:
    """The parts of the picture in which faces can be, with their faces: one part each, or one for all where those
    would overlap. Flow's price is the pyramids of its pictures, not its points."""
    each = [([row], _window(boxes_N4[row : row + 1], shape)) for row in range(len(boxes_N4))]
    together = _window(boxes_N4, shape)
    return each if sum(_area(window) for _, window in each) < _area(together) else [(list(range(len(each))), together)]


def _window(boxes_N4: NDArray[np.float32], shape: tuple[int, ...]) -> Window:
    """Around all of the boxes, with the room that flow can look over; never smaller than its own window."""
    margin = REACH_PX
    spans = []
    for axis, length in ((1, shape[0]), (0, shape[1])):
        low = int(max(0.0, min(float(boxes_N4[:, axis].min()) - margin, length - 48.0)))
        high = int(min(float(length), max(float(boxes_N4[:, axis + 2].max()) + margin, low + 48.0)))
        spans.append(slice(low, high))
    return spans[0], spans[1]


def _area(window: Window) -> int:
    return int((window[0].stop - window[0].start) * (window[1].stop - window[1].start))


def _move(
    box_4: NDArray[np.float32], starts_K2: NDArray[np.float32], ends_K2: NDArray[np.float32]
) -> tuple[NDArray[np.float32], bool]:
    shift_2 = np.median(ends_K2 - starts_K2, axis=0)
    reach_before_K = np.linalg.norm(starts_K2 - np.median(starts_K2, axis=0), axis=1)
    reach_after_K = np.linalg.norm(ends_K2 - np.median(ends_K2, axis=0), axis=1)
    far_K = reach_before_K > np.median(reach_before_K) * 0.5
    growth = float(np.median(reach_after_K[far_K] / np.maximum(reach_before_K[far_K], 1e-3))) if far_K.any() else 1.0
    if not 1 / MAX_SCALE_STEP < growth < MAX_SCALE_STEP:
        return box_4, False
    centre_2 = (box_4[:2] + box_4[2:]) / 2 + shift_2
    half_2 = (box_4[2:] - box_4[:2]) / 2 * growth
    return np.concatenate([centre_2 - half_2, centre_2 + half_2]).astype(np.float32), True


def _grids(boxes_N4: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, K, 2) points on a regular grid in the inner part of each box."""
    steps_G = np.linspace(0.5 - INNER / 2, 0.5 + INNER / 2, GRID, dtype=np.float32)
    sides_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    x_NG = boxes_N4[:, :1] + sides_N2[:, :1] * steps_G
    y_NG = boxes_N4[:, 1:2] + sides_N2[:, 1:2] * steps_G
    count = len(boxes_N4)
    grid = np.empty((count, GRID, GRID, 2), dtype=np.float32)
    grid[..., 0] = x_NG[:, None, :]
    grid[..., 1] = y_NG[:, :, None]
    return grid.reshape(count, GRID * GRID, 2)


def likeness(
    before: NDArray[np.uint8], before_4: NDArray[np.float32], after: NDArray[np.uint8], after_4: NDArray[np.float32]
) -> float:
    """Correlation, -1 to 1, of what a box holds in one picture with what another box holds in another; boxes in pixels
    of their pictures. 20 microseconds."""
    return float((_patch(before, before_4) * _patch(after, after_4)).sum())


def _patch(grey: NDArray[np.uint8], box_4: NDArray[np.float32]) -> NDArray[np.float32]:
    """A box as ``PATCH`` x ``PATCH`` numbers of mean 0 and length 1, so that light and contrast do not count."""
    low_x, low_y = (max(0, int(v)) for v in box_4[:2])
    part = grey[low_y : max(low_y + 2, int(box_4[3])), low_x : max(low_x + 2, int(box_4[2]))]
    if not part.size:
        return np.zeros((PATCH, PATCH), dtype=np.float32)
    patch = cv2.resize(part, (PATCH, PATCH), interpolation=cv2.INTER_AREA).astype(np.float32)
    patch -= patch.mean()
    length = np.float32(max(float(np.linalg.norm(patch)), 1e-6))
    return np.asarray(patch / length, dtype=np.float32)
