"""The record layer of RecordIO: payloads of any bytes in one file, each found again by its offset.

Enters: payloads. Leaves: a ``.rec`` file, byte for byte as dmlc-core's ``RecordIOWriter`` writes it, and back. A record
is the magic, a word with flag and length, the bytes, and zeros up to a multiple of 4. Where a payload itself holds the
magic at a multiple of 4, the magic is left out and the record goes on in a next part; a reader puts it back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from train.errors import DataError

MAGIC: Final = 0xCED7230A
MAGIC_BYTES: Final = struct.pack("<I", MAGIC)
WORDS: Final = struct.Struct("<II")
"""Magic; flag in the upper 3 bits, length of the part in the lower 29."""

LENGTH_BITS: Final = 29
MAX_PAYLOAD: Final = (1 << LENGTH_BITS) - 1
"""dmlc-core writes nothing longer."""

WHOLE, FIRST, MIDDLE, LAST = range(4)
"""Flags: a record in one part, and the parts of one that is split."""


def encode(payload: bytes) -> bytes:
    """One record.

    Raises:
        DataError: longer than ``MAX_PAYLOAD``.
    """
    if len(payload) > MAX_PAYLOAD:
        raise DataError(f"a record of {len(payload)} bytes does not fit: RecordIO holds up to {MAX_PAYLOAD} in one")
    cuts = list(_aligned_magics(payload))
    parts = []
    for place, (start, end) in enumerate(zip([0, *(cut + 4 for cut in cuts)], [*cuts, len(payload)], strict=True)):
        flag = WHOLE if not cuts else FIRST if place == 0 else LAST if place == len(cuts) else MIDDLE
        parts += [WORDS.pack(MAGIC, flag << LENGTH_BITS | end - start), payload[start:end]]
    return b"".join(parts) + bytes(-len(payload) % 4)


def _aligned_magics(payload: bytes) -> Iterator[int]:
    place = payload.find(MAGIC_BYTES)
    while place >= 0:
        if place % 4 == 0:
            yield place
        place = payload.find(MAGIC_BYTES, place + 1)


class RecordFile:
    """A ``.rec`` file, mapped; nothing is read but what is asked for. Not shared between processes: open one in each.

    Raises:
        DataError: there is no such file, or it cannot be read or is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.size = path.stat().st_size
            if not self.size:
                raise DataError(f"{path}: is empty (0 bytes); copy the file again")
            self._bytes: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
        except FileNotFoundError as err:
            raise DataError(f"{path}: no such file; give the path of a .rec file") from err
        except OSError as err:
            raise DataError(f"{path}: cannot be read ({err.strerror or err}); give the path of a .rec file") from err

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """May be called twice."""
        self._bytes = np.zeros(0, dtype=np.uint8)
        self.size = 0

    def read(self, offset: int) -> bytes:
        """The payload of the record that begins at ``offset``.

        Raises:
            DataError: no record begins there, or it is cut short.
        """
        return MAGIC_BYTES.join(self._bytes[start:end].tobytes() for start, end in self._parts(offset))

    def after(self, offset: int) -> int:
        """Where the record at ``offset`` ends, with its padding.

        Raises:
            DataError: as ``read``.
        """
        end = max(end for _, end in self._parts(offset))
        return end + -end % 4

    def offsets(self) -> Iterator[int]:
        """Of every record from the start on, by reading their lengths.

        Raises:
            DataError: as ``read``; what was given before is whole.
        """
        offset = 0
        while offset < self.size:
            yield offset
            offset = self.after(offset)

    def heads(self, offsets_N: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
        """The first ``count`` bytes at each offset, (N, count) uint8; at the end of the file the last byte repeats."""
        places_NC = np.minimum(offsets_N[:, None] + np.arange(count), self.size - 1)
        heads_NC: NDArray[np.uint8] = self._bytes[places_NC]
        return heads_NC

    def _parts(self, offset: int) -> Iterator[tuple[int, int]]:
        """Start and end of each part's bytes."""
        start, flag = offset, FIRST
        while flag in (FIRST, MIDDLE):
            begun = start != offset
            flag, length = self._words(start, offset)
            if (flag in (MIDDLE, LAST)) != begun or flag > LAST:
                raise DataError(
                    f"{self.path}: the record at byte {offset} has parts out of order; the file is damaged, copy it "
                    "again"
                )
            start += WORDS.size
            if start + length > self.size:
                raise DataError(
                    f"{self.path}: the record at byte {offset} is cut short (it needs {start + length} bytes, the file "
                    f"has {self.size}); copy the file again"
                )
            yield start, start + length
            start += length

    def _words(self, start: int, offset: int) -> tuple[int, int]:
        """Flag and length of a part."""
        if not 0 <= start <= self.size - WORDS.size:
            raise DataError(
                f"{self.path}: the record at byte {offset} lies beyond the end ({self.size} bytes); the file is cut "
                "short or its .idx belongs to another file, copy both again"
            )
        magic, word = WORDS.unpack(self._bytes[start : start + WORDS.size].tobytes())
        if magic != MAGIC:
            raise DataError(
                f"{self.path}: no record begins at byte {start} (magic {magic:#010x} instead of {MAGIC:#010x}); it is "
                "no RecordIO file, is damaged, or its .idx belongs to another file"
            )
        return word >> LENGTH_BITS, word & MAX_PAYLOAD
