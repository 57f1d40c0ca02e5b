"""An array of crops in a file that is appended to, with a line of notes for each image beside it.

Enters: crops and notes, one by one; whatever an earlier process left, killed at any byte. Leaves: both files cut to
what they agree on, and in the end an ordinary .npy file. A note says whether its image gave a crop.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

# S side of a crop, pixels; 3 channels RGB
MAX_LINE_BYTES: Final = 1 << 20
"""A longer line of notes is damage: a name and a sentence are a few hundred bytes."""


class GrowingCrops:
    """Notes are JSON values, a line each. Crops are written before their notes, so none is noted that is not there."""

    def __init__(self, crops: Path, notes: Path, size: int, has_crop: Callable[[Any], bool]) -> None:
        """Go on where the files end, or start them.

        Args:
            crops: the array's file; not called .npy before it is whole, so that nobody takes it for one.
            notes: the file of notes.
            size: side of a crop, pixels.
            has_crop: whether the image of a note gave a crop. What it raises (TypeError, ValueError, LookupError)
                on a note that is none ends the reading there.

        Raises:
            OSError: they cannot be written to.
        """
        self.done = 0
        """Notes."""
        self.rows = 0
        """Crops."""
        self._size = size
        self._crop_bytes = size * size * 3
        self._has_crop = has_crop
        with ExitStack() as opened:
            self._crops = opened.enter_context(crops.open("r+b" if crops.exists() else "w+b"))
            self._notes = opened.enter_context(notes.open("r+b" if notes.exists() else "w+b"))
            self._go_on()
            self._opened = opened.pop_all()

    def _go_on(self) -> None:
        """Cut both files to what they agree on."""
        start = self._head()
        whole = max(0, self._crops.seek(0, os.SEEK_END) - start) // self._crop_bytes
        agreed = 0
        for line, note in whole_lines(self._notes):
            try:
                more = self._has_crop(note)
            except (TypeError, ValueError, LookupError):
                break
            if self.rows + more > whole:
                break
            agreed += len(line)
            self.done += 1
            self.rows += more
        self._notes.seek(agreed)
        self._notes.truncate()
        self._crops.seek(start + self.rows * self._crop_bytes)
        self._crops.truncate()

    def _head(self) -> int:
        """Write the header; numpy leaves room in it for the first axis to grow, so that it has one length."""
        self._crops.seek(0)
        shape = (self.rows, self._size, self._size, 3)
        npy.write_array_header_1_0(self._crops, {"shape": shape, "fortran_order": False, "descr": "|u1"})
        return self._crops.tell()

    def add(self, note: Any, crop_SS3: NDArray[np.uint8] | None) -> None:
        """Append a note, and its crop where it has one.

        Raises:
            OSError: no room, or the device is gone; what was added before stays.
        """
        if crop_SS3 is not None:
            self._crops.write(np.ascontiguousarray(crop_SS3).data)
            self._crops.flush()
            self.rows += 1
        self._notes.write(json.dumps(note).encode("ascii") + b"\n")
        self._notes.flush()
        self.done += 1

    def finish(self) -> None:
        """Write the true count into the header, and both files to the disk itself."""
        self._head()
        for file in (self._crops, self._notes):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> GrowingCrops:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


def whole_lines(file: Any) -> Iterator[tuple[bytes, Any]]:
    """Lines of JSON from the start of a binary file, as bytes and values, up to the first that is not whole."""
    file.seek(0)
    while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
        try:
            yield line, json.loads(line)
        except (ValueError, RecursionError):
            return
