"""Font files: which there are, and which characters each can draw.

Enters: the user's font file, if any. Leaves: the ``Typeface`` for a character: the user's own, else one that is shipped
beside this module (Latin, Cyrillic, Greek, Hangul, kana, Arabic, Hebrew, Devanagari, Thai; the same picture on every
machine), else one that the system has (Han, symbols, other scripts).
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from realtime.errors import SettingsError

Ints = NDArray[np.int64]

SHIPPED: Final = (
    "NotoSans-Regular.ttf",
    "NotoSansCJKkr-Hangul.otf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
)
"""In ``fonts/``, under the SIL Open Font License (see the text there); asked in this order."""

SYSTEM: Final = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKkr-Regular.otf",
    "NotoSansCJKsc-Regular.otf",
    "AppleSDGothicNeo.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "malgun.ttf",
    "msyh.ttc",
    "YuGothR.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "NanumGothic.ttf",
    "Nirmala.ttc",
    "Nirmala.ttf",
    "Arial Unicode.ttf",
    "segoeui.ttf",
    "seguisym.ttf",
    "Apple Symbols.ttf",
    "NotoSansSymbols2-Regular.ttf",
    "NotoSansSymbols-Regular.ttf",
    "DejaVuSans.ttf",
    "FreeSans.ttf",
)
"""Well-known files with many scripts, of Linux distributions, macOS and Windows; asked in this order."""

MAX_FONT_BYTES: Final = 256 << 20


class Typeface:
    """One font of one file; ``index`` chooses in a collection."""

    def __init__(self, path: Path, index: int = 0) -> None:
        """Raises OSError or ValueError where the file is not a font that can be drawn with."""
        self.path = path
        self.index = index
        self._characters = covered(path, index)
        ImageFont.truetype(str(path), 16, index=index)

    def has(self, character: str) -> bool:
        return ord(character) in self._characters

    @lru_cache(maxsize=64)  # noqa: B019 - a typeface lives as long as the program draws
    def at(self, size_px: int) -> ImageFont.FreeTypeFont:
        """This font at ``size_px`` pixels an em."""
        return ImageFont.truetype(str(self.path), size_px, index=self.index)


class Typefaces:
    """The fonts in the order in which they are asked; each is opened when the ones before it lack a character."""

    def __init__(self, font: str | None = None) -> None:
        """Raises SettingsError where ``font`` cannot be used."""
        self._opened: list[Typeface] = []
        if font is not None:
            try:
                self._opened.append(Typeface(Path(font).expanduser()))
            except (OSError, ValueError) as err:
                raise SettingsError(
                    f"show.font: {font} cannot be used as a font ({err}); give a .ttf, .otf or .ttc file"
                ) from err
        self._rest = _candidates()

    @property
    def first(self) -> Typeface:
        """The one that draws what nobody can: its box glyph."""
        return next(iter(self))

    def __iter__(self) -> Iterator[Typeface]:
        at = 0
        while at < len(self._opened) or self._open_next():
            yield self._opened[at]
            at += 1

    def of(self, character: str) -> Typeface | None:
        """The first font that has ``character``, or None."""
        return next((face for face in self if face.has(character)), None)

    def _open_next(self) -> bool:
        for path in self._rest:
            try:
                self._opened.append(Typeface(path))
            except (OSError, ValueError):  # a damaged or bitmap-only system font is no reason to draw nothing
                continue
            return True
        return False


def _candidates() -> Iterator[Path]:
    here = Path(__file__).parent / "fonts"
    yield from (here / name for name in SHIPPED)
    found: dict[str, Path] = {}
    for folder in system_folders():
        for root, _folders, files in os.walk(folder):
            for name in files:
                found.setdefault(name, Path(root) / name)
    yield from (found[name] for name in SYSTEM if name in found)


def system_folders() -> tuple[Path, ...]:
    """Where this operating system keeps fonts, the user's own first."""
    home = Path.home()
    if sys.platform == "darwin":
        return (home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts"))
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", home)) / "Microsoft/Windows/Fonts"
        return (local, Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts")
    return (
        home / ".local/share/fonts",
        home / ".fonts",
        Path("/usr/local/share/fonts"),
        Path("/usr/share/fonts"),
    )


def covered(path: Path, index: int = 0) -> frozenset[int]:
    """The code points for which the font has a shape, and spaces.

    Read from the tables of the file, since Pillow does not tell (OpenType 1.9: ``cmap`` formats 4 and 12; ``loca`` for
    glyphs that are empty, as four in five of NanumSquare's Hangul are). Raises ValueError where the file is not
    OpenType, OSError where it cannot be read.
    """
    if path.stat().st_size > MAX_FONT_BYTES:
        raise ValueError(f"larger than {MAX_FONT_BYTES >> 20} MiB")
    data = path.read_bytes()
    try:
        tables = _tables(data, index)
        empty = _empty(data, tables)
        found: set[int] = set()
        for codes, glyphs in _maps(data, tables["cmap"]):
            shaped = codes[~np.isin(glyphs, empty)]
            found.update(shaped.tolist())
            found.update(code for code in codes.tolist() if chr(code).isspace())
        return frozenset(found)
    except (struct.error, ValueError, IndexError, KeyError) as err:
        raise ValueError("its character map cannot be read") from err


def _tables(data: bytes, index: int) -> dict[str, int]:
    """Offsets of the tables by their tags."""
    start = 0
    if data[:4] == b"ttcf":
        (start,) = struct.unpack_from(">I", data, 12 + 4 * index)
    (count,) = struct.unpack_from(">H", data, start + 4)
    entries = [struct.unpack_from(">4s4xI", data, start + 12 + 16 * number) for number in range(count)]
    return {tag.decode("latin-1"): offset for tag, offset in entries}


def _empty(data: bytes, tables: dict[str, int]) -> Ints:
    """The glyphs without an outline; none where outlines are not TrueType's."""
    if "loca" not in tables:
        return np.zeros(0, np.int64)
    (count,) = struct.unpack_from(">4xH", data, tables["maxp"])
    (long,) = struct.unpack_from(">50xH", data, tables["head"])
    offsets = np.frombuffer(data, ">u4" if long else ">u2", count + 1, tables["loca"]).astype(np.int64)
    return np.flatnonzero(np.diff(offsets) == 0).astype(np.int64)


def _maps(data: bytes, cmap: int) -> Iterator[tuple[Ints, Ints]]:
    """Code points and their glyphs, of every Unicode map of the font."""
    (count,) = struct.unpack_from(">H", data, cmap + 2)
    for number in range(count):
        platform, encoding, offset = struct.unpack_from(">HHI", data, cmap + 4 + 8 * number)
        if platform == 0 or (platform == 3 and encoding in (1, 10)):
            (kind,) = struct.unpack_from(">H", data, cmap + offset)
            if kind == 4:
                yield from _format_4(data, cmap + offset)
            elif kind == 12:
                yield from _format_12(data, cmap + offset)


def _format_4(data: bytes, at: int) -> Iterator[tuple[Ints, Ints]]:
    (doubled,) = struct.unpack_from(">6xH", data, at)

    def column(number: int) -> Ints:
        skip = at + 14 + number * doubled + (2 if number else 0)  # a reserved word follows the first column
        return np.frombuffer(data, ">u2", doubled // 2, skip).astype(np.int64)

    offsets_at = at + 16 + 3 * doubled
    found = []
    for row, (last, first, delta, offset) in enumerate(zip(*(column(n) for n in range(4)), strict=True)):
        codes = np.arange(first, min(int(last), 0xFFFE) + 1)
        glyphs = codes
        if offset:
            glyphs = np.frombuffer(data, ">u2", len(codes), offsets_at + 2 * row + int(offset)).astype(np.int64)
        moved = np.where(glyphs == 0, 0, (glyphs + delta) & 0xFFFF) if offset else (glyphs + delta) & 0xFFFF
        found.append((codes[moved != 0], moved[moved != 0]))
    yield _joined(found)


def _joined(pairs: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *(pair[0] for pair in pairs)]), np.concatenate([none, *(pair[1] for pair in pairs)])


def _format_12(data: bytes, at: int) -> Iterator[tuple[Ints, Ints]]:
    (count,) = struct.unpack_from(">12xI", data, at)
    found = []
    for first, last, glyph in np.frombuffer(data, ">u4", 3 * count, at + 16).reshape(-1, 3).astype(np.int64):
        codes = np.arange(first, min(int(last), 0x10FFFF) + 1)
        glyphs = codes - first + glyph
        found.append((codes[glyphs != 0], glyphs[glyphs != 0]))
    yield _joined(found)
