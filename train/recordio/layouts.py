"""The two layouts that trainers read, as files beside each other: ``.rec``, ``.idx``, ``.lst`` and ``property``.

Enters: encoded images with labels. Leaves: what ``im2rec --pass-through --pack-label`` writes (keys from 0), or what
insightface's RecBuilder writes (keys from 1, a record a subject, a record of the whole under key 0), byte for byte as
mxnet 1.9.1 does. Files get their names when all are whole.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Literal

from engines.export import PART, write_atomically
from train.errors import DataError
from train.recordio.headers import MAX_EXACT, pack
from train.recordio.lists import idx_line, lst_line
from train.recordio.records import encode

Progress = Callable[[int, int], object]
"""Told (done, total)."""

Layout = Literal["recbuilder", "im2rec"]

SUFFIXES: Final = (".rec", ".idx", ".lst")
PROPERTY: Final = "property"
"""``classes,height,width`` of the folder's train.rec."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a set."""

    image: bytes
    """Encoded."""
    label: int
    name: str
    """Of its file, for the ``.lst``: ``subject/subject_0001.jpg``."""


def write_im2rec(prefix: Path, entries: Iterable[Entry]) -> int:
    """Write ``prefix.rec``, ``.idx`` and ``.lst`` with keys from 0, in the order given. Returns the number of images.

    im2rec itself goes through folders and files in the order of their names as text; so should the entries.

    Raises:
        DataError: no entries, a label that a float32 does not hold, a name that a list cannot hold, or the folder
            cannot be written to; files of before stay as they were.
    """
    with _Files(prefix) as files:
        key = -1
        for key, entry in enumerate(entries):
            files.add(key, pack(entry.label, key, entry.image), entry)
        _refuse_none(prefix, key + 1)
        files.finish()
    return key + 1


def write_recbuilder(prefix: Path, entries: Iterable[Entry], *, side: int = 112, with_property: bool = True) -> int:
    """Write ``prefix.rec``, ``.idx``, ``.lst`` and ``property`` beside them. Returns the number of images.

    Args:
        prefix: path without suffix.
        entries: labels 0, 1, 2 in this order, all of a label together: a subject is a range of keys.
        side: of the images, pixels, for ``property``.
        with_property: a folder has one, that of its train.rec.

    Raises:
        DataError: as ``write_im2rec``, or labels in another order, or more than 2^24 records.
    """
    first: dict[int, int] = {}
    key = 0
    with _Files(prefix) as files:
        for key, entry in enumerate(entries, start=1):
            _check_order(prefix, entry, first)
            first.setdefault(entry.label, key)
            files.add(key, pack(entry.label, key, entry.image), entry)
        _refuse_none(prefix, key)
        _add_records_of_subjects(files, prefix, first, key)
        files.finish()
    if with_property:
        _write(prefix.with_name(PROPERTY), f"{len(first)},{side},{side}\n".encode())
    return key


def _check_order(prefix: Path, entry: Entry, first: Mapping[int, int]) -> None:
    if entry.label not in (len(first) - 1, len(first)) or entry.label < 0:
        raise DataError(
            f"{prefix}: {entry.name} has label {entry.label} where {max(len(first) - 1, 0)} or {len(first)} should "
            "follow; give all images of label 0, then all of 1, and so on"
        )


def _add_records_of_subjects(files: _Files, prefix: Path, first: Mapping[int, int], images: int) -> None:
    starts = [*first.values(), images + 1]
    end = images + len(first) + 1
    if end > MAX_EXACT:
        raise DataError(
            f"{prefix}: {images} images and {len(first)} subjects are more than RecBuilder's layout can count in "
            f"float32 ({MAX_EXACT} records); write the im2rec layout"
        )
    for label in range(len(first)):
        key = images + 1 + label
        files.add(key, pack(starts[label : label + 2], key))
    files.add(0, pack((images + 1, end), 0, id2=1))


def _refuse_none(prefix: Path, images: int) -> None:
    if not images:
        raise DataError(f"{prefix}: there are no images to write")


class _Files:
    """The three files, under other names until they are whole."""

    def __init__(self, prefix: Path) -> None:
        token = f".{secrets.token_hex(8)}{PART}"
        self._wanted = [prefix.with_name(prefix.name + suffix) for suffix in SUFFIXES]
        self._parts = [path.with_name(f".{path.name}{token}") for path in self._wanted]
        self._stack = ExitStack()
        self._open: list[BinaryIO] = []
        self._offset = 0

    def __enter__(self) -> _Files:
        try:
            self._open = [self._stack.enter_context(part.open("xb")) for part in self._parts]
        except OSError as err:
            self._drop()
            raise self._unwritable(err) from err
        return self

    def add(self, key: int, payload: bytes, entry: Entry | None = None) -> None:
        record = encode(payload)
        rec, idx, lst = self._open
        try:
            rec.write(record)
            idx.write(idx_line(key, self._offset).encode())
            if entry is not None:
                lst.write(lst_line(key, entry.label, entry.name).encode())
        except OSError as err:
            raise self._unwritable(err) from err
        self._offset += len(record)

    def finish(self) -> None:
        """Give the files their names; the ``.idx`` comes last, so that a reader never finds it with an older .rec."""
        try:
            for file in self._open:
                file.flush()
                os.fsync(file.fileno())
            self._stack.close()
            self._wanted[1].unlink(missing_ok=True)
            for place in (0, 2, 1):
                self._parts[place].replace(self._wanted[place])
        except OSError as err:
            raise self._unwritable(err) from err

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def _drop(self) -> None:
        with suppress(OSError):  # closing writes what is left, and fails again where the disk is full
            self._stack.close()
        for part in self._parts:
            part.unlink(missing_ok=True)

    def _unwritable(self, err: OSError) -> DataError:
        return DataError(
            f"{self._wanted[0]}: cannot be written ({err.strerror or err}); free space or choose another place"
        )


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as err:
        raise DataError(f"{path}: cannot be written ({err.strerror or err}); choose another place") from err
