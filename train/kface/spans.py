"""Bytes of a file, or of a stretch of one: a zip that lies in another zip is read where it lies.

Enters: an open file. Leaves: a ``Span`` to read from at any place, never beyond its end.
"""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from train.errors import DataError

BLOCK: Final = 1 << 20
"""Bytes read at a time."""

MAX_RATIO: Final = 20
"""A zip of photographs does not shrink to less than a twentieth; what claims to is a bomb."""


class Span:
    """A stretch of an open file; closing it closes the file."""

    def __init__(self, file: BinaryIO, start: int, length: int, where: str) -> None:
        self._file = file
        self._start = start
        self.length = length
        self.where = where
        """Names it in messages."""

    def read(self, offset: int, size: int) -> bytes:
        """
        Raises:
            DataError: it ends before, or the disk does not answer.
        """
        if offset < 0 or size < 0 or offset + size > self.length:
            raise DataError(f"{self.where}: is cut short or damaged; get it again")
        try:
            self._file.seek(self._start + offset)
            content = self._file.read(size)
        except OSError as err:
            raise DataError(f"{self.where}: cannot be read ({err.strerror}); is the disk still there?") from err
        if len(content) != size:
            raise DataError(f"{self.where}: became shorter while it was read; get it again")
        return content

    def part(self, offset: int, length: int, where: str) -> Span:
        """A stretch of this one; it needs this one open."""
        if offset < 0 or length < 0 or offset + length > self.length:
            raise DataError(f"{where}: lies beyond the end of {self.where}; it is cut short, get it again")
        return Span(self._file, self._start + offset, length, where)

    def close(self) -> None:
        self._file.close()


def open_span(path: Path) -> Span:
    """
    Raises:
        DataError: it cannot be opened, or is no file.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{path}: is no file; check the path")
        file = path.open("rb")
        return Span(file, 0, path.stat().st_size, str(path))
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror}); check the path and its permissions") from err


def inflated(packed: Span, size: int) -> Span:
    """A deflated stretch, unpacked into a temporary file without a name that goes with the span.

    Args:
        packed: raw deflate data.
        size: bytes that it is said to hold.

    Raises:
        DataError: damaged, holds another number of bytes, a bomb, or the temporary folder is full.
    """
    if size > packed.length * MAX_RATIO + BLOCK:
        raise DataError(f"{packed.where}: claims {size >> 20} MB in {packed.length >> 20} MB, no zip of photos does")
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the span that is returned closes it
    try:
        written = _inflate(packed, size, file)
    except OSError as err:
        file.close()
        raise DataError(
            f"{packed.where}: {size >> 20} MB do not fit into {tempfile.gettempdir()} ({err.strerror}); set TMPDIR to "
            "a folder with room, or unpack the outer zip"
        ) from err
    except BaseException:
        file.close()
        raise
    if written != size:
        file.close()
        raise DataError(f"{packed.where}: holds {written} bytes and claims {size}; it is damaged, get it again")
    return Span(file, 0, size, packed.where)


def _inflate(packed: Span, size: int, file: BinaryIO) -> int:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    written, offset = 0, 0
    while not decoder.eof and (offset < packed.length or decoder.unconsumed_tail):
        block = decoder.unconsumed_tail
        if not block:
            block = packed.read(offset, min(BLOCK, packed.length - offset))
            offset += len(block)
        try:
            content = decoder.decompress(block, 4 * BLOCK)
        except zlib.error as err:
            raise DataError(f"{packed.where}: is damaged ({err}); get it again") from err
        written += len(content)
        if written > size:
            raise DataError(f"{packed.where}: unpacks to more than the {size} bytes that it claims; it is a bomb")
        file.write(content)
    return written
