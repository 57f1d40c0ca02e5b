"""Crops of a whole set of photos, made once and kept in one file.

Enters: an opened set of photos. Leaves: its crops as one array that lies in a file: all of LFW is 0.9 GB, of which
only what is looked at is in memory. Crops are appended as they are made, with a line of notes each, so a run that was
stopped goes on where it was; the file gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import logging
import tokenize
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.verification.growing import GrowingCrops, whole_lines

NPY_ERRORS: Final = (OSError, ValueError, TypeError, EOFError, OverflowError, SyntaxError, tokenize.TokenError)
"""What ``numpy.load`` lets out on a damaged file: it reads the head as Python's literals."""

LAYOUT: Final = 1
"""Raise it when the files change: older ones are then made again."""

# N crops of S x S pixels
_log = logging.getLogger(__name__)


class _Photos(Protocol):
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def people(self) -> Sequence[str]: ...
    @property
    def digest(self) -> str: ...
    def crop(self, index: int) -> NDArray[np.uint8] | str: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    faces_NSS3: NDArray[np.uint8]
    names: tuple[str, ...]
    people: tuple[str, ...]
    failures: dict[str, str]
    """Name of a photo -> why it gave no crop."""


@dataclass(frozen=True, slots=True)
class _Note:
    """What became of one photo."""

    name: str
    person: str
    failure: str | None


def pack(
    photos: _Photos, rows: Sequence[int], size: int, folder: Path, progress: Callable[[int, int], object]
) -> Packed:
    """Crops of the photos at ``rows``, from ``folder`` where an earlier call left them.

    Args:
        photos: opened by an aligner.
        rows: which of them.
        size: side of a crop, pixels.
        folder: of the kept files; where it cannot be written, the crops stay in memory.
        progress: told (photos done, photos in all).
    """
    names = [photos.names[row] for row in rows]
    key = hashlib.sha256(repr((LAYOUT, photos.digest, size, names)).encode()).hexdigest()[:24]
    try:
        return _in_file(photos, rows, size, folder / key, progress)
    except OSError as err:
        _log.warning("%s: crops cannot be kept (%s); they stay in memory", folder, err.strerror or err)
        return _in_memory(photos, rows, size, progress)


def _in_file(
    photos: _Photos, rows: Sequence[int], size: int, place: Path, progress: Callable[[int, int], object]
) -> Packed:
    from filelock import FileLock

    whole = place.with_suffix(".npy")
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if (kept := _read(place, len(rows), size)) is not None:
            return kept
        whole.unlink(missing_ok=True)
        part = place.with_suffix(".part")
        with GrowingCrops(part, place.with_suffix(".jsonl"), size, _has_crop) as growing:
            for done, row in enumerate(rows, start=1):
                if done > growing.done:
                    crop = photos.crop(row)
                    reason, face = (crop, None) if isinstance(crop, str) else (None, crop)
                    growing.add([photos.names[row], photos.people[row], reason], face)
                    progress(done, len(rows))
            growing.finish()
        part.replace(whole)
        kept = _read(place, len(rows), size)
    assert kept is not None
    return kept


def _in_memory(photos: _Photos, rows: Sequence[int], size: int, progress: Callable[[int, int], object]) -> Packed:
    crops: list[NDArray[np.uint8]] = []
    notes: list[_Note] = []
    for done, row in enumerate(rows, start=1):
        crop = photos.crop(row)
        notes.append(_Note(photos.names[row], photos.people[row], crop if isinstance(crop, str) else None))
        if not isinstance(crop, str):
            crops.append(crop)
        progress(done, len(rows))
    return _packed(np.stack(crops) if crops else np.zeros((0, size, size, 3), dtype=np.uint8), notes)


def _packed(faces_NSS3: NDArray[np.uint8], notes: Sequence[_Note]) -> Packed:
    good = [note for note in notes if note.failure is None]
    return Packed(
        faces_NSS3=faces_NSS3,
        names=tuple(note.name for note in good),
        people=tuple(note.person for note in good),
        failures={note.name: note.failure for note in notes if note.failure is not None},
    )


def _read(place: Path, total: int, size: int) -> Packed | None:
    """What an earlier call finished; None where there is nothing, or not the whole of it."""
    notes = _read_notes(place)
    good = sum(note.failure is None for note in notes)
    if len(notes) != total:
        return None
    if not good:  # an empty file cannot be mapped
        return _packed(np.zeros((0, size, size, 3), dtype=np.uint8), notes)
    try:
        faces = np.load(place.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    except NPY_ERRORS:
        return None
    if faces.shape != (good, size, size, 3) or faces.dtype != np.uint8:
        return None
    return _packed(faces, notes)


def _read_notes(place: Path) -> list[_Note]:
    """Up to the first line that is not whole."""
    notes: list[_Note] = []
    try:
        with place.with_suffix(".jsonl").open("rb") as file:
            for _, (name, person, failure) in whole_lines(file):
                notes.append(_Note(str(name), str(person), failure if failure is None else str(failure)))
    except (OSError, ValueError, TypeError):
        pass
    return notes


def _has_crop(note: list[str | None]) -> bool:
    _, _, failure = note
    return failure is None
