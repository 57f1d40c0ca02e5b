"""K-FACE as a source of crops for a prepared set.

Enters: ROOT, a selection and how to crop. Leaves: a ``KFaceSource``: every image that the selection promises is either
an item or refused with its reason. It holds names and numbers only, so it goes to worker processes cheaply; a worker
opens one person's files at a time.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from train.errors import ConfigError
from train.kface.codes import RESOLUTIONS, Condition, name_of
from train.kface.crops import SIZE, TEMPLATES, Crop, cropped, read_image
from train.kface.failures import Unusable
from train.kface.indexing import Indexed, index_people
from train.kface.person import MAX_IMAGE_BYTES, Files, Home, open_files
from train.kface.reuse import Landmarks
from train.kface.selection import TUTORIAL, Selection, parse_selection
from train.kface.tree import find_people
from train.source import Item, Taken

CROPPING: Final = 1
"""Raise it when the same files give other crops: prepared sets are then other sets."""

# K kept images of a person, as places among the selection's conditions


@dataclass(frozen=True, kw_only=True, eq=False)
class KFaceSource:
    """See ``train.source.Source``."""

    name: str
    homes: tuple[Home, ...]
    """By subject."""
    kept: tuple[NDArray[np.uint16], ...]
    """(K,) for each home."""
    selection: Selection
    crop: Crop
    reuse_landmarks: bool
    resolution: str
    refused: Mapping[str, str]
    """Images that the selection promises; files that are no image of it as well, each with its reason."""
    identity: str

    @cached_property
    def items(self) -> Items:
        return Items(self.homes, self.kept, self.selection.conditions())

    @property
    def expected(self) -> int:
        return len(self.homes) * len(self.selection)

    @property
    def template(self) -> str:
        return TEMPLATES[self.crop]

    @property
    def size(self) -> int:
        return SIZE

    @property
    def digest(self) -> str:
        how = (CROPPING, self.identity, str(self.selection), self.crop, self.reuse_landmarks, self.resolution)
        return hashlib.sha256(repr(how).encode()).hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "kind": "kface",
            "name": self.name,
            "select": str(self.selection),
            "images_a_person": len(self.selection),
            "people": len(self.homes),
            "people_without_images": [
                home.subject for home, places in zip(self.homes, self.kept, strict=True) if not len(places)
            ],
            "resolution": self.resolution,
            "crop": self.crop,
            "reuse_landmarks": self.reuse_landmarks,
            "cropping": CROPPING,
        }

    def open(self) -> KFaceReader:
        return KFaceReader(self)


def open_kface(
    root: Path,
    select: str = TUTORIAL,
    *,
    crop: Crop = "landmarks",
    reuse_landmarks: bool = False,
    resolution: str = "middle",
    progress: Callable[[int, int], object] | None = None,
) -> KFaceSource:
    """Find everybody and everything that the selection promises; no image is read yet.

    Args:
        root: see ``find_people``.
        select: see ``parse_selection``.
        crop: aligned by landmarks, or the tutorial's box.
        reuse_landmarks: images without an annotation get that of the same camera with nothing worn.
        resolution: ``high``, ``middle`` or ``low``.
        progress: told (people done, people in all).

    Raises:
        ConfigError: an option that is not understood, or a selection of which no image has landmarks.
        DataError: nobody of K-FACE there, or nothing usable of anybody.
    """
    if crop not in TEMPLATES:
        raise ConfigError(f"--crop is {crop!r}; known are {', '.join(TEMPLATES)}")
    wanted_resolution = resolution.casefold()
    if wanted_resolution not in RESOLUTIONS:
        raise ConfigError(f"--resolution is {resolution!r}; known are {', '.join(RESOLUTIONS)}")
    selection = parse_selection(select)
    found = find_people(root, wanted_resolution)
    indexed: Indexed = index_people(found, selection, reuse=reuse_landmarks, progress=progress)
    return KFaceSource(
        name=root.resolve().name,
        homes=indexed.homes,
        kept=indexed.kept,
        selection=selection,
        crop=crop,
        reuse_landmarks=reuse_landmarks,
        resolution=wanted_resolution,
        refused=indexed.refused,
        identity=indexed.identity,
    )


class Items(Sequence[Item]):
    """Made when asked for: the whole release has 4.3 million."""

    def __init__(
        self, homes: Sequence[Home], kept: Sequence[NDArray[np.uint16]], conditions: Sequence[Condition]
    ) -> None:
        self._homes = homes
        self._kept = kept
        self._conditions = conditions
        self._starts = [0, *accumulate(len(places) for places in kept)]

    def __len__(self) -> int:
        return self._starts[-1]

    def place(self, index: int) -> tuple[Home, Condition]:
        """
        Raises:
            IndexError: there are not so many.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        person = bisect_right(self._starts, index) - 1
        return self._homes[person], self._conditions[int(self._kept[person][index - self._starts[person]])]

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        home, condition = self.place(index + len(self) if index < 0 else index)
        return Item(name_of(home.subject, condition), home.subject)


class KFaceReader:
    """See ``train.source.Reader``; it holds the files of one person open."""

    def __init__(self, source: KFaceSource) -> None:
        self._source = source
        self._subject: str | None = None
        self._files: Files | None = None
        self._landmarks: Landmarks | None = None

    def take(self, index: int) -> Taken | str:
        """
        Raises:
            DataError: a person's zip cannot be opened any more.
        """
        home, condition = self._source.items.place(index)
        files, landmarks = self._opened(home)
        try:
            content = files.read(f"{condition.stem}.jpg", MAX_IMAGE_BYTES)
            rgb_HW3 = read_image(content, f"{condition.stem}.jpg", self._source.resolution)
            annotation = landmarks.of(condition, rgb_HW3.shape[1], rgb_HW3.shape[0])
            crop_SS3 = cropped(rgb_HW3, annotation, self._source.crop)
            return Taken(crop_SS3, hashlib.sha256(content).hexdigest(), annotation.note)
        except Unusable as err:
            return str(err)

    def _opened(self, home: Home) -> tuple[Files, Landmarks]:
        if self._files is None or self._landmarks is None or self._subject != home.subject:
            self.close()
            self._files = open_files(home)
            self._landmarks = Landmarks(
                self._files, resolution=self._source.resolution, reuse=self._source.reuse_landmarks
            )
            self._subject = home.subject
        return self._files, self._landmarks

    def close(self) -> None:
        if self._files is not None:
            self._files.close()
        self._files = self._landmarks = self._subject = None
