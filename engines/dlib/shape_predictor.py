"""Reads dlib's shape predictors (Kazemi and Sullivan 2014) without dlib.

Enters: ``shape_predictor_5_face_landmarks.dat`` or one like it. Leaves: the mean shape and, of each cascade, the pixels
that it looks at and its trees, as arrays. Such a file is integers alone, one after another, a float being two of them:
all are cut apart first, then the arrays are views of what was found. Nothing is allocated from a size that the file
merely claims, and trees that are not all of one depth are refused.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from engines.dlib.format import MAX_EXPONENT
from engines.errors import ModelFileError

MAX_FILE_BYTES: Final = 128 << 20
"""The 68-point predictor has 100 MB."""

MAX_POINTS: Final = 1024
MAX_CASCADES: Final = 256

# C cascades, T trees each, S splits and L = S + 1 leaves of a tree, F pixels that a cascade looks at, P points
Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapePredictor:
    """An ensemble of regression trees; points lie in the unit square of a face's box."""

    mean_P2: Float32
    anchors_CF: Ints
    """Point that a pixel is near to."""
    deltas_CF2: Float32
    """From that point, in the mean shape's frame."""
    first_CTS: Ints
    second_CTS: Ints
    """A split goes left where the first pixel is brighter than the second by more than its threshold; the children of
    split s are 2 s + 1 and 2 s + 2."""
    thresholds_CTS: Float32
    leaves_CTLP2: Float32
    """What a tree adds to the shape."""

    @property
    def points(self) -> int:
        return len(self.mean_P2)

    @property
    def depth(self) -> int:
        """Splits from a tree's root to a leaf."""
        return int(self.leaves_CTLP2.shape[2]).bit_length() - 1


def read_shape_predictor(path: Path) -> ShapePredictor:
    """
    Raises:
        ModelFileError: missing, truncated, foreign or damaged file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelFileError(f"{path}: {size} bytes are too many for a shape predictor; give dlib's .dat file")
        data = path.read_bytes()
    except OSError as err:
        raise ModelFileError(f"{path}: cannot be read ({err.strerror}); give the path of dlib's .dat file") from err
    return parse_shape_predictor(data, path.name)


def parse_shape_predictor(data: bytes, where: str) -> ShapePredictor:
    """As ``read_shape_predictor``, from memory; ``where`` names the file in messages."""
    reader = _Integers(data, where)
    reader.one(1, 1, "the version (a shape predictor is expected)")
    mean_P2 = reader.column("the mean shape").reshape(-1, 2)
    points = len(mean_P2)
    cascades = reader.one(1, MAX_CASCADES, "the number of cascades")
    forests = [reader.forest(points) for _ in range(cascades)]
    reader.one(cascades, cascades, "the number of cascades with anchors")
    anchors = [reader.many("anchors") for _ in range(cascades)]
    reader.one(cascades, cascades, "the number of cascades with pixels")
    deltas = [reader.pairs("pixels") for _ in range(cascades)]
    reader.end()
    if len({*map(len, anchors), *map(len, deltas)}) != 1:
        reader.fail("cascades that look at different numbers of pixels are not supported")
    if len({each.leaves_TLP2.shape for each in forests}) != 1:
        reader.fail("cascades with trees of different numbers or depths are not supported")
    pixels = len(deltas[0])
    for forest, anchors_F in zip(forests, anchors, strict=True):
        if max(anchors_F.max(initial=0), 0) >= points or anchors_F.min(initial=0) < 0:
            reader.fail(f"an anchor is not one of {points} points")
        for index_TS in (forest.first_TS, forest.second_TS):
            if not 0 <= index_TS.min() <= index_TS.max() < pixels:
                reader.fail(f"a split looks at a pixel that is not one of {pixels}")
    return ShapePredictor(
        mean_P2=mean_P2,
        anchors_CF=np.stack(anchors),
        deltas_CF2=np.stack(deltas),
        first_CTS=np.stack([forest.first_TS for forest in forests]),
        second_CTS=np.stack([forest.second_TS for forest in forests]),
        thresholds_CTS=np.stack([forest.thresholds_TS for forest in forests]),
        leaves_CTLP2=np.stack([forest.leaves_TLP2 for forest in forests]),
    )


@dataclass(frozen=True, slots=True)
class _Forest:
    first_TS: Ints
    second_TS: Ints
    thresholds_TS: Float32
    leaves_TLP2: Float32


class _Integers:
    """A cursor over all integers of a file."""

    def __init__(self, data: bytes, where: str) -> None:
        self._where = where
        self._at = 0
        self._values_I = self._cut(data)

    def fail(self, problem: str) -> NoReturn:
        raise ModelFileError(f"{self._where}: number {self._at}: {problem}; get the file again from its publisher")

    def end(self) -> None:
        """The file must be used up."""
        if self._at != len(self._values_I):
            self.fail(f"{len(self._values_I) - self._at} numbers are left over")

    def one(self, low: int, high: int, what: str) -> int:
        value = int(self.take(1, what)[0])
        if not low <= value <= high:
            self.fail(f"{what} is {value}; expected {low}" + ("" if low == high else f" to {high}"))
        return value

    def take(self, count: int, what: str) -> Ints:
        end = self._at + count
        if end > len(self._values_I):
            self.fail(f"the file ends within {what}")
        values = self._values_I[self._at : end]
        self._at = end
        return values

    def column(self, what: str) -> Float32:
        """A column vector of floats; dlib writes the size of a matrix as negative numbers."""
        rows = -self.one(-2 * MAX_POINTS, -2, f"the height of {what}")
        self.one(-1, -1, f"the width of {what}")
        if rows % 2:
            self.fail(f"{what} has {rows} numbers; points have two each")
        return self.floats(self.take(2 * rows, what).reshape(rows, 2), what)

    def many(self, what: str) -> Ints:
        return self.take(self.one(1, len(self._values_I), f"the number of {what}"), what)

    def pairs(self, what: str) -> Float32:
        count = self.one(1, len(self._values_I), f"the number of {what}")
        return self.floats(self.take(4 * count, what).reshape(count, 2, 2), what)

    def floats(self, parts: Ints, what: str) -> Float32:
        """(..., 2) mantissas and binary exponents -> (...) float32, finite."""
        if (np.abs(parts[..., 1]) > MAX_EXPONENT).any():
            self.fail(f"{what} holds a number that is not finite")
        values = np.ldexp(parts[..., 0].astype(np.float64), parts[..., 1].astype(np.int32))
        if not (np.abs(values) <= np.finfo(np.float32).max).all():
            self.fail(f"{what} holds a number that is not finite")
        return values.astype(np.float32)

    def forest(self, points: int) -> _Forest:
        """All trees of a cascade; they are as large as the first one."""
        trees = self.one(1, len(self._values_I), "the number of trees")
        splits = self.one(1, len(self._values_I), "the number of splits of a tree")
        self._at -= 1
        leaves, numbers = splits + 1, 2 * points
        if leaves & splits:
            self.fail(f"a tree has {splits} splits; expected 1, 3, 7 and so on")
        sized = 1 + 4 * splits + 1 + leaves * (2 + 2 * numbers)
        all_TV = self.take(trees * sized, "the trees").reshape(trees, sized)
        splits_TS4 = all_TV[:, 1 : 1 + 4 * splits].reshape(trees, splits, 4)
        leaves_TLV = all_TV[:, 2 + 4 * splits :].reshape(trees, leaves, 2 + 2 * numbers)
        as_expected = (
            (all_TV[:, 0] == splits).all()
            and (all_TV[:, 1 + 4 * splits] == leaves).all()
            and (leaves_TLV[:, :, 0] == -numbers).all()
            and (leaves_TLV[:, :, 1] == -1).all()
        )
        if not as_expected:
            self.fail("a tree is not as large as the first one; expected trees of one depth")
        values_TLV = self.floats(leaves_TLV[:, :, 2:].reshape(trees, leaves, numbers, 2), "a leaf")
        return _Forest(
            first_TS=splits_TS4[..., 0],
            second_TS=splits_TS4[..., 1],
            thresholds_TS=self.floats(splits_TS4[..., 2:], "a threshold"),
            leaves_TLP2=values_TLV.reshape(trees, leaves, points, 2),
        )

    def _cut(self, data: bytes) -> Ints:
        """Each integer is a control byte (sign, byte count) and its magnitude, least significant byte first."""
        starts = array("I")
        at, size = 0, len(data)
        while at < size:
            starts.append(at)
            at += 1 + (data[at] & 0x0F)
        bytes_B = np.frombuffer(data + bytes(9), dtype=np.uint8)
        starts_I = np.frombuffer(starts, dtype=np.uint32).astype(np.int64)
        control_I = bytes_B[starts_I]
        counts_I = control_I & 0x0F
        wrong_I = (control_I & 0x70 != 0) | (counts_I < 1) | (counts_I > 8)
        if at != size or wrong_I.any():
            self._at = int(wrong_I.argmax()) if wrong_I.any() else len(starts_I)
            self.fail("not one of dlib's integers, or the file ends within it")
        values_I = np.zeros(len(starts_I), dtype=np.uint64)
        for place in range(int(counts_I.max(initial=0))):
            there_I = counts_I > place
            values_I[there_I] |= bytes_B[starts_I[there_I] + 1 + place].astype(np.uint64) << np.uint64(8 * place)
        if (values_I >> np.uint64(63)).any():
            self.fail("a number has more than 63 bits")
        signed_I = values_I.astype(np.int64)
        return np.where(control_I & 0x80, -signed_I, signed_I)
