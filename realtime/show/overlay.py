"""What is drawn over a picture: boxes, names, and how the source is doing. Pure: the same in, the same out.

Enters: an RGB picture and what was found in it. Leaves: another picture of the same size. One ``Overlay`` belongs to
one thread, as it keeps the labels it has drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from realtime.records import RGB_HW3, Sighting, SourceStatus, State
from realtime.settings import ShowSettings
from realtime.show.text import Colour, Label, Lettering, paste

Rect = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels, inclusive-exclusive."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a state looks. Form and word differ as well as hue: one man in twelve sees red and green alike."""

    line: Colour
    paper: Colour
    ink: Colour
    corners_only: bool


STYLES: Final[dict[State, Style]] = {
    "named": Style(line=(0, 200, 140), paper=(0, 110, 80), ink=(255, 255, 255), corners_only=False),
    "unknown": Style(line=(255, 120, 40), paper=(185, 65, 0), ink=(255, 255, 255), corners_only=False),
    "pending": Style(line=(215, 205, 130), paper=(215, 205, 130), ink=(40, 36, 10), corners_only=True),
}
"""Hues after Okabe and Ito's palette (bluish green, vermilion, yellow), greyer for pending; ink on paper is 4.5:1."""

HALO: Final[Colour] = (12, 12, 14)
QUIET: Final = {"ink": (235, 235, 235), "paper": (12, 12, 14), "opacity": 0.62}
DIMMED: Final = 0.35
"""Share of its light that the last picture of a source keeps while the source gives none."""
STOPPED: Final = {"starting": "starting", "reconnecting": "reconnecting", "ended": "ended", "failed": "stopped"}


class Overlay:
    """Draws sightings and status; sizes follow the shorter side of the picture."""

    def __init__(self, settings: ShowSettings) -> None:
        """Raises SettingsError where ``show.font`` cannot be used."""
        self.lettering = Lettering(settings.font)

    def draw(
        self,
        rgb_HW3: RGB_HW3,
        sightings: Sequence[Sighting],
        status: SourceStatus | None = None,
        *,
        chosen: int | None = None,
    ) -> RGB_HW3:
        """A new (H, W, 3) uint8 RGB picture; ``rgb_HW3`` stays as it is.

        ``status`` adds the small line, and dims the picture while the source gives none. The face of track ``chosen``
        gets a thick box.
        """
        canvas_HW3 = rgb_HW3.copy()
        self.paint(canvas_HW3, sightings, status, chosen=chosen)
        return canvas_HW3

    def paint(
        self,
        canvas_HW3: RGB_HW3,
        sightings: Sequence[Sighting],
        status: SourceStatus | None = None,
        *,
        chosen: int | None = None,
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """As ``draw``, into ``canvas_HW3`` itself, which may be a view; boxes are multiplied by ``scale`` (x, y)."""
        height, width = canvas_HW3.shape[:2]
        stopped = status is not None and status.state in STOPPED
        if stopped:
            cv2.convertScaleAbs(canvas_HW3, dst=canvas_HW3, alpha=DIMMED)
        else:
            boxes = [(face, box) for face in sightings if (box := placed(face.box, scale, width, height))]
            boxes.sort(key=lambda item: (item[1][2] - item[1][0]) * (item[1][3] - item[1][1]))  # near faces on top
            for face, box in boxes:
                self._box(canvas_HW3, box, face.state, thick=face.track == chosen)
            taken: list[Rect] = []
            for face, box in reversed(boxes):
                self._name(canvas_HW3, box, face, taken)
        if status is not None:
            self._line(canvas_HW3, status)
            if stopped:
                self._message(canvas_HW3, STOPPED[status.state], status.message)

    def _box(self, canvas_HW3: RGB_HW3, box: Rect, state: State, *, thick: bool) -> None:
        style = STYLES[state]
        width = line_px(canvas_HW3) * (3 if thick else 1)
        for colour, extra in ((HALO, 2), (style.line, 0)):
            if style.corners_only and not thick:
                _corners(canvas_HW3, box, colour, width, extra)
            else:
                _rectangle(canvas_HW3, box, colour, width, extra)

    def _name(self, canvas_HW3: RGB_HW3, box: Rect, face: Sighting, taken: list[Rect]) -> None:
        height, width = canvas_HW3.shape[:2]
        style = STYLES[face.state]
        text = face.name if face.name is not None else "…" if face.state == "pending" else face.state
        label = self.lettering.label(
            text,
            size_px=text_px(canvas_HW3),
            ink=style.ink,
            paper=style.paper,
            max_width_px=max(box[2] - box[0], round(width * 0.5)),
        )
        rect = _room(label, box, line_px(canvas_HW3) + 1, width, height, taken)
        taken.append(rect)
        paste(canvas_HW3, label, rect[0], rect[1])

    def _line(self, canvas_HW3: RGB_HW3, status: SourceStatus) -> None:
        height, width = canvas_HW3.shape[:2]
        size_px = max(10, round(text_px(canvas_HW3) * 0.72))
        gap = max(2, size_px // 5)
        parts = [status.source]
        if status.state == "running":
            parts += [f"{status.fps:.0f} fps", f"{status.latency_ms:.0f} ms"]
        parts.append(f"{status.drops} dropped")
        x = gap * 2
        for part in parts:  # one label each, as most of them are the same in the next frame
            label = self.lettering.label(part, size_px=size_px, max_width_px=width // 2, **QUIET)  # type: ignore[arg-type]
            paste(canvas_HW3, label, x, height - label.height - 2 * gap)
            x += label.width + gap

    def _message(self, canvas_HW3: RGB_HW3, title: str, sentence: str) -> None:
        height, width = canvas_HW3.shape[:2]
        size_px = text_px(canvas_HW3)
        y = height // 2
        if sentence.startswith(title):
            title, sentence = sentence, ""
        for text, scale in ((title, 1.2), (sentence, 0.85)):
            if text:
                label = self.lettering.label(
                    text,
                    size_px=max(8, round(size_px * scale)),
                    ink=(255, 255, 255),
                    paper=HALO,
                    opacity=0.7,
                    max_width_px=round(width * 0.94),
                )
                at = y - label.height - 2 if scale > 1 else y + 2
                paste(canvas_HW3, label, (width - label.width) // 2, at)


def text_px(canvas_HW3: RGB_HW3) -> int:
    """Size of a name: 22 pixels in a 720p picture, never too small to read."""
    return max(13, round(_side(canvas_HW3) * 22 / 720))


def line_px(canvas_HW3: RGB_HW3) -> int:
    """Width of a box's line: 2 pixels in a 720p picture."""
    return max(1, round(_side(canvas_HW3) * 2 / 720))


def _side(canvas_HW3: RGB_HW3) -> int:
    return min(int(canvas_HW3.shape[0]), int(canvas_HW3.shape[1]))


def placed(box: tuple[float, float, float, float], scale: tuple[float, float], width: int, height: int) -> Rect | None:
    """``box`` times ``scale`` in whole pixels, cut off one picture beyond the edges; None where nothing is seen."""
    if not all(map(math.isfinite, box)):
        return None
    x1, x2 = (min(max(value * scale[0], -width), 2 * width) for value in (box[0], box[2]))
    y1, y2 = (min(max(value * scale[1], -height), 2 * height) for value in (box[1], box[3]))
    rect = (round(x1), round(y1), round(x2), round(y2))
    if rect[0] >= width or rect[1] >= height or rect[2] <= 0 or rect[3] <= 0 or x2 <= x1 or y2 <= y1:
        return None
    return rect


def _fill(canvas_HW3: RGB_HW3, x1: int, y1: int, x2: int, y2: int, colour: Colour) -> None:
    canvas_HW3[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = colour


def _rectangle(canvas_HW3: RGB_HW3, box: Rect, colour: Colour, line: int, extra: int) -> None:
    """The outline of ``box``: ``line`` wide, from its edge outwards, and half of ``extra`` more on either side."""
    x1, y1, x2, y2 = box
    out, into = line + extra // 2, extra // 2
    _fill(canvas_HW3, x1 - out, y1 - out, x2 + out, y1 + into, colour)
    _fill(canvas_HW3, x1 - out, y2 - into, x2 + out, y2 + out, colour)
    _fill(canvas_HW3, x1 - out, y1 - out, x1 + into, y2 + out, colour)
    _fill(canvas_HW3, x2 - into, y1 - out, x2 + out, y2 + out, colour)


def _corners(canvas_HW3: RGB_HW3, box: Rect, colour: Colour, line: int, extra: int) -> None:
    x1, y1, x2, y2 = box
    out, into = line + extra // 2, extra // 2
    arm = max(2 * line, min(x2 - x1, y2 - y1) // 4) + extra // 2
    for x, right in ((x1, False), (x2, True)):
        for y, low in ((y1, False), (y2, True)):
            left, top = (x - into if right else x - out), (y - into if low else y - out)
            across = (x - arm, x + out) if right else (x - out, x + arm)
            along = (y - arm, y + out) if low else (y - out, y + arm)
            _fill(canvas_HW3, across[0], top, across[1], top + into + out, colour)
            _fill(canvas_HW3, left, along[0], left + into + out, along[1], colour)


def _room(label: Label, box: Rect, gap: int, width: int, height: int, taken: Sequence[Rect]) -> Rect:
    """Where a name goes: above its box, else below, else inside; away from other names if it can be."""
    x = max(0, min(box[0] - gap + 1, width - label.width))
    tops = (box[1] - gap - label.height, box[3] + gap, max(box[1], 0) + gap)
    rects = [(x, y, x + label.width, y + label.height) for y in tops]
    inside = [rect for rect in rects if rect[1] >= 0 and rect[3] <= height]
    free = [rect for rect in inside if not any(_overlap(rect, other) for other in taken)]
    y = max(0, min(tops[0], height - label.height))
    return (free or inside or [(x, y, x + label.width, y + label.height)])[0]


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def blank(width: int, height: int) -> RGB_HW3:
    """The picture of a source that has not given one yet, (H, W, 3) uint8 RGB."""
    return np.full((height, width, 3), 64, np.uint8)
