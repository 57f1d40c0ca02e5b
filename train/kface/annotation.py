"""The text beside an annotated image: seven points of a face, and the boxes of what its camera sees.

Enters: the file's bytes, the camera, the image's size. Leaves: an ``Annotation`` in the image's pixels. Lines 1 to 7
are points, the box lines follow; the line of a part that a camera does not see is missing, so the camera says which
line is which (tools/boundingbox of k-face/k-face_2019).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from train.kface.codes import CAMERAS, RESOLUTIONS
from train.kface.failures import Unusable

# P points; 2 = x, y and 4 = x, y, width, height, pixels of the image
POINTS: Final = ("nose", "right eye", "left eye", "right mouth corner", "left mouth corner", "right ear", "left ear")
"""Right is the subject's right: an image's left."""

ARCFACE_ORDER: Final = (1, 2, 0, 3, 4)
"""Places among ``POINTS`` of the five that ArcFace's template has, in its order."""

PARTS: Final = ("face", "right eye", "left eye", "nose", "mouth", "right ear", "left ear")

MAX_BYTES: Final = 1 << 16
"""An annotation has about 150."""

SEPARATORS: Final = str.maketrans(",;", "  ")
"""Spaces and tabs separate anyway."""

BIGGEST: Final = 100_000
"""No coordinate is larger, whatever its sign."""

OWN_SIDE: Final = (0.35, 0.8)
OTHER_SIDE: Final = (0.42, 0.68)
"""Of a face box, as a share of the image's height: KIST's own figures have 0.48 to 0.6. Stricter where it is to be
believed of an image of another resolution."""

OTHER_CENTRE: Final = (0.1, 0.9)
"""Of such a box, as a share of the image's width and height: the rig aims at the head."""

_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{1,6})?", re.ASCII)

RESCALED: Final = "coordinates of another resolution, rescaled"
"""Said of an annotation that was."""

NOSE_SLACK: Final = 0.1
"""Share of the face box by which the nose may lie outside of it."""

SIZE_SLACK: Final = 2
"""Pixels by which an image may differ from its resolution's size."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotation:
    points_72: NDArray[np.float64]
    """In the order of ``POINTS``."""
    boxes: dict[str, tuple[float, float, float, float]]
    """Part -> x, y, width, height. ``face`` is always there."""
    note: str = ""
    """What was done to it, where that should be known."""

    @property
    def five_52(self) -> NDArray[np.float64]:
        """Eyes, nose and mouth corners as ArcFace's template has them: the image's left one first."""
        return self.points_72[list(ARCFACE_ORDER)]


def visible_parts(camera: int) -> tuple[str, ...]:
    """Parts whose boxes a camera's annotations have, in the order of their lines."""
    yaw = CAMERAS[camera].yaw_deg
    hidden: set[str] = set()
    if yaw:
        side = "right" if yaw > 0 else "left"
        hidden = {f"{side} ear"} | ({f"{side} eye"} if abs(yaw) >= 75 else set())
    return tuple(part for part in PARTS if part not in hidden)


def parse_annotation(content: bytes, camera: int) -> Annotation:
    """
    Args:
        content: of the file; numbers between spaces, tabs, commas or semicolons, lines ended in any way.
        camera: 1 to 20.

    Raises:
        Unusable: too large, no numbers, or not the lines that this camera has.
    """
    if len(content) > MAX_BYTES:
        raise Unusable(f"annotation too large ({len(content)} bytes)")
    rows = _rows(content)
    parts = visible_parts(camera)
    for number, row in enumerate(rows, start=1):
        wanted = 2 if number <= len(POINTS) else 4
        if len(row) != wanted:
            what = "lacks a point" if (len(row), wanted) == (4, 2) else "has lines of another form"
            raise Unusable(f"annotation {what} (line {number} has {len(row)} numbers, {wanted} belong there)")
    wanted = len(POINTS) + len(parts)
    if len(rows) != wanted:
        what = "lacks a line" if len(rows) < wanted else "has a line too many"
        raise Unusable(f"annotation {what} ({len(rows)} lines, camera C{camera} has {wanted})")
    boxes = {part: (row[0], row[1], row[2], row[3]) for part, row in zip(parts, rows[len(POINTS) :], strict=True)}
    largest = max(boxes, key=lambda part: boxes[part][2] * boxes[part][3])
    if min(boxes["face"][2:]) <= 0 or largest != "face":
        raise Unusable(f"annotation has no face box (line 8 is {' '.join(f'{value:g}' for value in boxes['face'])})")
    x, y, across, down = boxes["face"]
    nose_x, nose_y = rows[0]
    if not (_within(nose_x, x, across) and _within(nose_y, y, down)):
        raise Unusable(f"annotation contradicts itself (nose at {nose_x:g}, {nose_y:g}, face box at {x:g}, {y:g})")
    return Annotation(points_72=np.array(rows[: len(POINTS)]), boxes=boxes)


def _within(value: float, start: float, length: float) -> bool:
    return -NOSE_SLACK <= (value - start) / length <= 1 + NOSE_SLACK


def _rows(content: bytes) -> list[list[float]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise Unusable("annotation is no text (not even UTF-8)") from err
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if not lines:
        raise Unusable("annotation is empty")
    rows = []
    for number, line in enumerate(lines, start=1):
        fields = line.translate(SEPARATORS).split()
        if not all(map(_NUMBER.fullmatch, fields)):
            raise Unusable(f"annotation holds something else than numbers (line {number}: {line[:30]!r})")
        rows.append([float(field) for field in fields])
        if any(abs(value) > BIGGEST for value in rows[-1]):
            raise Unusable(f"annotation holds a number that is no pixel (line {number}: {line[:30]!r})")
    return rows


def fitted(annotation: Annotation, width: int, height: int) -> Annotation:
    """The annotation in pixels of an image of this size; rescaled where it was made for another resolution's image.

    It is taken as it is wherever that can be: only a face box that has no face's size in this image, and is a face in
    the middle of an image of exactly one other resolution, is scaled by the ratio of the two.

    Raises:
        Unusable: it is no face's in any resolution.
    """
    if _face_sized(annotation, height, OWN_SIDE):
        return annotation
    others = [
        (name, size)
        for name, size in RESOLUTIONS.items()
        if abs(size[0] - width) > SIZE_SLACK
        and _face_sized(annotation, size[1], OTHER_SIDE)
        and _central(annotation, *size)
    ]
    if len(others) != 1:
        x, y, across, down = annotation.boxes["face"]
        raise Unusable(
            f"annotation of another image (face box of {across:g}x{down:g} pixels at {x:g}, {y:g} in an image of "
            f"{width}x{height})"
        )
    name, size = others[0]
    across, down = width / size[0], height / size[1]
    boxes = {part: (x * across, y * down, w * across, h * down) for part, (x, y, w, h) in annotation.boxes.items()}
    note = f"{RESCALED} (from {size[0]}x{size[1]}, the {name} one)"
    return Annotation(points_72=annotation.points_72 * (across, down), boxes=boxes, note=note)


def _face_sized(annotation: Annotation, height: int, share: tuple[float, float]) -> bool:
    return all(share[0] <= side / height <= share[1] for side in annotation.boxes["face"][2:])


def _central(annotation: Annotation, width: int, height: int) -> bool:
    x, y, across, down = annotation.boxes["face"]
    centre = ((x + across / 2) / width, (y + down / 2) / height)
    return all(OTHER_CENTRE[0] <= place <= OTHER_CENTRE[1] for place in centre)
