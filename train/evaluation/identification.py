"""Identification 1:N, closed set and open set, over several draws of who is enrolled.

Enters: embeddings and who each is of. Leaves: rank-1 and rank-5 of probes whose subject is enrolled, and FNIR at the
threshold where so many searches of strangers find somebody (FPIR): the share of mated searches whose subject is not the
first, or not below that threshold. A draw enrols half of the subjects that have photos
to spare, with ``references`` photos each; their other photos are mated probes, and everybody else's photos are
strangers. A subject's score is that of its nearest reference, as ``realtime`` compares. Terms as in NIST FRVT 1:N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.bootstrap import draws, interval
from engines.verification.tails import MIN_MATCHES
from train.errors import DataError
from train.evaluation.protocols import Figure

# N rows; D embedding; G references; J enrolled subjects; Q mated probes; U searches of strangers; P people
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]

RANKS: Final = (1, 5)
FPIR: Final = 1e-2
DRAWS: Final = 10
"""Galleries, each with its own seed."""

BOOTSTRAPS: Final = 500
BLOCK: Final = 1024
"""Probes that are searched with at once."""


@dataclass(frozen=True, kw_only=True)
class Identification:
    """Means over the galleries; intervals are over subjects."""

    galleries: int
    enrolled: int
    """Subjects in each gallery."""
    references: int
    """Of each enrolled subject."""
    mated_probes: int
    """Mean of the galleries."""
    strangers: int
    stranger_probes: int
    """Mean of the galleries."""
    ranks: dict[int, Figure]
    """Share of mated probes whose subject is among the first k."""
    fpir: float
    fnir: Figure | None
    """None where the searches of strangers allow no false positive at ``fpir``."""
    counted: bool
    """Whether ``fpir`` allows enough false positives to be more than an unlucky photo."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ranks": {str(rank): asdict(figure) for rank, figure in self.ranks.items()}}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Search:
    """One gallery."""

    owners_Q: Ints
    place_Q: Ints
    """Of the right subject in the candidate list, from 0."""
    nearest_Q: Float32
    """Squared distance to the right subject."""
    strangers_U: Ints
    """Whose photo it is, by rising distance."""
    found_U: Float32
    """Squared distance of the best candidate, rising."""


def identify(
    embeddings_ND: Float32,
    people: Sequence[str],
    *,
    references: int = 1,
    enrolled: int | None = None,
    fpir: float = FPIR,
    galleries: int = DRAWS,
    seed: int = 1,
    where: str = "the set",
) -> Identification:
    """Search for everybody in galleries that are drawn from the set.

    Args:
        embeddings_ND: (N, D) float32.
        people: who each is of.
        references: photos that a subject is enrolled with.
        enrolled: subjects in a gallery; half of those with more photos than ``references`` if not given.
        fpir: share of strangers' searches that may find somebody.
        galleries: how many are drawn.
        seed: of the first; the next is one more.
        where: names the set in messages.

    Raises:
        DataError: too few subjects, or too few photos of them.
    """
    names, persons_N = np.unique(np.asarray(people), return_inverse=True)
    photos_P = np.bincount(persons_N, minlength=len(names))
    eligible = np.flatnonzero(photos_P > references)
    size = max(1, len(eligible) // 2) if enrolled is None else enrolled
    if len(eligible) < size or size < 1 or len(names) <= size or references < 1:
        raise DataError(
            f"{where}: {size} subjects with {references} references cannot be enrolled: {len(eligible)} of "
            f"{len(names)} have a photo besides, and somebody has to stay a stranger; ask for fewer"
        )
    searches = [
        _search(embeddings_ND, persons_N, np.random.default_rng(seed + k), eligible, size, references)
        for k in range(galleries)
    ]
    strangers = min(len(search.found_U) for search in searches)
    ranks, fnir = _figures(searches, len(names), fpir)
    return Identification(
        galleries=galleries,
        enrolled=size,
        references=references,
        mated_probes=round(float(np.mean([len(search.owners_Q) for search in searches]))),
        strangers=len(names) - size,
        stranger_probes=round(float(np.mean([len(search.found_U) for search in searches]))),
        ranks=ranks,
        fpir=fpir,
        fnir=fnir if fpir * strangers >= 1 else None,
        counted=fpir * strangers >= MIN_MATCHES,
    )


def _search(
    embeddings_ND: Float32,
    persons_N: Ints,
    random: np.random.Generator,
    eligible: Ints,
    size: int,
    references: int,
) -> _Search:
    chosen_J = np.sort(random.choice(eligible, size, replace=False))
    rows_G = np.concatenate(
        [random.choice(np.flatnonzero(persons_N == person), references, replace=False) for person in chosen_J]
    )
    probes_N = np.ones(len(persons_N), dtype=bool)
    probes_N[rows_G] = False
    mated_N = probes_N & np.isin(persons_N, chosen_J)
    gallery_GD = embeddings_ND[rows_G]
    mated, strangers = np.flatnonzero(mated_N), np.flatnonzero(probes_N & ~mated_N)
    place_Q, nearest_Q = np.zeros(len(mated), dtype=np.int64), np.zeros(len(mated), dtype=np.float32)
    for start in range(0, len(mated), BLOCK):
        rows = mated[start : start + BLOCK]
        scores_QJ = _nearest(embeddings_ND[rows], gallery_GD, references)
        own_Q = scores_QJ[np.arange(len(rows)), np.searchsorted(chosen_J, persons_N[rows])]
        # one that is as near stands before it: a tie is nobody's success
        place_Q[start : start + len(rows)] = (scores_QJ <= own_Q[:, None]).sum(axis=1) - 1
        nearest_Q[start : start + len(rows)] = own_Q
    parts = [
        _nearest(embeddings_ND[strangers[k : k + BLOCK]], gallery_GD, references).min(axis=1)
        for k in range(0, len(strangers), BLOCK)
    ]
    found_U = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    order = np.argsort(found_U, kind="stable")
    return _Search(
        owners_Q=persons_N[mated],
        place_Q=place_Q,
        nearest_Q=nearest_Q,
        strangers_U=persons_N[strangers][order],
        found_U=found_U[order],
    )


def _nearest(probes_QD: Float32, gallery_GD: Float32, references: int) -> Float32:
    """Squared distance of each probe to the nearest reference of each subject, (Q, J)."""
    squares_QG = (
        np.einsum("qd,qd->q", probes_QD, probes_QD)[:, None]
        + np.einsum("gd,gd->g", gallery_GD, gallery_GD)
        - 2 * probes_QD @ gallery_GD.T
    )
    nearest_QJ: Float32 = squares_QG.reshape(len(probes_QD), -1, references).min(axis=2)
    return nearest_QJ


def _figures(searches: Sequence[_Search], people: int, fpir: float) -> tuple[dict[int, Figure], Figure]:
    """Of all galleries together; each draw of people changes all of them. Who is enrolled stays, so the size of the
    gallery does."""
    everyone_P = np.ones(people)
    values = _rates(searches, everyone_P, fpir)
    drawn = [rates for drawn_P in draws(people, count=BOOTSTRAPS) if (rates := _rates(searches, drawn_P, fpir))]
    table = np.array(drawn).reshape(-1, len(RANKS) + 1)
    assert values is not None
    figures = [Figure(value=float(value), low=0.0, high=1.0) for value in values]
    for k, figure in enumerate(figures):
        low, high = interval(table[:, k])
        figures[k] = replace(figure, low=low, high=high)
    return dict(zip(RANKS, figures, strict=False)), figures[-1]


def _rates(searches: Sequence[_Search], drawn_P: Float64, fpir: float) -> list[float] | None:
    """Rank-k shares and FNIR when each person is there ``drawn_P`` times; None where no mated probe is left."""
    hits, misses, total = np.zeros(len(RANKS)), 0.0, 0.0
    for search in searches:
        weights_Q = drawn_P[search.owners_Q]
        threshold = _threshold(search, drawn_P, fpir)
        total += weights_Q.sum()
        hits += [weights_Q[search.place_Q < rank].sum() for rank in RANKS]
        misses += weights_Q[(search.place_Q > 0) | (search.nearest_Q >= threshold)].sum()
    return None if not total else [*(hits / total), float(misses / total)]


def _threshold(search: _Search, drawn_P: Float64, fpir: float) -> float:
    """The best score of the first stranger who may not be found any more; a search finds below it."""
    if not len(search.found_U):
        return math.inf
    passed_U = np.cumsum(drawn_P[search.strangers_U])
    place = int(np.searchsorted(passed_U, fpir * passed_U[-1], side="right"))
    return float(search.found_U[min(place, len(search.found_U) - 1)])
