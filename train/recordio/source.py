"""A ``.rec`` of aligned crops as a source to prepare from.

Enters: a file that im2rec, RecBuilder or we wrote. Leaves: its images as they are, subject by label; an image of
another size is named and left out, because nothing says how it was aligned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from realtime.faces.alignment import TEMPLATES
from train.errors import ConfigError, DataError
from train.recordio.headers import MAX_EXACT
from train.recordio.images import decode_crop
from train.recordio.reading import Progress, RecReader, RecSet, read_rec
from train.source import Item, Taken

# N images
OTHER_TEMPLATES: Final = {"kface_box": 112}
"""Crops that realtime does not make: the tutorial's boxes."""

SUBJECT_DIGITS: Final = 7
"""More where labels need them: names of one length sort as their numbers do."""


@dataclass(frozen=True, slots=True)
class RecItems(Sequence[Item]):
    """Names made from keys and labels when asked for: a set may have millions."""

    keys_N: NDArray[np.int64]
    labels_N: NDArray[np.int64]
    digits: int

    def __len__(self) -> int:
        return len(self.keys_N)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        subject = f"{self.labels_N[index]:0{self.digits}d}"
        return Item(f"{subject}/{self.keys_N[index]:08d}.jpg", subject)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecSource:
    """Contract: ``train.source.Source``."""

    rec: RecSet
    """Subjects sorted, all of a subject together."""
    items: Sequence[Item]
    refused: Mapping[str, str]
    expected: int | None
    template: str
    size: int
    digest: str
    facts: Mapping[str, Any]

    def open(self) -> RecCrops:
        """
        Raises:
            DataError: the file is gone.
        """
        return RecCrops(self)


class RecCrops:
    """Contract: ``train.source.Reader``."""

    def __init__(self, source: RecSource) -> None:
        self._source = source
        self._reader: RecReader = source.rec.open()

    def take(self, index: int) -> Taken | str:
        try:
            content = self._reader.record(index).image
        except DataError as err:
            return f"its record is damaged ({err})"
        crop = decode_crop(content, self._source.size, self._source.items[index].name)
        return crop if isinstance(crop, str) else Taken(crop, hashlib.sha256(content).hexdigest())

    def close(self) -> None:
        self._reader.close()


def open_rec_source(
    path: Path, *, template: str = "arcface_112", size: int | None = None, progress: Progress | None = None
) -> RecSource:
    """Index a file of crops.

    Args:
        path: of the ``.rec``; its ``.idx`` is used where it lies beside.
        template: alignment template that its crops have; nothing in the file says so.
        size: side of its crops, pixels; the template's if None.
        progress: told (done, total) while the file is gone through.

    Raises:
        ConfigError: an unknown template, or one of another size.
        DataError: as ``read_rec``, or no image has a usable label.
    """
    size = _size_of(template, size)
    rec = read_rec(path, progress=progress)
    good_N = (rec.labels_N >= 0) & (rec.labels_N <= MAX_EXACT) & (rec.labels_N == np.floor(rec.labels_N))
    refused = {
        f"{key:08d}.jpg": f"its label is no subject's number (is {label:g}, whole numbers from 0 are)"
        for key, label in zip(rec.keys_N[~good_N].tolist(), rec.labels_N[~good_N].tolist(), strict=True)
    }
    if not good_N.any():
        raise DataError(f"{path}: none of its {len(rec)} images has a label from 0 on; is it a training set?")
    rows_N = np.flatnonzero(good_N)
    labels_N = rec.labels_N[rows_N].astype(np.int64)
    order_N = np.argsort(labels_N, kind="stable")
    rows_N, labels_N = rows_N[order_N], labels_N[order_N]
    kept = RecSet(
        path=path.absolute(),
        layout=rec.layout,
        keys_N=rec.keys_N[rows_N],
        offsets_N=rec.offsets_N[rows_N],
        labels_N=rec.labels_N[rows_N],
    )
    return RecSource(
        rec=kept,
        items=RecItems(kept.keys_N, labels_N, max(SUBJECT_DIGITS, len(str(labels_N[-1])))),
        refused=refused,
        expected=len(rec),
        template=template,
        size=size,
        digest=_digest(kept, template, size),
        facts={"kind": "rec", "name": path.name, "layout": rec.layout, "images": len(rec)},
    )


def _size_of(template: str, size: int | None) -> int:
    sizes = {**{name: known.size for name, known in TEMPLATES.items()}, **OTHER_TEMPLATES}
    if template not in sizes:
        raise ConfigError(f"--template is {template!r}; known are {', '.join(sizes)}")
    if size not in (None, sizes[template]):
        fitting = ", ".join(name for name, side in sizes.items() if side == size)
        others = f"name one of theirs with --template ({fitting})" if fitting else "crops of that size fit none"
        raise ConfigError(f"--size is {size}, crops of {template} have {sizes[template]} pixels; {others}")
    return sizes[template]


def _digest(rec: RecSet, template: str, size: int) -> str:
    """Of the index and the file's size and time: reading hundreds of gigabytes to know them again would take hours."""
    status = rec.path.stat()
    known = hashlib.sha256(repr(("rec", template, size, status.st_size, status.st_mtime_ns)).encode())
    for column in (rec.keys_N, rec.offsets_N, rec.labels_N):
        known.update(np.ascontiguousarray(column).tobytes())
    return known.hexdigest()
