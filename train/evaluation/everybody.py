"""Everybody compared with everybody: rates that a list is too short for.

Enters: embeddings and who each is of. Leaves: TAR at rates from 1e-1 down to what the set allows, the equal error rate,
and histograms of all distances. Low rates are exact and redrawn over their whole tail, by ``engines.verification.tar``;
at high ones the tail is most of the set, so the figure is exact and its interval comes from a sample of comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.pairs import Comparisons
from engines.verification.tails import Pairs, count_pairs
from engines.verification.tar import Everybody, TarPoint, mated_distances, tar_listed, tar_over_all
from train.errors import DataError
from train.evaluation.protocols import Figure, eer_figure

# N rows; D embedding; T comparisons; B bins
Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]

LONGEST_TAIL: Final = 100_000
"""False matches that a rate may allow and still be redrawn over its whole tail."""

SAMPLE: Final = 100_000
"""Non-mated comparisons that intervals at high rates are drawn from: at 1e-2 they decide a threshold to 3 %."""

PIECE: Final = 8192
"""Comparisons whose embeddings are taken from each other at once."""

MOST_MATED: Final = 5_000_000
"""Mated comparisons that are held at once, 60 MB of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AllPairs:
    """Over all comparisons of a set."""

    everybody: Everybody
    histogram: Pairs
    eer: Figure | None
    """None with a list: its own counts there."""


def over_all(
    embeddings_ND: Float32,
    people: Sequence[str],
    rates: Sequence[float],
    *,
    listed: Comparisons | None = None,
    threshold: float | None = None,
    where: str = "the set",
) -> AllPairs:
    """Compare everybody with everybody.

    Args:
        embeddings_ND: (N, D) float32, finite.
        people: who each is of.
        rates: false match rates; those that allow fewer than ``MIN_MATCHES`` are left out.
        listed: whose mated comparisons count; all of the set where there is no list.
        threshold: of the model, squared L2: the false match rate at it is counted.
        where: names the set in messages.

    Raises:
        DataError: so many photos of a person that their comparisons do not fit into memory.
    """
    known = sorted({*people, *(() if listed is None else listed.people)})
    place = {person: index for index, person in enumerate(known)}
    persons_N = np.array([place[person] for person in people], dtype=np.int64)
    _check_mated(persons_N, where)
    histogram = count_pairs(embeddings_ND, persons_N)
    low = [rate for rate in rates if rate * histogram.non_mated <= LONGEST_TAIL]
    found = tar_over_all(embeddings_ND, people, listed=listed, threshold=threshold, rates=low)
    sampled = _sample(embeddings_ND, persons_N, known, listed)
    high = [rate for rate in rates if rate not in low]
    points = (*found.points, *(_high_point(sampled, rate, histogram) for rate in high))
    return AllPairs(
        everybody=replace(found, points=tuple(sorted(points, key=lambda point: -point.rate))),
        histogram=histogram,
        eer=None if listed is not None else _equal_error(sampled, histogram),
    )


def _high_point(sampled: Comparisons, rate: float, histogram: Pairs) -> TarPoint:
    """At the highest bin edge (one in 1.2e-4) below which no more lie than the rate allows."""
    allowed = math.floor(rate * histogram.non_mated)
    below_B = np.cumsum(histogram.non_mated_B)
    threshold = float(np.searchsorted(below_B, allowed, side="right") * histogram.width)
    (drawn,) = tar_listed(sampled, [rate], by_people=True)
    return replace(
        drawn,
        threshold=threshold,
        tar=float((sampled.mated < np.float32(threshold)).mean()),
        allowed=allowed,
        non_mated=histogram.non_mated,
    )


def _equal_error(sampled: Comparisons, histogram: Pairs) -> Figure | None:
    if not (histogram.mated and histogram.non_mated):
        return None
    misses_B = 1 - np.cumsum(histogram.mated_B) / histogram.mated
    matches_B = np.cumsum(histogram.non_mated_B) / histogram.non_mated
    nearest = np.argmin(np.abs(misses_B - matches_B))
    return eer_figure(sampled, value=float(misses_B[nearest] + matches_B[nearest]) / 2)


def _sample(
    embeddings_ND: Float32, persons_N: Ints, known: Sequence[str], listed: Comparisons | None, *, seed: int = 1
) -> Comparisons:
    """The mated comparisons that count, and so many of different people: all, or drawn evenly."""
    first_T, second_T = _different(persons_N, seed)
    non_mated_T = _distances(embeddings_ND, first_T, second_T)
    if listed is None:
        mated_T, owners_T = mated_distances(embeddings_ND, persons_N)
    else:
        place = {person: index for index, person in enumerate(known)}
        owners = np.array([place[person] for person in listed.people], dtype=np.int64)
        mated_T, owners_T = listed.mated, owners[listed.people_T2[listed.mated_T, 0]]
    count = len(mated_T) + len(non_mated_T)
    people_T2 = np.stack([persons_N[first_T], persons_N[second_T]], axis=1)
    return Comparisons(
        distances_T=np.concatenate([mated_T, non_mated_T]).astype(np.float32),
        mated_T=np.arange(count) < len(mated_T),
        folds_T=np.zeros(count, dtype=np.int64),
        pairs_T=np.arange(count),
        people_T2=np.concatenate([np.stack([owners_T, owners_T], axis=1), people_T2]),
        people=tuple(known),
    )


def _different(persons_N: Ints, seed: int) -> tuple[Ints, Ints]:
    """Rows of two photos of different people."""
    count = len(persons_N)
    if count * (count - 1) // 2 <= SAMPLE:
        first_T, second_T = np.triu_indices(count, k=1)
    else:
        generator = np.random.default_rng(seed)
        first_T, second_T = generator.integers(0, count, (2, SAMPLE))
    different_T = persons_N[first_T] != persons_N[second_T]
    return first_T[different_T], second_T[different_T]


def _distances(embeddings_ND: Float32, first_T: Ints, second_T: Ints) -> Float32:
    """Squared, piece by piece: all the differences at once would take 200 MB."""
    distances_T = np.empty(len(first_T), dtype=np.float32)
    for start in range(0, len(first_T), PIECE):
        part = slice(start, start + PIECE)
        differences_TD = embeddings_ND[first_T[part]] - embeddings_ND[second_T[part]]
        distances_T[part] = np.einsum("td,td->t", differences_TD, differences_TD)
    return distances_T


def _check_mated(persons_N: Ints, where: str) -> None:
    photos_P = np.bincount(persons_N)
    if (mated := int((photos_P * (photos_P - 1) // 2).sum())) > MOST_MATED:
        raise DataError(
            f"{where}: has {mated:,} comparisons of photos of one person, {MOST_MATED:,} can be held; give a list of "
            "pairs after a comma, or a set of fewer photos a person"
        )
