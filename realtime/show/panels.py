"""What the window draws over the wall: help, the name being typed, a short notice, the sign of a pause. Pure.

Enters: the wall's picture, which is drawn into. Leaves: nothing but that, and where the typed text ends.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from realtime.records import RGB_HW3
from realtime.show.naming import Draft
from realtime.show.overlay import HALO, Rect, text_px
from realtime.show.text import Colour, Lettering, paste

KEYS: Final = (
    ("n", "name the unknown face nearest the middle"),
    ("click", "name the face under the pointer"),
    ("space", "pause and go on"),
    ("s", "save this picture"),
    ("h", "show or hide this help"),
    ("q, Esc", "quit"),
)
COLOURS: Final[tuple[tuple[Colour, str], ...]] = (
    ((0, 200, 140), "named: in the gallery"),
    ((255, 120, 40), "unknown: not in the gallery"),
    ((215, 205, 130), "…: not decided yet"),
)
INK: Final[Colour] = (240, 240, 240)
FAINT: Final[Colour] = (165, 165, 170)
ACCENT: Final[Colour] = (255, 176, 60)
PLATE_LIGHT: Final = 0.22
"""Share of the picture's light that is left under a panel."""


def help_panel(canvas_HW3: RGB_HW3, lettering: Lettering) -> None:
    """The keys and what the colours mean, in the middle."""
    height, width = canvas_HW3.shape[:2]
    size = min(text_px(canvas_HW3), max(9, round(height / (len(KEYS) + len(COLOURS) + 4) / 1.7)))
    row = round(size * 1.7)
    keys_width = round(max(lettering.width(key, size) for key, _ in KEYS)) + size * 2
    words_width = max(lettering.width(text, size) for _, text in (*KEYS, *COLOURS))
    panel_width = min(width, keys_width + round(words_width) + 3 * size)
    panel_height = min(height, row * (len(KEYS) + len(COLOURS)) + 3 * size)
    left, top = (width - panel_width) // 2, (height - panel_height) // 2
    _plate(canvas_HW3, (left, top, left + panel_width, top + panel_height))
    y = top + size
    for key, text in KEYS:
        _write(canvas_HW3, lettering, key, left + size, y, size, ACCENT)
        _write(canvas_HW3, lettering, text, left + size + keys_width, y, size, INK)
        y += row
    y += size
    for colour, text in COLOURS:
        swatch = (left + round(size * 1.35), y + round(size * 0.3), left + round(size * 2.7), y + round(size * 1.1))
        canvas_HW3[swatch[1] : swatch[3], swatch[0] : swatch[2]] = colour
        _write(canvas_HW3, lettering, text, left + size + keys_width, y, size, INK)
        y += row


def prompt(canvas_HW3: RGB_HW3, lettering: Lettering, draft: Draft) -> Rect:
    """The name being typed, at the lower edge; the rectangle of the text, for the input method's own window."""
    height, width = canvas_HW3.shape[:2]
    size = text_px(canvas_HW3)
    panel_width = min(width, max(size * 26, width // 2))
    panel_height = min(height, round(size * 4.6))
    left, top = (width - panel_width) // 2, max(0, height - panel_height - size * 2)
    _plate(canvas_HW3, (left, top, left + panel_width, top + panel_height))
    inner = panel_width - 2 * size
    _write(canvas_HW3, lettering, "Who is this?", left + size, top + round(size * 0.4), round(size * 0.8), FAINT)
    text, at, y = draft.text, float(left + size), top + round(size * 1.6)
    while text and lettering.width(text + draft.composing, size) > inner - size:
        text = text[1:]  # the end is what is being typed
    for part, ink in ((text, INK), (draft.composing, ACCENT)):
        if part:
            _write(canvas_HW3, lettering, part, round(at), y, size, ink)
            at += lettering.width(part, size)
    pad = max(2, round(size * 0.35))
    caret = (min(round(at) + pad + 1, left + panel_width - 2), y + size // 6, size // 10 + 1, round(size * 1.2))
    canvas_HW3[caret[1] : caret[1] + caret[3], caret[0] : caret[0] + caret[2]] = ACCENT
    rule = y + round(size * 1.5)
    canvas_HW3[rule : rule + 1, left + size : left + size + inner] = FAINT
    hint = "Enter keeps the name · Esc leaves it"
    _write(canvas_HW3, lettering, hint, left + size, rule + size // 4, round(size * 0.7), FAINT)
    return (left + size, y, left + size + inner, rule)


def notice(canvas_HW3: RGB_HW3, lettering: Lettering, text: str) -> None:
    """One sentence at the upper edge."""
    width = canvas_HW3.shape[1]
    size = text_px(canvas_HW3)
    label = lettering.label(text, size_px=size, ink=INK, paper=HALO, opacity=0.85, max_width_px=round(width * 0.96))
    paste(canvas_HW3, label, (width - label.width) // 2, size)


def paused(canvas_HW3: RGB_HW3, lettering: Lettering) -> None:
    """The word at the upper right."""
    size = text_px(canvas_HW3)
    label = lettering.label("paused · space goes on", size_px=size, ink=(20, 20, 20), paper=ACCENT)
    paste(canvas_HW3, label, canvas_HW3.shape[1] - label.width - size // 2, size // 2)


def _plate(canvas_HW3: RGB_HW3, rect: Rect) -> None:
    view = canvas_HW3[max(0, rect[1]) : rect[3], max(0, rect[0]) : rect[2]]
    np.multiply(view, PLATE_LIGHT, out=view, casting="unsafe")


def _write(canvas_HW3: RGB_HW3, lettering: Lettering, text: str, x: int, y: int, size_px: int, ink: Colour) -> None:
    paste(canvas_HW3, lettering.label(text, size_px=size_px, ink=ink, paper=(0, 0, 0), opacity=0.0), x, y)
