"""What may be a person's name, and when two names are one person.

Enters: text that a person typed, or a file's name. Leaves: the name as it is kept and shown, and the key to find it by.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Final

from realtime.errors import GalleryError

MAX_NAME: Final = 200
"""Characters. Longer than any passport's; a name is drawn over a face."""

_REFUSED: Final = {"Cc": "a control character", "Cs": "half a character", "Zl": "a line break", "Zp": "a line break"}

_DIRECTION: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional overrides: with them a name is drawn as another one."""

_COUNTER: Final = re.compile(r"(?:[\s_\-]*\(\d+\)|[\s_\-]+\d+|(?<=\D)\d+)$")
"""What cameras, browsers and people put behind a name: ``ana_2``, ``Ana (2)``, ``ana-03``, ``ana2``."""

_CAMERA: Final = re.compile(
    r"(img|mvimg|pxl|dsc|dscn|dscf|gopr|image|photo|foto|picture|screenshot|capture|whatsapp image|snapshot)?"
    r"[\s_\-(]*\d[\d\s_\-.at()]*",
    re.IGNORECASE,
)
"""File names that cameras give: two of them are not one person called "IMG"."""


def clean_name(text: str) -> str:
    """Trimmed, runs of spaces made one, composed (NFC). Slashes, quotes, emoji and every script are fine.

    Raises:
        GalleryError: empty, longer than ``MAX_NAME``, or with characters that cannot be shown.
    """
    for character in text:
        kind = unicodedata.category(character)
        if kind in _REFUSED or character in _DIRECTION:
            what = _REFUSED.get(kind, "a character that turns the direction of writing")
            raise GalleryError(f"name {_brief(text)}: holds {what} (U+{ord(character):04X}); leave it out")
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not any(unicodedata.category(character)[0] not in "ZCM" for character in name):
        raise GalleryError(f"name {_brief(text)}: has no visible character; give 1 to {MAX_NAME}")
    if len(name) > MAX_NAME:
        raise GalleryError(f"name {_brief(text)}: has {len(name)} characters; {MAX_NAME} are allowed")
    return name


def name_key(name: str) -> str:
    """Equal for names that people read as the same: case, and forms of the same letters, do not count."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def name_of_file(path: Path) -> str:
    """The person whom a loose photo's file is named after: ``Ana_Silva (2).jpg`` is Ana Silva.

    Underscores are spaces; a hyphen is one, too, where the name has no other (``ana-silva``, but ``Jean-Luc Picard``
    stays). A counter behind the name is dropped.

    Raises:
        GalleryError: what is left is no name, or the name is one that a camera gave.
    """
    if _CAMERA.fullmatch(path.stem):
        raise GalleryError(
            f"{path}: is a camera's name, not a person's; give --name, or the folder above (whose folders are people)"
        )
    words = _COUNTER.sub("", path.stem).replace("_", " ")
    if " " not in words.strip():
        words = words.replace("-", " ")
    return clean_name(words)


def name_of_folder(path: Path) -> str:
    """The person whose photos a folder holds; kept as written, but underscores are spaces.

    Raises:
        GalleryError: it is no name.
    """
    return clean_name(path.resolve().name.replace("_", " "))


def _brief(text: str) -> str:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return ascii(shown)
