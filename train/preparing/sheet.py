"""A contact sheet: what a network will be trained on, for a person to look at.

Enters: the crops of a set, who they are of, and its manifest. Leaves: a PNG, a row a person with some of their crops,
people of train first, those kept back for validation below. The same set gives the same sheet.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from realtime.records import RGB_HW3
from realtime.show.text import Colour, Lettering, paste
from train.prepared import SetManifest

# K rows of a set; S side of a crop, pixels; 3 channels RGB
TRAIN_PEOPLE: Final = 12
VAL_PEOPLE: Final = 4
COLUMNS: Final = 10
GAP_PX: Final = 4
NAMES_PX: Final = 200
TEXT_PX: Final = 15
PAPER: Final[Colour] = (250, 250, 248)
INK: Final[Colour] = (30, 30, 30)
FAINT: Final[Colour] = (120, 120, 120)


def contact_sheet(crops_KSS3: NDArray[np.uint8], labels_K: NDArray[np.int32], manifest: SetManifest) -> bytes:
    """PNG of random people and random crops of each.

    Args:
        crops_KSS3: RGB, all of train before all of val.
        labels_K: places in the manifest's subjects of each split.
        manifest: of the set.
    """
    random = np.random.default_rng(int(manifest.digest[:16], 16))
    lines: list[tuple[str, str, NDArray[np.int64]]] = []
    start = 0
    for split, rows, subjects, most in (
        ("train", manifest.train_rows, manifest.train_subjects, TRAIN_PEOPLE),
        ("val", manifest.val_rows, manifest.val_subjects, VAL_PEOPLE),
    ):
        own_K = labels_K[start : start + rows]
        for label in sorted(random.choice(len(subjects), min(most, len(subjects)), replace=False)):
            places = start + np.flatnonzero(own_K == label)
            shown = sorted(random.choice(places, min(COLUMNS, len(places)), replace=False))
            lines.append((subjects[label], f"{split}, {len(places)} images", np.array(shown)))
        start += rows
    return png_of(_drawn(crops_KSS3, lines, manifest))


def _drawn(
    crops_KSS3: NDArray[np.uint8], lines: list[tuple[str, str, NDArray[np.int64]]], manifest: SetManifest
) -> RGB_HW3:
    side = manifest.size + GAP_PX
    head = 2 * TEXT_PX
    columns = max((len(rows) for _, _, rows in lines), default=1)
    shape = (head + len(lines) * side + GAP_PX, NAMES_PX + columns * side + GAP_PX, 3)
    canvas: RGB_HW3 = np.full(shape, PAPER, dtype=np.uint8)
    letters = Lettering()
    title = f"{manifest.name}: {len(crops_KSS3)} crops, {manifest.size}x{manifest.size}, {manifest.template}"
    write_line(canvas, letters, title, GAP_PX, GAP_PX, INK, shape[1] - 2 * GAP_PX)
    for line, (subject, words, rows) in enumerate(lines):
        top = head + line * side
        write_line(canvas, letters, subject, GAP_PX, top + side // 2 - TEXT_PX - GAP_PX, INK, NAMES_PX - GAP_PX)
        write_line(canvas, letters, words, GAP_PX, top + side // 2 + GAP_PX, FAINT, NAMES_PX - GAP_PX)
        for column, row in enumerate(rows.tolist()):
            left = NAMES_PX + column * side
            canvas[top : top + manifest.size, left : left + manifest.size] = crops_KSS3[row]
    return canvas


def write_line(canvas_HW3: RGB_HW3, letters: Lettering, text: str, x: int, y: int, ink: Colour, width_px: int) -> None:
    """Text with its top left corner at (x, y), shortened to ``width_px``; in place."""
    label = letters.label(text, size_px=TEXT_PX, ink=ink, paper=PAPER, max_width_px=width_px)
    paste(canvas_HW3, label, x, y)


def png_of(rgb_HW3: RGB_HW3) -> bytes:
    """A picture as the bytes of a file."""
    content = io.BytesIO()
    Image.fromarray(rgb_HW3).save(content, format="PNG")
    return content.getvalue()
