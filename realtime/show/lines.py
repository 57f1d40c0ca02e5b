"""Whole JSON lines into a file or to standard output.

Enters: records as dictionaries. Leaves: one line each, written by one call, so that a reader or a kill never sees half.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from realtime.errors import OutputError
from realtime.show.partial import reason

STDOUT = "-"


class Lines:
    """One file of JSON lines; ``-`` is standard output."""

    def __init__(self, path: Path | str, *, append: bool) -> None:
        """``append``: go on after what the file holds; else the first line written replaces it.

        Raises:
            OutputError: the folder is missing or not writable.
        """
        self.path = str(path)
        self._replace = not append
        self._owned = self.path != STDOUT
        self._fd = -1
        self._file = False
        if not self._owned:
            self._fd = 1
            return
        try:
            self._fd = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
            self._file = stat.S_ISREG(os.fstat(self._fd).st_mode)  # pipes and devices have no end to cut back to
            if append and self._file:
                self._end_torn_line()
        except FileNotFoundError as err:
            raise OutputError(f"{path}: there is no folder {Path(path).parent}; make it or choose another") from err
        except OSError as err:
            raise OutputError(f"{path}: cannot be written ({err.strerror or err})") from err

    def write(self, record: dict[str, Any]) -> None:
        """Add ``record`` as one line of UTF-8; numbers that are not finite become null.

        Raises:
            OutputError: the disk is full, or whoever read standard output has gone; lines before stay whole.
        """
        if self._fd < 0:
            raise OutputError(f"{self.path}: is closed; no more lines can be written")
        text = json.dumps(finite(record), ensure_ascii=False, allow_nan=False, separators=(", ", ": ")) + "\n"
        line = text.encode("utf-8", errors="replace")  # a lone surrogate has no UTF-8
        try:
            if self._replace and self._file:
                os.ftruncate(self._fd, 0)
            self._replace = False
            self._put(line)
        except OSError as err:
            where = "standard output" if not self._owned else self.path
            why = "nobody reads it any more" if err.errno == errno.EPIPE else reason(err)
            raise OutputError(f"{where}: {why}; the lines before are whole") from err

    def close(self) -> None:
        """May be called twice."""
        if self._owned and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _put(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        try:
            while written < len(line):  # a pipe that is nearly full, or the last bytes of a disk
                written += os.write(self._fd, line[written:])
        except OSError:
            if self._file:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise

    def _end_torn_line(self) -> None:
        """A program of others may have been killed within a line; ours begins on a new one."""
        size = os.fstat(self._fd).st_size
        if size:
            os.lseek(self._fd, size - 1, os.SEEK_SET)
            if os.read(self._fd, 1) != b"\n":
                os.write(self._fd, b"\n")


def finite(value: Any) -> Any:
    """``value`` with None in place of numbers that are not finite, numpy scalars as Python's, tuples as lists."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
