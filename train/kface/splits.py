"""Who trains and who is kept back, over lists of subjects; no subject is ever in both.

Enters: all subjects of a set. Leaves: those kept back; the rest trains. K-FACE's two published splits, and one by seed
that any set can have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from train.errors import ConfigError

TUTORIAL_VAL: Final = 10
"""The tutorial trains on the first 390 of 400 sorted people and keeps the last 10 back."""

FEWEST_TRAIN: Final = 2
"""One person alone cannot be told from anyone."""

MIXFACE_TEST: Final = frozenset(
    (
        *("19062641", "19062811", "19070541", "19071142", "19071221", "19071732", "19071832", "19072211"),
        *("19072242", "19072612", "19081441", "19081931", "19082132", "19082641", "19082712", "19090342"),
        *("19090411", "19090531", "19090631", "19090641", "19091132", "19091631", "19091841", "19091942"),
        *("19092421", "19092431", "19100131", "19100211", "19100222", "19101012"),
    )
)
"""The 30 of MixFace's test protocols Q1 to Q4 (arXiv 2111.01717); the other 370 train."""


Parted = tuple[tuple[str, ...], tuple[str, ...]]
"""Train and val, each sorted; together they are all subjects."""


def split_subjects(subjects: Sequence[str], how: str, *, val_people: int = 0, seed: int = 1) -> Parted:
    """
    Args:
        subjects: all of a set, in any order.
        how: ``none``, ``tutorial``, ``mixface``, or ``people``: so many by chance.
        val_people: of ``people``; of ``tutorial`` where it is to keep another number back than ten.
        seed: of the chance.

    Raises:
        ConfigError: no such split, or not enough people for it.
    """
    names = sorted(set(subjects))
    if how == "none":
        return tuple(names), ()
    if how == "tutorial":
        return tutorial(names, val_people or TUTORIAL_VAL)
    if how == "mixface":
        return mixface(names)
    if how == "people":
        return by_seed(names, val_people, seed)
    raise ConfigError(f"no split is called {how!r}; known are none, tutorial, mixface, and a number of people")


def tutorial(subjects: Sequence[str], val_people: int = TUTORIAL_VAL) -> Parted:
    """The last ten in sorted order are kept back, however many people there are: 390 and 10 of the whole release.

    Raises:
        ConfigError: fewer than two would be left to train on.
    """
    names = sorted(set(subjects))
    if len(names) < val_people + FEWEST_TRAIN:
        raise ConfigError(
            f"the tutorial's split keeps the last {val_people} people back, and there are {len(names)}; "
            "add --split 1, or another number of people to keep back"
        )
    return tuple(names[:-val_people]), tuple(names[-val_people:])


def mixface(subjects: Sequence[str]) -> Parted:
    """MixFace's 30 test people are kept back, as far as they are there.

    Raises:
        ConfigError: none of them is there, or hardly anyone else.
    """
    val = tuple(sorted(MIXFACE_TEST.intersection(subjects)))
    if not val:
        raise ConfigError(
            "none of MixFace's 30 test people is in this set; add --split 10, or another number of people to keep back"
        )
    return _checked(subjects, val)


def by_seed(subjects: Sequence[str], count: int, seed: int = 1) -> Parted:
    """``count`` people by chance. Names and seed alone decide: who joins the set takes at most one other's place.

    Raises:
        ConfigError: fewer than one is wanted, or fewer than two would be left to train on.
    """
    if count < 1:
        raise ConfigError(f"{count} people are to be kept back; at least 1 is needed, or --split none")
    drawn = sorted(
        set(subjects), key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode(errors="surrogatepass")).digest()
    )
    return _checked(subjects, tuple(sorted(drawn[:count])))


def _checked(subjects: Sequence[str], val: tuple[str, ...]) -> Parted:
    train = tuple(sorted(set(subjects).difference(val)))
    if len(train) < FEWEST_TRAIN:
        raise ConfigError(
            f"{len(val)} of {len(val) + len(train)} people would be kept back and {len(train)} left to train on; keep "
            "fewer back"
        )
    return train, val
