"""Which crops stay, and why each other image is not there; decided when all are made.

Enters: a plan and what became of each image. Leaves: the rows that stay with their labels, and a reason for every image
that is left out. A file that is in the set twice counts once; one that is under two names of people is nobody's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from train.preparing.plan import Plan
from train.source import Source

# R rows of the growing file, in the order of the plan; K rows that stay; 32 bytes of a sha256

TOO_FEW: Final = "its person has too few usable images"
TWICE: Final = "the same file as another image of this person"
SHARED: Final = "the same file is in the set as another person's image"


@dataclass(frozen=True, kw_only=True, eq=False)
class Fates:
    """What became of the images of a plan, in its order."""

    items_R: NDArray[np.int64]
    """Place in the source's items of each crop."""
    sha256_R32: NDArray[np.uint8]
    """Of the images' bytes."""
    reasons: dict[int, str]
    """Place in the source's items -> why there is no crop."""
    notes: dict[int, str] = field(default_factory=dict)
    """Place in the source's items -> what is to be known of its crop."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Settled:
    rows_K: NDArray[np.int64]
    """Of the growing file; ascending."""
    labels_K: NDArray[np.int32]
    train: tuple[str, ...]
    """Subjects that have rows, by label."""
    val: tuple[str, ...]
    train_rows: int
    refused: dict[str, str]
    """Name -> reason: what the source refused, then what gave no crop, then what was taken out again."""
    left_out: int = 0
    """How many of those are good images, and not there because a person asked for more of each subject."""
    too_few: dict[str, int] = field(default_factory=dict)
    """Subjects left out -> usable images they have."""
    duplicates: int = 0
    """Images that are another one of their person."""
    shared: tuple[tuple[str, ...], ...] = ()
    """Names of images that are one file under several people; none of them stays."""


def settle(source: Source, plan: Plan, fates: Fates) -> Settled:
    """Decide; see the module. Nothing here depends on how the work was shared out."""
    subjects = (*plan.train, *plan.val)
    number = {subject: place for place, subject in enumerate(subjects)}
    items = source.items
    who_R = np.array([number[items[item].subject] for item in fates.items_R.tolist()], dtype=np.int64)
    name = [items[item].name for item in fates.items_R.tolist()]
    out: dict[int, str] = {}
    shared: list[tuple[str, ...]] = []
    duplicates = 0
    for same in _alike(fates.sha256_R32):
        if len(set(who_R[same].tolist())) == 1:
            out |= dict.fromkeys(same[1:], f"{TWICE} ({name[same[0]]})")
            duplicates += len(same) - 1
        else:
            shared.append(tuple(name[row] for row in same))
            for row in same:
                out[row] = f"{SHARED} ({_other(row, same, who_R, name)})"
    stays_R = np.ones(len(who_R), dtype=bool)
    stays_R[list(out)] = False
    counts = np.bincount(who_R[stays_R], minlength=len(subjects))
    wanted = max(1, plan.wishes.min_images)
    few = counts < wanted
    left_out = sum(plan.too_few.values())
    for row in np.flatnonzero(stays_R & few[who_R] if len(who_R) else stays_R).tolist():
        left_out += 1
        out[row] = f"{TOO_FEW} ({counts[who_R[row]]} of {wanted})"
        stays_R[row] = False
    rows_K = np.flatnonzero(stays_R)
    train = tuple(subject for place, subject in enumerate(plan.train) if not few[place])
    val = tuple(subject for place, subject in enumerate(plan.val, start=len(plan.train)) if not few[place])
    label = {subject: place for split in (train, val) for place, subject in enumerate(split)}
    labels_K = np.array([label[subjects[person]] for person in who_R[rows_K].tolist()], dtype=np.int32)
    return Settled(
        rows_K=rows_K,
        labels_K=labels_K,
        train=train,
        val=val,
        train_rows=int(np.count_nonzero(who_R[rows_K] < len(plan.train))),
        refused={**source.refused, **_left_out(source, plan), **_uncropped(source, fates)}
        | {name[row]: out[row] for row in sorted(out)},
        left_out=left_out,
        too_few={**plan.too_few, **{subjects[place]: int(counts[place]) for place in np.flatnonzero(few).tolist()}},
        duplicates=duplicates,
        shared=tuple(shared),
    )


def reason_kind(reason: str) -> str:
    """What a reason has in common with others of its kind: all but the details in brackets or behind a colon."""
    return reason.partition(" (")[0].partition(": ")[0]


def by_kind(refused: dict[str, str]) -> list[tuple[str, int, tuple[str, ...]]]:
    """Kinds of reasons, the most frequent first: (kind, how many, the first three names)."""
    counts = Counter(map(reason_kind, refused.values()))
    first: dict[str, list[str]] = {kind: [] for kind in counts}
    for each, reason in refused.items():
        if len(examples := first[reason_kind(reason)]) < 3:
            examples.append(each)
    return [(kind, count, tuple(first[kind])) for kind, count in counts.most_common()]


def _alike(sha256_R32: NDArray[np.uint8]) -> Iterator[list[int]]:
    """Rows of the same bytes, where there are several, each group ascending, by their first row."""
    if not len(sha256_R32):
        return
    whole_R = np.ascontiguousarray(sha256_R32).view("V32").ravel()
    head_R = np.ascontiguousarray(sha256_R32[:, :8]).view(np.uint64).ravel()
    order_R = np.argsort(head_R, kind="stable")
    alike = head_R[order_R[1:]] == head_R[order_R[:-1]]
    groups: dict[bytes, list[int]] = {}
    for row in sorted({*order_R[1:][alike].tolist(), *order_R[:-1][alike].tolist()}):
        groups.setdefault(whole_R[row].tobytes(), []).append(row)
    yield from (rows for rows in groups.values() if len(rows) > 1)


def _other(row: int, same: Sequence[int], who_R: NDArray[np.int64], name: Sequence[str]) -> str:
    return next(name[each] for each in same if who_R[each] != who_R[row])


def _left_out(source: Source, plan: Plan) -> dict[str, str]:
    """Images of people who have too few to begin with."""
    wanted = plan.wishes.min_images
    return {
        item.name: f"{TOO_FEW} ({plan.too_few[item.subject]} of {wanted})"
        for item in (source.items if plan.too_few else ())
        if item.subject in plan.too_few
    }


def _uncropped(source: Source, fates: Fates) -> dict[str, str]:
    return {source.items[item].name: reason for item, reason in fates.reasons.items()}


def planned_items(plan: Plan) -> Iterator[int]:
    """Places in the source's items, in the order of the plan."""
    return chain.from_iterable(plan.ranges)
