"""insightface's verification files: ``lfw.bin``, ``cfp_fp.bin``, ``agedb_30.bin``.

Enters: a pickle of (images, which pairs are mated): 2P encoded images, as bytes or as uint8 arrays, and P truth values.
Leaves: a ``BinSet`` whose images are decoded one at a time; who is in them, as far as the pairs tell; and a list of
comparisons for ``engines.verification``.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.export import write_atomically
from engines.verification.pairs import PairList
from train.errors import DataError
from train.recordio.images import decode_crop
from train.recordio.pickles import PickledArray, read_pickle

# P pairs; S side of a crop, pixels; 3 channels RGB
FOLDS: Final = 10
"""insightface's: contiguous, the first of them larger by one pair where P does not divide."""

PROTOCOL: Final = 4
"""Of files that we write: every Python that still runs reads it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BinSet:
    """Pairs of encoded images."""

    path: Path
    images: tuple[bytes, ...]
    """2P: those of pair p are at 2p and 2p + 1. The same photo may be there many times."""
    mated_P: NDArray[np.bool_]

    def photos(self, size: int = 112) -> BinPhotos:
        """The set with each photo once, for crops of ``size`` pixels."""
        return BinPhotos(self, size)


class BinPhotos:
    """Each photo of a ``BinSet`` once, in the form that ``engines.verification.packed.pack`` takes.

    Two images with the same bytes are one photo. Mated pairs say which photos are of one person; two people who are
    never compared may still be the same, so people are only as many as the pairs can tell apart, or more. Where pairs
    contradict each other (a file with wrong labels), each image is taken for a photo and each pair for people of its
    own, so that every pair stays what the file says.
    """

    def __init__(self, content: BinSet, size: int) -> None:
        self.size = size
        self._content = content
        self._ends_P2 = _unique(content.images)
        people = _people(self._ends_P2, content.mated_P)
        if people is None:
            self._ends_P2 = np.arange(len(content.images)).reshape(-1, 2)
            people = _people(self._ends_P2, content.mated_P)
            assert people is not None
        self._places = np.unique(self._ends_P2).tolist()
        self.names: Sequence[str] = tuple(_name(place) for place in self._places)
        self.people: Sequence[str] = tuple(f"p{people[place]:06d}" for place in self._places)

    @property
    def digest(self) -> str:
        """sha256 over the images: changes when a photo does."""
        known = hashlib.sha256(f"bin {self.size}".encode())
        for image in self._content.images:
            known.update(hashlib.sha256(image).digest())
        return known.hexdigest()

    def crop(self, index: int) -> NDArray[np.uint8] | str:
        """(S, S, 3) uint8 RGB, or why there is none."""
        name = f"{self._content.path.name}: image {self._places[index]}"
        return decode_crop(self._content.images[self._places[index]], self.size, name)

    def close(self) -> None: ...

    def pairs(self) -> PairList:
        """The comparisons, in ``FOLDS`` contiguous folds; in one where there are fewer pairs than folds."""
        who = dict(zip(self._places, self.people, strict=True))
        pairs = len(self._ends_P2)
        folds = np.arange(FOLDS) if pairs >= FOLDS else np.zeros(1, dtype=np.int64)
        sizes = [len(part) for part in np.array_split(np.arange(pairs), len(folds))]
        return PairList(
            where=str(self._content.path),
            photos=tuple((_name(one), _name(two)) for one, two in self._ends_P2.tolist()),
            people=tuple((who[one], who[two]) for one, two in self._ends_P2.tolist()),
            folds_T=np.repeat(folds, sizes),
        )


def read_bin(path: Path) -> BinSet:
    """Read a verification file of any age. Nothing in it is run, see ``train.recordio.pickles``.

    Raises:
        DataError: missing, damaged, hostile, or not a list of pairs of images.
    """
    found = read_pickle(path)
    broken = f"{path}: is no verification set of insightface: two lists are expected, of images and of truth values"
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise DataError(f"{broken}, the file holds something else")
    images = tuple(_image(each) for each in _listed(found[0]))
    mated = [_truth(each) for each in _listed(found[1])]
    if not images or None in images or None in mated:
        raise DataError(f"{broken}, the file holds something else in them")
    if len(images) != 2 * len(mated):
        raise DataError(
            f"{path}: holds {len(images)} images for {len(mated)} pairs, two each are expected; copy it again"
        )
    return BinSet(
        path=path,
        images=tuple(image for image in images if image is not None),
        mated_P=np.array(mated, dtype=np.bool_),
    )


def write_bin(path: Path, pairs: Iterable[tuple[bytes, bytes, bool]]) -> int:
    """Write a file that insightface and ``read_bin`` read. Returns the number of pairs.

    Args:
        path: where to.
        pairs: two encoded images, and whether they are of one person.

    Raises:
        DataError: no pairs, or it cannot be written.
    """
    images: list[bytes] = []
    mated: list[bool] = []
    for one, two, same in pairs:
        images += [one, two]
        mated.append(bool(same))
    if not mated:
        raise DataError(f"{path}: there are no pairs to write")
    try:
        write_atomically(path, pickle.dumps((images, mated), protocol=PROTOCOL))
    except OSError as err:
        raise DataError(f"{path}: cannot be written ({err.strerror or err}); choose another place") from err
    return len(mated)


def _listed(found: object) -> Sequence[object]:
    if isinstance(found, PickledArray):
        return list(found.content)
    return found if isinstance(found, list | tuple) else ()


def _image(found: object) -> bytes | None:
    if isinstance(found, PickledArray):
        return found.content
    return bytes(found) if isinstance(found, bytes | bytearray) else None


def _truth(found: object) -> bool | None:
    return bool(found) if isinstance(found, int) and found in (0, 1) else None


def _name(place: int) -> str:
    return f"{place:06d}"


def _unique(images: Sequence[bytes]) -> NDArray[np.int64]:
    """Where each image is found for the first time, by pair: (P, 2)."""
    first: dict[bytes, int] = {}
    places = [first.setdefault(hashlib.sha256(image).digest(), place) for place, image in enumerate(images)]
    return np.array(places, dtype=np.int64).reshape(-1, 2)


def _people(ends_P2: NDArray[np.int64], mated_P: NDArray[np.bool_]) -> dict[int, int] | None:
    """Photo -> the first photo of its person, joined by mated pairs; None where a non-mated pair is of one person."""
    leader = {place: place for place in np.unique(ends_P2).tolist()}

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    for one, two in ends_P2[mated_P].tolist():
        first, second = sorted((find(one), find(two)))
        leader[second] = first
    if any(find(one) == find(two) for one, two in ends_P2[~mated_P].tolist()):
        return None
    return {place: find(place) for place in leader}
