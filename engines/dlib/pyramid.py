"""The tiled image pyramid on which dlib's CNN detector looks at a frame.

Enters: a frame's size. Leaves: where each level lies on one canvas, and the way of a box back into the frame. Every
level is 5/6 of the one before; the large ones stand in a column on the left, the small ones go up again on the right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE: Final = 5 / 6
UP: Final = 6 / 5
GAP: Final = 10
"""Between levels, pixels: dlib's padding where the file says nothing."""
MARGIN: Final = 11
"""Around all of them, pixels."""
MIN_HEIGHT: Final = 5
"""The smallest level is at least so high, pixels."""

# N boxes; L levels; 4 = x1, y1, x2, y2
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tile:
    """One level on the canvas, pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The layout for one frame size; ``tiles[0]`` is the frame itself, the ``left`` first ones stand on the left."""

    tiles: tuple[Tile, ...]
    left: int
    width: int
    height: int


def layout(width: int, height: int) -> Pyramid:
    """Place the levels of a frame.

    Args:
        width: of the frame, pixels, at least 1.
        height: of the frame, pixels, at least 1.
    """
    sizes = _sizes(width, height)
    left = _left_column(sizes)
    column = sum(h + GAP for _, h in sizes[:left]) - GAP
    tiles = []
    y = MARGIN
    for w, h in sizes[:left]:
        tiles.append(Tile(MARGIN, y, w, h))
        y += h + GAP
    bottom, right = MARGIN + column, MARGIN + width
    for w, h in sizes[left:]:
        tiles.append(Tile(right - w, bottom - h, w, h))
        bottom -= h + GAP
    return Pyramid(tuple(tiles), left, width + 2 * MARGIN, column + 2 * MARGIN)


def to_frame(pyramid: Pyramid, centres_N2: Float64, half: float) -> Float64:
    """Square boxes around canvas points, as boxes (N, 4) of the frame: inclusive corners, not rounded."""
    tiles_L4 = np.array([(t.x, t.y, t.x + t.width - 1, t.y + t.height - 1) for t in pyramid.tiles], dtype=np.float64)
    nearest_NL2 = np.clip(centres_N2[:, None], tiles_L4[None, :, :2], tiles_L4[None, :, 2:])
    level_N = ((nearest_NL2 - centres_N2[:, None]) ** 2).sum(axis=2).argmin(axis=1)
    boxes_N4 = np.concatenate([centres_N2 - half, centres_N2 + half], axis=1)
    boxes_N4 -= np.tile(tiles_L4[level_N, :2], 2)
    for step in range(int(level_N.max(initial=0))):
        up_N = level_N > step
        boxes_N4[up_N] = boxes_N4[up_N] * UP + 0.3  # dlib's pyramid_down<6>::point_up
    return boxes_N4


def _sizes(width: int, height: int) -> list[tuple[int, int]]:
    sizes = [(width, height)]
    while True:
        width, height = math.floor(RATE * width), math.floor(RATE * height)
        if width < 1 or height < MIN_HEIGHT:
            return sizes
        sizes.append((width, height))


def _left_column(sizes: list[tuple[int, int]]) -> int:
    """How many levels stand on the left: until the rest has room beside them and half of the height is used."""
    total = sum(h + GAP for _, h in sizes) - 2 * GAP
    used = beside = 0
    first_width, first_height = sizes[0]
    for index, (w, h) in enumerate(sizes):
        if index and w <= first_width - beside - GAP and 2 * (used - first_height) >= total - first_height:
            return index
        used += h + GAP
        beside = w
    return len(sizes)
