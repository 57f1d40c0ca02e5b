"""A contact sheet of what a cleaning would drop, for a person to agree or not.

Enters: a split and its ``Cleaning``. Leaves: a PNG, a row for each of the subjects with the widest angles: on the left
faces that are typical of the subject, on the right those that would go, with their angles.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from realtime.records import RGB_HW3
from realtime.show.text import Colour, Lettering
from train.cleaning.drops import Cleaning, Drop
from train.prepared import Split
from train.preparing.sheet import FAINT, GAP_PX, INK, NAMES_PX, PAPER, TEXT_PX, png_of, write_line

# S side of a crop, pixels
SUBJECTS: Final = 24
TYPICAL: Final = 4
"""Faces of each subject, nearest to the dominant centre."""
DROPPED: Final = 6
FRAME: Final[Colour] = (196, 48, 43)
FRAME_PX: Final = 3
PARTED_PX: Final = 24
"""Between what stays and what goes."""


def drop_sheet(split: Split, cleaning: Cleaning) -> bytes:
    """PNG; subjects with the widest angles first. With nothing to drop it is a title alone."""
    by_subject: dict[str, list[Drop]] = {}
    for drop in cleaning.drops:
        by_subject.setdefault(drop.subject, []).append(drop)
    shown = list(by_subject.items())[:SUBJECTS]
    size = split.crops_NSS3.shape[1]
    step = size + GAP_PX
    head, line = 2 * TEXT_PX, size + TEXT_PX + 3 * GAP_PX
    parted = NAMES_PX + TYPICAL * step + PARTED_PX
    canvas: RGB_HW3 = np.full((head + len(shown) * line + GAP_PX, parted + DROPPED * step, 3), PAPER, dtype=np.uint8)
    letters = Lettering()
    title = (
        f"{len(cleaning.drops)} of {cleaning.images} images would go, at {cleaning.limit.angle_deg:g} degrees; left: "
        f"typical of the subject, right: would go. {len(shown)} of {len(by_subject)} subjects."
    )
    write_line(canvas, letters, title, GAP_PX, GAP_PX, INK, canvas.shape[1] - 2 * GAP_PX)
    for number, (subject, drops) in enumerate(shown):
        top = head + number * line
        write_line(canvas, letters, subject, GAP_PX, top + size // 2 - TEXT_PX, INK, NAMES_PX - GAP_PX)
        label = split.labels_N[drops[0].row]
        own = np.flatnonzero(split.labels_N == label)
        words = f"{len(drops)} of {len(own)}"
        write_line(canvas, letters, words, GAP_PX, top + size // 2 + GAP_PX, FAINT, NAMES_PX - GAP_PX)
        near = own[np.argsort(cleaning.own_N[own], kind="stable")]
        near = near[cleaning.own_N[near] < cleaning.limit.angle_deg][:TYPICAL]
        for column, row in enumerate(near.tolist()):
            _put(canvas, split.crops_NSS3[row], NAMES_PX + column * step, top)
        for column, drop in enumerate(drops[:DROPPED]):
            left = parted + column * step
            _put(canvas, split.crops_NSS3[drop.row], left, top, framed=True)
            words = f"{drop.angle_deg:.0f}°" + (f" {drop.looks_like}?" if drop.looks_like else "")
            write_line(canvas, letters, words, left, top + size + 1, FAINT, size)
    return png_of(canvas)


def _put(canvas: RGB_HW3, crop_SS3: RGB_HW3, left: int, top: int, *, framed: bool = False) -> None:
    size = len(crop_SS3)
    place = canvas[top : top + size, left : left + size]
    if framed:
        place[:] = FRAME
        inner = slice(FRAME_PX, -FRAME_PX)
        place[inner, inner] = crop_SS3[inner, inner]
    else:
        place[:] = crop_SS3
