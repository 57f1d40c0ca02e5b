"""Lists of comparisons in the forms that people have: LFW's ``pairs.txt`` and K-FACE's ``imgA imgB 1|0``.

Enters: a file. Leaves: a ``PairList`` for ``engines.verification``, and how its names are to be compared with those of
a set: LFW's by file name, K-FACE's by folders and file name, because every person there has a ``C7.jpg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.pairs import MAX_BYTES, PairList, read_pairs
from train.errors import DataError

# T comparisons
FOLDS: Final = 10
"""Of a list that has none: as LFW's, so that its accuracy is cross-validated too."""

KFACE_PARTS: Final = 5
"""``ID8/S001/L1/E01/C7.jpg``: what lies above is a folder of the disk, not of the set."""

DRAWN: Final = 6000
"""Pairs of a list that is drawn, as many as LFW has."""

SEPARATOR: Final = "|"
"""Between the folders of a key; ``engines`` takes a slash for the end of a folder."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A list, and what it does not say of itself."""

    pairs: PairList
    by_path: bool
    """Its names have folders."""
    known: bool
    """It says whom each image shows, not only which pairs are mated."""
    dealt: bool
    """It has no folds; pairs of each kind were dealt to ten in turn."""
    example: str
    """The first name, as it stands there."""

    @property
    def forms(self) -> frozenset[str]:
        """Names of its images without suffix, as ``engines.verification.faces.read_faces`` wants them."""
        return frozenset(key.replace(SEPARATOR, "/") for key in self.pairs.stems)

    def key(self, name: str) -> str:
        """An image's name in a set as the list calls it."""
        return key_of(name) if self.by_path else PurePosixPath(name).stem


def key_of(name: str) -> str:
    """Folders and file name without suffix, of a path that may have more folders above."""
    return SEPARATOR.join(PurePosixPath(name).with_suffix("").parts[-KFACE_PARTS:])


def read_list(path: Path) -> Listed:
    """Read either form, told by the first line.

    Raises:
        DataError: a line of K-FACE's form that is wrong.
        EngineError: unreadable, or of neither form.
    """
    lines = _lines(path)
    if lines and _is_flagged(lines[0][1]):
        return _flagged(path, lines)
    pairs = read_pairs(path)
    first = pairs.photos[0][0]
    if len(np.unique(pairs.folds_T)) > 1:
        return Listed(pairs=pairs, by_path=False, known=True, dealt=False, example=first)
    mated = [one == other for one, other in pairs.people]
    dealt = PairList(where=pairs.where, photos=pairs.photos, people=pairs.people, folds_T=dealt_folds(mated))
    return Listed(pairs=dealt, by_path=False, known=True, dealt=True, example=first)


def dealt_folds(mated: Sequence[bool]) -> NDArray[np.int64]:
    """Ten folds, each kind of pair as frequent as in the list: the k-th of its kind goes to fold k mod 10."""
    mated_T = np.asarray(mated, dtype=bool)
    folds_T = np.zeros(len(mated_T), dtype=np.int64)
    for kind in (True, False):
        places = np.flatnonzero(mated_T == kind)
        folds_T[places] = np.arange(len(places)) % FOLDS
    return folds_T


def _lines(path: Path) -> list[tuple[int, str]]:
    """Those with something on them, with their numbers; nothing where ``read_pairs`` will say what is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return []
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _is_flagged(line: str) -> bool:
    fields = line.split()
    return len(fields) == 3 and fields[2] in ("0", "1") and not fields[1].isdecimal()


def _flagged(path: Path, lines: list[tuple[int, str]]) -> Listed:
    photos: list[tuple[str, str]] = []
    owners: list[tuple[str, str]] = []
    mated: list[bool] = []
    for number, line in lines:
        if not _is_flagged(line) or not all(PurePosixPath(name).name for name in line.split()[:2]):
            raise DataError(f"{path}, line {number}: {line[:80]!r} is no pair; expected 'imgA imgB 1' or '... 0'")
        first, second, flag = line.split()
        photos.append((key_of(first), key_of(second)))
        owners.append((_owner(first), _owner(second)))
        mated.append(flag == "1")
    known = all(one and other for one, other in owners)
    if known and (wrong := [k for k, (one, other) in enumerate(owners) if (one == other) != mated[k]]):
        number, line = lines[wrong[0]]
        raise DataError(f"{path}, line {number}: {line[:80]!r} contradicts the folders, which say who is who")
    return Listed(
        pairs=PairList(
            where=str(path),
            photos=tuple(photos),
            people=tuple(owners) if known else tuple(_made_up(k, same) for k, same in enumerate(mated)),
            folds_T=dealt_folds(mated),
        ),
        by_path=True,
        known=known,
        dealt=True,
        example=lines[0][1].split()[0],
    )


def _owner(name: str) -> str:
    """The person's folder; empty where there is none."""
    parts = PurePosixPath(name).parts[-KFACE_PARTS:]
    return parts[0] if len(parts) > 1 else ""


def _made_up(pair: int, mated: bool) -> tuple[str, str]:
    """People for a pair of which only it is known whether they are one."""
    return (f"{pair}", f"{pair}") if mated else (f"{pair} first", f"{pair} second")


def contiguous_folds(pairs: int) -> NDArray[np.int64]:
    """As scikit-learn's KFold(10) without shuffling: the first ``pairs % 10`` folds have one more."""
    sizes = np.full(FOLDS, pairs // FOLDS)
    sizes[: pairs % FOLDS] += 1
    return np.repeat(np.arange(FOLDS), sizes)


def draw_pairs(people: Sequence[str], *, where: str, count: int = DRAWN, seed: int = 1) -> PairList:
    """A list for a set that has none: as many mated as non-mated pairs, each person as likely as any other.

    Args:
        people: of each row; the list calls a row by its number.
        where: names the set in messages.
        count: pairs in all at most; fewer where there are not so many different ones.
        seed: the same list for every model.
    """
    generator = np.random.default_rng(seed)
    names, persons_N = np.unique(np.asarray(people), return_inverse=True)
    rows = [np.flatnonzero(persons_N == person) for person in range(len(names))]
    several = [person for person, own in enumerate(rows) if len(own) > 1]
    found: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for mated in (True, False):
        seen: set[tuple[int, int]] = set()
        for _ in range(2 * count):  # a small set runs out of new pairs before that
            if len(seen) == count // 2 or (mated and not several) or len(names) < 2:
                break
            if mated:
                one, two = generator.choice(rows[several[generator.integers(len(several))]], 2, replace=False)
            else:
                one, two = (generator.choice(rows[person]) for person in generator.choice(len(names), 2, replace=False))
            seen.add((int(min(one, two)), int(max(one, two))))
        found[mated] = sorted(seen)
    least = min(map(len, found.values()))
    pairs = [pair for kind in found.values() for pair in generator.permutation(kind)[:least].tolist()] if least else []
    mated_T = [people[one] == people[two] for one, two in pairs]
    return PairList(
        where=where,
        photos=tuple((str(one), str(two)) for one, two in pairs),
        people=tuple((people[one], people[two]) for one, two in pairs),
        folds_T=dealt_folds(mated_T),
    )
