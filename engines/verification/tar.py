"""TAR at a false match rate, over a list or over all comparisons of different people, with its interval.

Enters: comparisons of a list, or embeddings and who each is of. Leaves: ``TarPoint``s. TAR at FAR, the papers' form, is
1 - FNMR at a fixed FMR. No rate is interpolated: a threshold is the distance of the nearest non-mated comparison that
may no longer match, and a comparison matches below it. FAR 1e-4 on LFW's 3,000 listed non-mated pairs allows not one
match; over the 29.6 million comparisons of different people in their photos it allows 2,964.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.bootstrap import cross_comparisons, draws, interval
from engines.verification.pairs import Comparisons
from engines.verification.tails import MIN_MATCHES, collect_tail, count_pairs

# T comparisons; N photos; D embedding; P people; B draws; R rates
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

RATES: Final = (1e-3, 1e-4)
"""False match rates of the tables."""

SPARE: Final = 3
"""How many times more of the tail is kept than the rate allows: a draw of other people may need more of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TarPoint:
    """TAR at a false match rate."""

    rate: float
    threshold: float
    """Squared L2; a comparison matches below it."""
    tar: float
    allowed: int
    """Non-mated comparisons that may match at this rate."""
    non_mated: int
    mated: int
    draws_B: Float64
    """TAR when other people are drawn; the same draws for every engine on one set."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, over people."""
        return interval(self.draws_B)

    @property
    def counted(self) -> bool:
        """Whether the rate allows enough matches to be more than one unlucky comparison."""
        return self.allowed >= MIN_MATCHES


def tar_listed(
    comparisons: Comparisons, rates: Sequence[float] = RATES, *, by_people: bool = False
) -> tuple[TarPoint, ...]:
    """TAR over the listed comparisons.

    Args:
        by_people: the interval is over people, as over all comparisons, and not over pairs of the list, which in LFW
            hardly share people.
    """
    order = np.argsort(comparisons.non_mated, kind="stable")
    units_TK = comparisons.people_T2 if by_people else comparisons.pairs_T[:, None]
    nearest_units_TK = units_TK[~comparisons.mated_T][order]
    return _points(
        rates,
        _Material(
            nearest_T=comparisons.non_mated[order],
            nearest_units=tuple(nearest_units_TK.T),
            mated_T=comparisons.mated,
            mated_units_T=units_TK[comparisons.mated_T, 0],
            units=int(units_TK.max(initial=-1)) + 1,
            non_mated=len(order),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Everybody:
    """Every comparison of different people in a set, and the mated ones that are asked for."""

    points: tuple[TarPoint, ...]
    """At the rates that the set is large enough for."""
    non_mated: int
    fmr_at: float | None
    """False match rate at the threshold that was asked for."""

    def at(self, rate: float) -> TarPoint | None:
        """None where the set is too small for it."""
        return next((point for point in self.points if point.rate == rate), None)


def tar_over_all(
    embeddings_ND: Float32,
    people: Sequence[str],
    *,
    others_ND: Float32 | None = None,
    listed: Comparisons | None = None,
    threshold: float | None = None,
    rates: Sequence[float] = RATES,
) -> Everybody:
    """TAR at thresholds that all comparisons of different people set.

    Args:
        embeddings_ND: (N, D) float32, finite.
        people: who each is of.
        others_ND: the same photos by another engine, as ``tails.count_pairs``.
        listed: whose mated comparisons count; all of the set where there is no list.
        threshold: at which to count the false match rate.
    """
    known = sorted({*people, *(() if listed is None else listed.people)})
    place = {person: index for index, person in enumerate(known)}
    persons_N = np.array([place[person] for person in people], dtype=np.int64)
    pairs = count_pairs(embeddings_ND, persons_N, others_ND=others_ND, threshold=threshold)
    usable = [rate for rate in rates if rate * pairs.non_mated >= MIN_MATCHES]
    below = pairs.edge_above(math.floor(SPARE * max(usable) * pairs.non_mated)) if usable else 0.0
    tail = collect_tail(embeddings_ND, persons_N, below, others_ND=others_ND)
    if listed is None:
        mated_T, owners_T = mated_distances(embeddings_ND, persons_N, others_ND)
    else:
        mated_T = listed.mated
        owners_T = np.array([place[person] for person in listed.people])[listed.people_T2[listed.mated_T, 0]]
    points = _points(
        usable,
        _Material(
            nearest_T=tail.distances_T,
            nearest_units=(tail.first_T, tail.second_T),
            mated_T=mated_T,
            mated_units_T=owners_T,
            units=len(known),
            non_mated=pairs.non_mated,
            photos_P=np.bincount(persons_N, minlength=len(known)) * (1 if others_ND is None else math.sqrt(2)),
        ),
    )
    return Everybody(
        points=points,
        non_mated=pairs.non_mated,
        fmr_at=None if pairs.matches is None or not pairs.non_mated else pairs.matches / pairs.non_mated,
    )


def mated_distances(embeddings_ND: Float32, persons_N: Ints, others_ND: Float32 | None = None) -> tuple[Float32, Ints]:
    """Squared distances of all comparisons of photos of one person, and whose each is."""
    second_ND = embeddings_ND if others_ND is None else others_ND
    distances: list[Any] = [np.zeros(0, dtype=np.float32)]
    owners: list[Any] = [np.zeros(0, dtype=np.int64)]
    order = np.argsort(persons_N, kind="stable")
    starts = np.flatnonzero(np.diff(persons_N[order], prepend=-1))
    for own in np.split(order, starts[1:]):
        first, second = np.triu_indices(len(own), k=1)
        for one, two in ((first, second), (second, first))[: 1 if others_ND is None else 2]:
            differences_TD = embeddings_ND[own[one]] - second_ND[own[two]]
            distances.append(np.einsum("td,td->t", differences_TD, differences_TD))
            owners.append(persons_N[own[one]])
    return np.concatenate(distances), np.concatenate(owners)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Material:
    """What a point is made of. Units (people, or pairs of a list) are what the interval draws again."""

    nearest_T: Float32
    """The nearest non-mated distances, rising."""
    nearest_units: tuple[Ints, ...]
    """The unit, or the two people, that each of them hangs on, (T,) each."""
    mated_T: Float32
    mated_units_T: Ints
    units: int
    non_mated: int
    """Non-mated comparisons in all."""
    photos_P: NDArray[Any] | None = None
    """Of each person, where everybody is compared with everybody; None where the list is all there is."""

    def draw(self, rates: Sequence[float]) -> Float64:
        """TAR at each rate for each draw of the units, (B, R)."""
        rows = []
        for drawn_P in draws(self.units):
            mated_weights_T = drawn_P[self.mated_units_T]
            weights_T = np.prod([drawn_P[units_T] for units_T in self.nearest_units], axis=0)
            in_all = weights_T.sum() if self.photos_P is None else cross_comparisons(self.photos_P, drawn_P)
            if not in_all or not mated_weights_T.sum():
                continue
            passed_T = np.cumsum(weights_T)
            places = [int(np.searchsorted(passed_T, rate * in_all, side="right")) for rate in rates]
            below = [mated_weights_T[self.mated_T < _nearest(self.nearest_T, place)].sum() for place in places]
            rows.append([share / mated_weights_T.sum() for share in below])
        return np.array(rows).reshape(-1, len(rates))


def _points(rates: Sequence[float], material: _Material) -> tuple[TarPoint, ...]:
    if not rates or not material.non_mated or not len(material.mated_T):
        return ()
    draws_BR = material.draw(rates)
    points = []
    for k, rate in enumerate(rates):
        allowed = math.floor(rate * material.non_mated)
        threshold = _nearest(material.nearest_T, allowed)
        point = TarPoint(
            rate=rate,
            threshold=threshold,
            tar=float((material.mated_T < np.float32(threshold)).mean()),
            allowed=allowed,
            non_mated=material.non_mated,
            mated=len(material.mated_T),
            draws_B=draws_BR[:, k],
        )
        points.append(point)
    return tuple(points)


def _nearest(nearest_T: Float32, place: int) -> float:
    """The distance at a place of the tail, or of its end."""
    return float(nearest_T[min(place, len(nearest_T) - 1)]) if len(nearest_T) else 0.0
