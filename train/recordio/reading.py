"""A ``.rec`` with its ``.idx``, indexed: which records are images, and of whom.

Enters: the path of a ``.rec`` in any of the known layouts. Leaves: a ``RecSet``: keys, offsets and labels as arrays,
every record's beginning checked, nothing decoded. Which records are images follows arcface_torch's rule: where record 0
describes the set, the keys 1 to its first label less 1 are, else all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from train.errors import DataError
from train.recordio.headers import HEADER, MAX_EXACT, ImageRecord, unpack
from train.recordio.lists import read_idx
from train.recordio.records import FIRST, LENGTH_BITS, MAGIC, MAX_PAYLOAD, MIDDLE, WORDS, RecordFile

# N records; C bytes of a record's beginning
Ints = NDArray[np.int64]
Progress = Callable[[int, int], object]
"""Told (bytes or records done, in all)."""

IDX: Final = ".idx"

CHUNK: Final = 1 << 16
"""Records whose beginnings are looked at together: 2 MB."""

_HEAD: Final = np.dtype(
    [
        ("magic", "<u4"),
        ("word", "<u4"),
        ("flag", "<u4"),
        ("label", "<f4"),
        ("key", "<u8"),
        ("id2", "<u8"),
        ("first_label", "<f4"),
    ]
)
"""Words, header, and the first of several labels: 36 bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecSet:
    """The images of a file, in the order of their keys. Goes to other processes by pickle."""

    path: Path
    layout: Literal["recbuilder", "im2rec"]
    """recbuilder: record 0 describes the set."""
    keys_N: Ints
    offsets_N: Ints
    """Bytes."""
    labels_N: NDArray[np.float32]
    """As they stand there, the first of several; whole numbers from 0 in a healthy set."""

    def __len__(self) -> int:
        return len(self.keys_N)

    def open(self) -> RecReader:
        """
        Raises:
            DataError: the file is gone.
        """
        return RecReader(self)


class RecReader:
    """The images of a ``RecSet``, opened in one process."""

    def __init__(self, rec: RecSet) -> None:
        self._rec = rec
        self._file = RecordFile(rec.path)

    def record(self, row: int) -> ImageRecord:
        """
        Raises:
            DataError: a part of the record behind the first is damaged or cut short.
        """
        payload = self._file.read(int(self._rec.offsets_N[row]))
        return unpack(payload, f"{self._rec.path}: key {self._rec.keys_N[row]}")

    def close(self) -> None:
        """May be called twice."""
        self._file.close()


def read_rec(path: Path, *, progress: Progress | None = None) -> RecSet:
    """Index a file. Where the ``.idx`` is missing the whole ``.rec`` is gone through, and keys are the records' ids.

    Args:
        path: of the ``.rec``; its ``.idx`` lies beside it.
        progress: see ``Progress``.

    Raises:
        DataError: missing, empty, not RecordIO, cut short; or the ``.idx`` is damaged, points beyond the ``.rec``, or
            does not name all of it.
    """
    told = progress or (lambda done, total: None)
    with RecordFile(path) as file:
        beside = path.with_suffix(IDX)
        keys_N, offsets_N = read_idx(beside, file.size) if beside.exists() else (None, _scanned(file, told))
        heads_N = _heads(file, offsets_N, told)
        if keys_N is None:
            keys_N = _keys(heads_N)
        else:
            _check_end(file, beside, offsets_N)
        order_N = np.argsort(keys_N, kind="stable")
        keys_N, offsets_N, heads_N = keys_N[order_N], offsets_N[order_N], heads_N[order_N]
        described = len(keys_N) and keys_N[0] == 0 and heads_N["flag"][0] > 0 and _describes(file, int(offsets_N[0]))
    images_N = _images(path, keys_N, heads_N) if described else np.ones(len(keys_N), dtype=np.bool_)
    labels_N = np.where(heads_N["flag"] > 0, heads_N["first_label"], heads_N["label"])
    return RecSet(
        path=path,
        layout="recbuilder" if described else "im2rec",
        keys_N=keys_N[images_N],
        offsets_N=offsets_N[images_N],
        labels_N=labels_N[images_N],
    )


def _scanned(file: RecordFile, told: Progress) -> Ints:
    offsets = []
    for place, offset in enumerate(file.offsets()):
        offsets.append(offset)
        if place % CHUNK == 0:
            told(offset, file.size)
    return np.array(offsets, dtype=np.int64)


def _keys(heads_N: NDArray[np.void]) -> Ints:
    """Of records without an index: their ids, or their places where ids are not unique."""
    ids_N = heads_N["key"]
    if len(np.unique(ids_N)) == len(ids_N) and ids_N.max() <= np.iinfo(np.int64).max:
        return ids_N.astype(np.int64)
    return np.arange(len(ids_N))


def _check_end(file: RecordFile, beside: Path, offsets_N: Ints) -> None:
    if (end := file.after(int(offsets_N.max()))) < file.size:
        raise DataError(
            f"{beside}: its last record ends at byte {end}, {file.path.name} has {file.size}; the index is cut "
            "short or belongs to another file, delete it to have it made again"
        )


def _heads(file: RecordFile, offsets_N: Ints, told: Progress) -> NDArray[np.void]:
    """Every record's beginning, (N,) of ``_HEAD``, checked."""
    heads_N = np.zeros(len(offsets_N), dtype=_HEAD)
    for start in range(0, len(offsets_N), CHUNK):
        part_N = offsets_N[start : start + CHUNK]
        heads_N[start : start + CHUNK] = _checked(file, part_N)
        told(start + len(part_N), len(offsets_N))
    return heads_N


def _checked(file: RecordFile, offsets_N: Ints) -> NDArray[np.void]:
    inside_N = np.clip(offsets_N, 0, max(file.size - WORDS.size, 0))
    heads_N = file.heads(inside_N, _HEAD.itemsize).copy().view(_HEAD)[:, 0]
    lengths_N = (heads_N["word"] & MAX_PAYLOAD).astype(np.int64)
    kinds_N = heads_N["word"] >> LENGTH_BITS
    needed_N = np.where(heads_N["flag"] > 0, HEADER.size + 4, HEADER.size)
    plain_N = (inside_N == offsets_N) & (heads_N["magic"] == MAGIC) & (kinds_N < MIDDLE) & (lengths_N >= needed_N)
    plain_N &= offsets_N + WORDS.size + lengths_N <= file.size
    for row in np.flatnonzero(~plain_N):  # damaged, or split so early that the header lies in two parts
        offset = int(offsets_N[row])
        record = unpack(file.read(offset), f"{file.path}: the record at byte {offset}")
        heads_N[row] = (MAGIC, FIRST, record.flag, record.labels[0], record.key, 0, record.labels[0])
    return heads_N


def _describes(file: RecordFile, offset: int) -> bool:
    """Whether a record 0 with several labels is about the set: it holds no image. (``--pack-label`` with several label
    columns gives image 0 several labels too, and arcface_torch mistakes it.)"""
    return not unpack(file.read(offset), str(file.path)).image


def _images(path: Path, keys_N: Ints, heads_N: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which records are images, in a set that record 0 describes."""
    end = heads_N["first_label"][0]
    if not (np.isfinite(end) and end >= 1):
        raise DataError(f"{path}: record 0 says that images end at key {end}; the file is damaged, copy it again")
    if end > MAX_EXACT:  # the count was rounded when it was written; records of subjects have two labels
        found_N: NDArray[np.bool_] = (keys_N > 0) & (heads_N["flag"] == 0)
        return found_N
    images_N: NDArray[np.bool_] = (keys_N > 0) & (keys_N < end)
    if (found := int(images_N.sum())) != int(end) - 1:
        raise DataError(
            f"{path}: record 0 promises {int(end) - 1} images, its index names {found}; delete the .idx to have it "
            "made again, or copy both files again"
        )
    return images_N
