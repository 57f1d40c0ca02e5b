"""Photos as a source: one file, a folder or a pattern, in the order in which a person would count them.

Enters: paths. Leaves: a ``Reel`` with one picture a photo, a second apart. A photo that cannot be used is skipped and
logged; none at all is a ``SourceError``.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from realtime.capture.addresses import safe_name
from realtime.capture.photo import PHOTO_SUFFIXES, find_photos, load_photo
from realtime.capture.recorded import RecordedSource
from realtime.capture.source import Source, SourceInfo
from realtime.errors import PhotoError, SourceError
from realtime.records import ArrayPixels, Pixels
from realtime.settings import CaptureSettings

logger = logging.getLogger(__name__)

STILL_SUFFIXES: Final = PHOTO_SUFFIXES - {".gif"}
"""A lone GIF plays as the video that it often is."""

MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
"""How photos begin, whatever they are called: JPEG, PNG, TIFF in both byte orders, JPEG 2000."""

HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif"})
"""Kinds of ISO media file that are one still picture."""

SECONDS_A_PHOTO: Final = 1.0
"""Photos have no rate; a second apart, each gets a time of its own."""


def open_folder(path: Path, settings: CaptureSettings, name: str | None) -> Source:
    """The photos in ``path`` and in its folders.

    Raises:
        SourceError: it cannot be read, or holds no photo that can be used.
    """
    shown = safe_name(path.name or path.absolute().name)
    try:
        photos = find_photos(path)
    except PhotoError as err:
        raise SourceError(f"{err}; give a video by its own name") from None
    return open_photos(photos, settings, name=name or shown, where=shown)


def open_pattern(pattern: str, settings: CaptureSettings, name: str | None) -> Source:
    """The files that ``pattern`` matches; ``**`` goes into folders.

    Raises:
        SourceError: it matches no file, or no photo that can be used.
    """
    shown = safe_name(pattern)
    matches = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - pathlib's has no absolute patterns
    photos = [path for path in map(Path, matches) if path.is_file()]
    if not photos:
        raise SourceError(f"{shown}: matches no file; check the pattern")
    return open_photos(photos, settings, name=name or shown, where=shown)


def open_photos(paths: Sequence[Path], settings: CaptureSettings, *, name: str, where: str) -> Source:
    """``paths`` in natural order; ``where`` names them in messages."""
    ordered = sorted(paths, key=_natural)
    return RecordedSource(name, lambda: PhotoReel(ordered, where), settings)


def looks_like_photo(path: Path) -> bool:
    """Whether the file's first bytes, or else its suffix, say that it is a still picture."""
    if not path.is_file() or path.suffix.lower() in (".mjpg", ".mjpeg"):
        return False
    with path.open("rb") as file:
        head = file.read(18)
    if head.startswith(MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] in HEIF_BRANDS
    return path.suffix.lower() in STILL_SUFFIXES or _is_bitmap(head) or re.match(rb"P[1-6]\s", head) is not None


class PhotoReel:
    """One pass over photos; loads the first at once."""

    step_s = SECONDS_A_PHOTO

    def __init__(self, paths: Sequence[Path], where: str) -> None:
        self._paths = list(paths)
        self._next = 0
        self._given = 0
        self._refused: list[str] = []
        self._first = self._load_next()
        if self._first is None:
            more = f" (and {len(self._refused) - 1} more)" if len(self._refused) > 1 else ""
            alone = len(self._paths) == 1
            raise SourceError(self._refused[0] if alone else f"{where}: no photo can be used: {self._refused[0]}{more}")
        self.info = SourceInfo(
            kind="images", width=self._first.width, height=self._first.height, fps=None, frames=len(self._paths)
        )

    def read(self) -> tuple[float, Pixels] | None:
        pixels = self._first or self._load_next()
        self._first = None
        if pixels is None:
            return None
        time_s = self._given * SECONDS_A_PHOTO
        self._given += 1
        return time_s, pixels

    def close(self) -> None:
        self._next = len(self._paths)
        self._first = None

    def _load_next(self) -> ArrayPixels | None:
        while self._next < len(self._paths):
            path = self._paths[self._next]
            self._next += 1
            try:
                return ArrayPixels(load_photo(path))
            except PhotoError as err:
                self._refused.append(str(err))
                if len(self._paths) > 1:
                    logger.warning("photo skipped: %s", err)
        return None


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """``img2`` before ``img10``: runs of digits compare as numbers."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", str(path).casefold())
    return [(0, int(digits), "") if digits else (1, 0, text) for digits, text in parts]


def _is_bitmap(head: bytes) -> bool:
    """``BM`` alone is too little; the size of the second header has few values."""
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124)
