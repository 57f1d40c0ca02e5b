"""Text as small pictures that are drawn once and pasted often.

Enters: any string at all. Leaves: a ``Label`` and ``paste``, which puts it into a picture and clips it at the edges.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from realtime.records import RGB_HW3
from realtime.show.typefaces import Typeface, Typefaces

Colour = tuple[int, int, int]

MAX_CHARACTERS: Final = 256
"""Longer text is cut before it is measured: no screen shows more, and layout time grows with it."""
CACHED_LABELS: Final = 512
ELLIPSIS: Final = "…"
MISSING: Final = "\ufffd"
"""Stands for control characters, lone surrogates and the like, which no font draws."""
ASCENT: Final = 1.07
"""Of an em, above the baseline; with the descent below, as Noto Sans' hhea table has them."""
DESCENT: Final = 0.29


@dataclass(frozen=True, slots=True)
class Label:
    """A drawn text: ``rgb`` (H, W, 3) uint8, multiplied by its coverage, and ``clear`` (H, W, 1), 256 - coverage."""

    rgb: RGB_HW3
    clear: NDArray[np.uint16] | None
    """None: covers all of its rectangle."""

    @property
    def width(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self.rgb.shape[0])


class _Run(NamedTuple):
    text: str
    face: Typeface


class Lettering:
    """Draws labels and keeps the last of them. Belongs to one thread.

    Each character is drawn with the first font that has it; one that no font has becomes the box glyph. Words of
    right-to-left scripts are shaped and ordered by raqm where Pillow has it (its wheels do).
    """

    def __init__(self, font: str | None = None) -> None:
        """``font``: a font file asked before all others. Raises SettingsError where it cannot be used."""
        self._faces = Typefaces(font)
        self._labels: OrderedDict[tuple[object, ...], Label] = OrderedDict()

    @cached_property
    def _engine(self) -> ImageFont.Layout:
        return ImageFont.Layout.RAQM if features.check("raqm") else ImageFont.Layout.BASIC

    def label(
        self,
        text: str,
        *,
        size_px: int,
        ink: Colour,
        paper: Colour,
        opacity: float = 1.0,
        max_width_px: int | None = None,
    ) -> Label:
        """``text`` on a plate of colour ``paper`` and ``opacity`` (0..1), shortened with … to ``max_width_px``."""
        key = (text, size_px, ink, paper, opacity, max_width_px)
        label = self._labels.get(key)
        if label is None:
            label = self._labels[key] = self._draw(text, size_px, ink, paper, opacity, max_width_px)
            if len(self._labels) > CACHED_LABELS:
                self._labels.popitem(last=False)
        else:
            self._labels.move_to_end(key)
        return label

    def width(self, text: str, size_px: int) -> float:
        """Pixels that ``text`` advances at ``size_px``, without a plate."""
        return sum(run.face.at(size_px).getlength(run.text) for run in self._runs(readable(text)))

    def _draw(
        self, text: str, size_px: int, ink: Colour, paper: Colour, opacity: float, max_width_px: int | None
    ) -> Label:
        pad = max(2, round(size_px * 0.35))
        text = readable(text)
        if max_width_px is not None:
            text = self._shortened(text, size_px, max(0, max_width_px - 2 * pad))
        runs = self._runs(text)
        lengths = [run.face.at(size_px).getlength(run.text) for run in runs]
        width = max(1, round(sum(lengths)) + 2 * pad)
        height = max(1, round(size_px * (ASCENT + DESCENT)))
        ink_mask = Image.new("L", (width, height), 0)
        pen = ImageDraw.Draw(ink_mask)
        x, baseline = float(pad), round(size_px * ASCENT * 0.98)
        for run, length in zip(runs, lengths, strict=True):
            pen.text((x, baseline), run.text, fill=255, font=run.face.at(size_px), anchor="ls")
            x += length
        return _inked(np.asarray(ink_mask), ink, paper, opacity, radius=max(1, round(size_px * 0.18)))

    def _shortened(self, text: str, size_px: int, width_px: int) -> str:
        if self.width(text, size_px) <= width_px:
            return text
        fits, too_long = 0, len(text)
        while too_long - fits > 1:  # widths grow with the text nearly enough, kerning and joining aside
            middle = (fits + too_long) // 2
            shorter = self.width(text[:middle].rstrip() + ELLIPSIS, size_px) <= width_px
            fits, too_long = (middle, too_long) if shorter else (fits, middle)
        while fits > 0 and unicodedata.combining(text[fits]):
            fits -= 1
        return text[:fits].rstrip() + ELLIPSIS

    def _runs(self, text: str) -> list[_Run]:
        """Stretches of one font each, in the order in which they are drawn from left to right."""
        whole = next((face for face in self._faces if all(map(face.has, text))), None) if _plain(text) else None
        if whole is not None:
            return [_Run(text, whole)]
        runs: list[_Run] = []
        for character in text:
            face = self._face(character, runs[-1].face if runs else None)
            if runs and runs[-1].face is face:
                runs[-1] = _Run(runs[-1].text + character, face)
            else:
                runs.append(_Run(character, face))
        return runs[::-1] if _right_to_left(text) else runs

    def _face(self, character: str, last: Typeface | None) -> Typeface:
        if character == " ":  # of no script: in a right-to-left run it would move to the other side
            return self._faces.first
        if last is not None and (last.has(character) or _joins(character)):
            return last
        return self._faces.of(character) or self._faces.first


def readable(text: str) -> str:
    """``text`` on one line, composed, without what has no shape: controls become U+FFFD, direction overrides vanish."""
    shown = []
    for character in unicodedata.normalize("NFC", text[: 4 * MAX_CHARACTERS]):
        category = unicodedata.category(character)
        if character in "\t\n\r\v\f\u2028\u2029":
            shown.append(" ")
        elif category in ("Cc", "Cs", "Cn", "Co"):
            shown.append(MISSING)
        elif category == "Cf" and not _joins(character):  # a name must not be able to turn its neighbours around
            continue
        elif not 0xFE00 <= ord(character) <= 0xFE0F:  # variation selectors choose between shapes that we do not have
            shown.append(character)
    line = "".join(shown)
    return line if len(line) <= MAX_CHARACTERS and len(text) <= 4 * MAX_CHARACTERS else line[:MAX_CHARACTERS] + ELLIPSIS


def paste(canvas_HW3: RGB_HW3, label: Label, x: int, y: int) -> None:
    """Put ``label`` with its top left corner at (x, y) into ``canvas_HW3``, in place; what is outside is cut off."""
    left, top = max(0, -x), max(0, -y)
    right = min(label.width, canvas_HW3.shape[1] - x)
    bottom = min(label.height, canvas_HW3.shape[0] - y)
    if right <= left or bottom <= top:
        return
    target = canvas_HW3[y + top : y + bottom, x + left : x + right]
    rgb = label.rgb[top:bottom, left:right]
    if label.clear is None:
        target[:] = rgb
    else:
        behind = target * label.clear[top:bottom, left:right]
        behind >>= 8
        np.add(rgb, behind, out=target, casting="unsafe")


def _inked(mask_HW: NDArray[np.uint8], ink: Colour, paper: Colour, opacity: float, *, radius: int) -> Label:
    height, width = mask_HW.shape
    scale = 4  # drawn larger and averaged: Pillow's rounded corners are not smooth
    plate = Image.new("L", (width * scale, height * scale), 0)
    ImageDraw.Draw(plate).rounded_rectangle(
        (0, 0, width * scale - 1, height * scale - 1), radius * scale, fill=round(255 * opacity)
    )
    under = np.asarray(plate.resize((width, height), Image.Resampling.BOX), np.float32)[..., None] / 255
    over = mask_HW.astype(np.float32)[..., None] / 255
    coverage = over + under * (1 - over)
    rgb = np.asarray(ink, np.float32) * over + np.asarray(paper, np.float32) * under * (1 - over)
    if float(coverage.min()) == 1.0:
        return Label(np.rint(rgb).astype(np.uint8), None)
    return Label(np.floor(rgb).astype(np.uint8), np.rint(256 - 256 * coverage).astype(np.uint16))


def _joins(character: str) -> bool:
    return character in "\u200c\u200d" or unicodedata.category(character) in ("Mn", "Me", "Mc")


def _plain(text: str) -> bool:
    return MISSING not in text


def _right_to_left(text: str) -> bool:
    strong = (unicodedata.bidirectional(character) for character in text)
    return next((kind for kind in strong if kind in ("L", "R", "AL")), "L") != "L"
