"""Typing a name in the window: which face, and the text so far. Pure; knows no SDL.

Enters: tiles and what was typed. Leaves: the face to name and the edited text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from realtime.records import Sighting
from realtime.show.wall import Place, Tile

MAX_NAME: Final = 200
"""Characters that can be typed; what the gallery allows is the gallery's to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A name being typed for ``track`` of ``source``."""

    source: str
    track: int
    text: str = ""
    composing: str = ""
    """What the input method shows but has not given yet, as half a Hangul syllable."""

    @property
    def name(self) -> str:
        """The text as a name: composed (NFC), without space around it."""
        return " ".join(unicodedata.normalize("NFC", self.text).split())

    def typed(self, text: str) -> Draft:
        """With ``text`` given by the keyboard, the input method or the clipboard; controls are ignored."""
        clean = "".join(c if c.isprintable() or c == "\u200d" else " " if c.isspace() else "" for c in text)
        return replace(self, text=(self.text + clean)[:MAX_NAME], composing="")

    def composed(self, text: str) -> Draft:
        """With ``text`` under way in the input method."""
        return replace(self, composing=text)

    def erased(self) -> Draft:
        """Without the last character and the marks that stand on it."""
        end = len(self.text)
        while end > 0 and unicodedata.category(self.text[end - 1]) in ("Mn", "Me", "Mc", "Cf"):
            end -= 1
        return replace(self, text=self.text[: max(0, end - 1)])


def nearest_nameless(tiles: Sequence[Tile], places: Sequence[Place], x: float, y: float) -> tuple[str, int] | None:
    """(source, track) of the face without a name whose centre is nearest to (x, y) of the wall; None without any.

    A face that is known to be unknown comes before one that is not decided yet.
    """
    found = []
    for tile, place in zip(tiles, places, strict=True):
        for face in tile.sightings:
            if face.state != "named":
                centre_x, centre_y = _centre(face, place)
                away = (centre_x - x) ** 2 + (centre_y - y) ** 2
                found.append((face.state != "unknown", away, (tile.source, face.track)))
    return min(found)[2] if found else None


def nameless_at(tiles: Sequence[Tile], source: str, point: tuple[float, float]) -> tuple[str, int] | None:
    """(source, track) of the smallest face without a name around ``point`` of the frame of ``source``; None if none."""
    found = []
    for face in (face for tile in tiles if tile.source == source for face in tile.sightings):
        x1, y1, x2, y2 = face.box
        if face.state != "named" and x1 <= point[0] < x2 and y1 <= point[1] < y2:
            found.append(((x2 - x1) * (y2 - y1), (source, face.track)))
    return min(found)[1] if found else None


def _centre(face: Sighting, place: Place) -> tuple[float, float]:
    x1, y1, x2, y2 = face.box
    return place.x + (x1 + x2) / 2 * place.scale[0], place.y + (y1 + y2) / 2 * place.scale[1]
