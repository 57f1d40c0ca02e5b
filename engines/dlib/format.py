"""The pieces of dlib's serialization: integers, floats, text, tensors.

Enters: the bytes of a ``.dat`` file. Leaves: plain Python values and numpy arrays, one field after another. Nothing is
allocated from a size that the file merely claims: a tensor must lie inside the file, a text is short.
"""

from __future__ import annotations

import math
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError

MAX_TEXT: Final = 256
"""Layer tags are a dozen letters."""

MAX_EXPONENT: Final = 2048
"""A double needs 1074; more would only overflow."""

_SPECIAL: Final = {32000: math.inf, 32001: -math.inf, 32002: math.nan}


class Reader:
    """A cursor over one file's bytes; every method reads one field or raises ``ModelFileError``."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._at = 0
        self._where = where

    def fail(self, problem: str) -> NoReturn:
        raise ModelFileError(f"{self._where}: byte {self._at}: {problem}; get the file again from its publisher")

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            self.fail(f"the file ends, but {count} more bytes were promised (it has {len(self._data)})")
        chunk = self._data[self._at : end]
        self._at = end
        return chunk

    def end(self) -> None:
        """The file must be used up."""
        if self._at != len(self._data):
            self.fail(f"{len(self._data) - self._at} bytes are left over")

    def flag(self) -> bool:
        value = self._take(1)
        if value not in (b"0", b"1"):
            self.fail(f"expected a flag '0' or '1', got {value!r}")
        return value == b"1"

    def integer(self, low: int, high: int, what: str) -> int:
        """A control byte (sign, byte count), then the magnitude, least significant byte first."""
        control = self._take(1)[0]
        count = control & 0x0F
        if control & 0x70 or not 1 <= count <= 8:
            self.fail(f"expected {what}, got no dlib integer (control byte 0x{control:02x})")
        value = int.from_bytes(self._take(count), "little")
        value = -value if control & 0x80 else value
        if not low <= value <= high:
            self.fail(f"{what} is {value}; expected {low}" + ("" if low == high else f" to {high}"))
        return value

    def real(self, what: str) -> float:
        """Mantissa and binary exponent; must be finite."""
        mantissa = self.integer(-(1 << 63), 1 << 63, what)
        exponent = self.integer(-(1 << 31), 1 << 31, what)
        if exponent in _SPECIAL or abs(exponent) > MAX_EXPONENT:
            self.fail(f"{what} is not a finite number")
        try:
            return math.ldexp(mantissa, exponent)
        except OverflowError:
            self.fail(f"{what} is not a finite number")

    def text(self, what: str) -> str:
        raw = self._take(self.integer(0, MAX_TEXT, f"the length of {what}"))
        if not raw.isascii():
            self.fail(f"{what} is {raw[:16]!r}; expected letters")
        return raw.decode("ascii")

    def shape(self, what: str) -> tuple[int, int, int, int]:
        n, k, rows, columns = (self.integer(0, 1 << 31, f"a dimension of {what}") for _ in range(4))
        return n, k, rows, columns

    def tensor(self, what: str) -> NDArray[np.float32]:
        """Any number of float32, flat; must be finite."""
        self.integer(2, 2, f"the tensor version of {what}")
        count = math.prod(self.shape(what))
        values = np.frombuffer(self._take(4 * count), dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            self.fail(f"{what} holds values that are not finite")
        return values

    def alias(self, what: str) -> tuple[int, int, int, int]:
        """The shape of a part of a tensor."""
        self.integer(1, 1, f"the alias version of {what}")
        return self.shape(what)
