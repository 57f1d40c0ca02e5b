"""Several sources on one screen. Pure.

Enters: what each source shows now and the size of the screen. Leaves: one picture, and where each source is in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from realtime.records import RGB_HW3, Sighting, SourceStatus
from realtime.show.overlay import Overlay, blank

BACKGROUND: Final = (18, 18, 20)
GUTTER_PX: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """What one source shows: its newest frame as it came, and what is known of it."""

    source: str
    rgb: RGB_HW3 | None
    """(H, W, 3) uint8; None: no frame yet."""
    sightings: tuple[Sighting, ...] = ()
    status: SourceStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a source's picture is on the wall: its top left corner, its size, all in pixels of the wall."""

    source: str
    x: int
    y: int
    width: int
    height: int
    frame_width: int
    frame_height: int

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the wall for one pixel of the frame, x and y."""
        return self.width / self.frame_width, self.height / self.frame_height

    def holds(self, x: float, y: float) -> bool:
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


def arrange(tiles: Sequence[Tile], width: int, height: int) -> tuple[Place, ...]:
    """Where ``tiles`` go in a wall of ``width`` x ``height``: the grid that shows most, each picture letterboxed."""
    grids = [_grid(tiles, columns, width, height) for columns in range(1, len(tiles) + 1)]
    return max(grids, key=lambda places: sum(place.width * place.height for place in places), default=())


def locate(places: Sequence[Place], x: float, y: float) -> tuple[str, tuple[float, float]] | None:
    """The source under a point of the wall, and the point in that source's frame; None between the pictures."""
    for place in places:
        if place.holds(x, y):
            scale_x, scale_y = place.scale
            return place.source, ((x - place.x) / scale_x, (y - place.y) / scale_y)
    return None


def compose(
    tiles: Sequence[Tile], width: int, height: int, overlay: Overlay, *, chosen: tuple[str, int] | None = None
) -> tuple[RGB_HW3, tuple[Place, ...]]:
    """The wall as a (height, width, 3) uint8 RGB picture, and the places of its sources.

    Names are drawn after the pictures were scaled, so that they are as readable in a small tile as in a large one.
    ``chosen`` is the (source, track) whose box is thick.
    """
    places = arrange(tiles, width, height)
    if len(places) == 1 and (places[0].width, places[0].height) == (width, height):
        canvas_HW3 = np.empty((height, width, 3), np.uint8)
    else:
        canvas_HW3 = np.full((height, width, 3), BACKGROUND, np.uint8)
    for tile, place in zip(tiles, places, strict=True):
        view = canvas_HW3[place.y : place.y + place.height, place.x : place.x + place.width]
        if tile.rgb is None:
            view[:] = blank(1, 1)
        elif tile.rgb.shape == view.shape:
            view[:] = tile.rgb
        else:
            smaller = place.scale[0] < 0.7
            view[:] = cv2.resize(
                tile.rgb,
                (place.width, place.height),
                interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR,
            )
        track = chosen[1] if chosen is not None and chosen[0] == tile.source else None
        overlay.paint(view, tile.sightings, tile.status, chosen=track, scale=place.scale)
    return canvas_HW3, places


def _grid(tiles: Sequence[Tile], columns: int, width: int, height: int) -> tuple[Place, ...]:
    rows = math.ceil(len(tiles) / columns)
    gutter = GUTTER_PX if len(tiles) > 1 else 0
    cell_width = max(1, (width - gutter * (columns - 1)) // columns)
    cell_height = max(1, (height - gutter * (rows - 1)) // rows)
    places = []
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        frame_height, frame_width = (9, 16) if tile.rgb is None else tile.rgb.shape[:2]
        fit = min(cell_width / frame_width, cell_height / frame_height)
        shown_width = max(1, min(cell_width, round(frame_width * fit)))
        shown_height = max(1, min(cell_height, round(frame_height * fit)))
        in_row = min(columns, len(tiles) - row * columns)  # a last row that is not full stands in the middle
        start = (width - in_row * cell_width - (in_row - 1) * gutter) // 2
        left = max(0, start) + column * (cell_width + gutter)
        top = row * (cell_height + gutter)
        places.append(
            Place(
                source=tile.source,
                x=min(left + (cell_width - shown_width) // 2, max(0, width - shown_width)),
                y=min(top + (cell_height - shown_height) // 2, max(0, height - shown_height)),
                width=shown_width,
                height=shown_height,
                frame_width=frame_width,
                frame_height=frame_height,
            )
        )
    return tuple(places)
