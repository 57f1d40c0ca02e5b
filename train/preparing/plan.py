"""What will be cropped in which order, and who is kept back for validation; decided before the first crop.

Enters: an indexed source and the wishes of a person. Leaves: a ``Plan``: subjects of both splits, everybody of train
before everybody of val, so that a prepared set grows at its end only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Final

from train.errors import DataError
from train.kface.splits import split_subjects
from train.prepared import SCHEMA
from train.source import Source

RANGE: Final = 32
"""Most images that a worker crops at a time; a range has images of one subject only."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a person asks for besides the source."""

    split: str = "none"
    """As ``train.kface.splits`` knows it: ``none``, ``tutorial``, ``mixface``, or ``people``: so many by ``seed``."""
    val_people: int = 0
    seed: int = 1
    min_images: int = 1
    """People with fewer usable images are left out."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    wishes: Wishes
    train: tuple[str, ...]
    """Subjects, sorted."""
    val: tuple[str, ...]
    ranges: tuple[range, ...]
    """Places in the source's items, in the order of the rows."""
    too_few: dict[str, int] = field(default_factory=dict)
    """Subjects with fewer images than asked for -> how many they have."""
    key: str
    """Of everything that decides the result; 64 hex digits."""

    @property
    def images(self) -> int:
        return sum(map(len, self.ranges))


def planned(source: Source, wishes: Wishes) -> Plan:
    """
    Raises:
        ConfigError: the split cannot be made of these people.
        DataError: no images, or fewer than two people.
    """
    _check_counts(source)
    places = _places(source)
    too_few = {subject: len(own) for subject, own in places.items() if len(own) < wishes.min_images}
    subjects = [subject for subject in places if subject not in too_few]
    _check_people(source, places, subjects, wishes)
    train, val = _split(source, subjects, wishes)
    return Plan(
        wishes=wishes,
        train=train,
        val=val,
        ranges=tuple(own for subject in (*train, *val) for own in _ranges(places[subject])),
        too_few=too_few,
        key=_key(source, wishes),
    )


def _split(source: Source, subjects: list[str], wishes: Wishes) -> tuple[tuple[str, ...], ...]:
    """People of both splits. Whose images are all damaged keeps a place meanwhile: who else is kept back must not
    change when they are repaired, or a model would be evaluated on people it was trained on."""
    everybody = [*subjects, *source.facts.get("people_without_images", ())]
    splits = split_subjects(everybody, wishes.split, val_people=wishes.val_people, seed=wishes.seed)
    usable = set(subjects)
    return tuple(tuple(subject for subject in split if subject in usable) for split in splits)


def _places(source: Source) -> dict[str, range]:
    """Where each subject's images lie among the items."""
    places: dict[str, range] = {}
    start = 0
    for subject, own in groupby(item.subject for item in source.items):
        if subject in places:
            raise DataError(f"{subject}: its images do not lie together in the source; that is a mistake of the source")
        places[subject] = range(start, start := start + sum(1 for _ in own))
    return places


def _ranges(whole: range) -> list[range]:
    return [whole[start : start + RANGE] for start in range(0, len(whole), RANGE)]


def _check_counts(source: Source) -> None:
    """Every image that the selection promises is an item or named as refused."""
    if source.expected is None:
        return
    missing = source.expected - len(source.items)
    if not 0 <= missing <= len(source.refused):
        raise DataError(
            f"the selection promises {source.expected} images, but {len(source.items)} were found and "
            f"{len(source.refused)} refused; that is a mistake of the source"
        )


def _check_people(source: Source, places: Mapping[str, range], subjects: list[str], wishes: Wishes) -> None:
    where = source.facts.get("name", "the source")
    if not places:
        why = next(iter(source.refused.values()), "it holds none")
        raise DataError(f"{where}: no image to prepare ({why}); is it the right place?")
    if len(places) == 1:
        raise DataError(
            f"{where}: all images are of one person ({next(iter(places))!r}); training needs two or more people, a "
            "folder for each"
        )
    if len(subjects) < 2:
        most = max(map(len, places.values()))
        raise DataError(
            f"{where}: {len(subjects)} of {len(places)} people have {wishes.min_images} images or more (most have "
            f"{most}); ask for fewer with --min-images"
        )


def _key(source: Source, wishes: Wishes) -> str:
    what: dict[str, Any] = {
        "schema": SCHEMA,
        "source": source.digest,
        "template": source.template,
        "size": source.size,
        "images": len(source.items),
        "wishes": asdict(wishes),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
