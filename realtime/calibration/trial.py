"""A gallery as people use it, on people whom the threshold has never seen.

Enters: embeddings of a set. Leaves: how many enrolled people a threshold names right and wrong, and how many
strangers it names. The set's people are split in two halves: one gives the threshold, the other fills the gallery,
and the reverse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engines.verification.tails import MIN_MATCHES, collect_tail, count_pairs, threshold_at
from realtime.people.matching import Matches, References, match

# N photos; M references; D embedding

Mode = Literal["nearest", "mean", "both"]
"""What a person is compared by: the nearest of the photos, their mean (back to unit length), or all of these."""

MODES: Final[tuple[Mode, ...]] = get_args(Mode)

PHOTOS: Final = 3
"""Photos with which each person is enrolled."""

MIN_PHOTOS: Final = 4
"""Of a person, to be enrolled and still have a probe."""

MAX_PROBES: Final = 10
"""Of one person, so that a president with 530 photos is not the whole result."""

DRAWS: Final = 10
"""Galleries that are drawn for a size below the largest; their counts are added up."""

LARGEST: Final = 0
"""As a gallery size: everybody who has enough photos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Counts over all draws and both halves."""

    people: int
    """Enrolled in one gallery; where the halves differ, the smaller number."""
    mode: Mode
    margin: float
    wanted_fmr: float
    thresholds: tuple[float, ...]
    """One of each half."""
    probes: int
    right: int
    wrong: int
    strangers: int
    strangers_named: int

    @property
    def right_share(self) -> float:
        return self.right / self.probes

    @property
    def stranger_share(self) -> float:
        return self.strangers_named / self.strangers if self.strangers else 0.0

    def plus(self, other: Trial) -> Trial:
        return replace(
            self,
            people=min(self.people, other.people),
            thresholds=tuple(dict.fromkeys((*self.thresholds, *other.thresholds))),
            probes=self.probes + other.probes,
            right=self.right + other.right,
            wrong=self.wrong + other.wrong,
            strangers=self.strangers + other.strangers,
            strangers_named=self.strangers_named + other.strangers_named,
        )


def trials(
    embeddings_ND: NDArray[np.float32],
    persons_N: NDArray[np.int64],
    *,
    unit_length: bool,
    rates: Sequence[float],
    sizes: Sequence[int] = (20, 100, LARGEST),
    margins: Sequence[float] = (0.0, 0.02, 0.04, 0.06),
    seed: int = 1,
) -> list[Trial]:
    """Run every combination that the set is large enough for; an empty list where it is for none."""
    added: dict[tuple[int, Mode, float, float], Trial] = {}
    for half, (tuned, tried) in enumerate(_halves(persons_N, seed)):
        thresholds = _thresholds(embeddings_ND[tuned], persons_N[tuned], rates)
        generator = np.random.default_rng([seed, half])
        for size in sizes:
            for draw in _draws(persons_N, tried, size, generator):
                for mode in MODES:
                    run = _Run.of(embeddings_ND, draw, mode, unit_length=unit_length)
                    for rate, threshold in thresholds.items():
                        for margin in margins:
                            trial = run.count(rate, threshold, margin)
                            key = size, mode, rate, margin
                            added[key] = added[key].plus(trial) if key in added else trial
    return list(added.values())


def _halves(persons_N: NDArray[np.int64], seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Photos (tuned, tried) of two splits without a person in common."""
    people = np.random.default_rng(seed).permutation(np.unique(persons_N))
    first = np.isin(persons_N, people[: len(people) // 2])
    for tuned in (first, ~first):
        yield np.flatnonzero(tuned), np.flatnonzero(~tuned)


def _thresholds(
    embeddings_ND: NDArray[np.float32], persons_N: NDArray[np.int64], rates: Sequence[float]
) -> dict[float, float]:
    pairs = count_pairs(embeddings_ND, persons_N)
    allowed = {rate: math.floor(rate * pairs.non_mated) for rate in rates if rate * pairs.non_mated >= MIN_MATCHES}
    if not allowed:
        return {}
    tail = collect_tail(embeddings_ND, persons_N, pairs.edge_above(max(allowed.values())))
    return {rate: threshold_at(tail, count) for rate, count in allowed.items()}


@dataclass(frozen=True, slots=True)
class _Draw:
    """One gallery: photos enrolled (people x 3), probes with the place of their person among the people, strangers."""

    enrolled_P3: NDArray[np.int64]
    probes_N: NDArray[np.int64]
    owners_N: NDArray[np.int64]
    strangers_N: NDArray[np.int64]


def _draws(
    persons_N: NDArray[np.int64], tried: NDArray[np.int64], size: int, generator: np.random.Generator
) -> Iterator[_Draw]:
    photos = {int(person): tried[persons_N[tried] == person] for person in np.unique(persons_N[tried])}
    able = [person for person, own in photos.items() if len(own) >= MIN_PHOTOS]
    singles = [own for own in photos.values() if len(own) == 1]
    strangers_N = np.concatenate(singles) if singles else np.zeros(0, dtype=np.int64)
    if not able or len(able) < size:
        return
    for _ in range(1 if size in (LARGEST, len(able)) else DRAWS):
        chosen = generator.permutation(able)[: size or len(able)]
        shuffled = [generator.permutation(photos[int(person)]) for person in chosen]
        probes = [own[PHOTOS : PHOTOS + MAX_PROBES] for own in shuffled]
        yield _Draw(
            np.stack([own[:PHOTOS] for own in shuffled]),
            np.concatenate(probes),
            np.repeat(np.arange(len(chosen)), [len(own) for own in probes]),
            strangers_N,
        )


@dataclass(frozen=True, slots=True)
class _Run:
    draw: _Draw
    mode: Mode
    probes: Matches
    strangers: Matches

    @classmethod
    def of(cls, embeddings_ND: NDArray[np.float32], draw: _Draw, mode: Mode, *, unit_length: bool) -> _Run:
        references = _references(embeddings_ND, draw.enrolled_P3, mode, unit_length=unit_length)
        return cls(
            draw,
            mode,
            match(embeddings_ND[draw.probes_N], references),
            match(embeddings_ND[draw.strangers_N], references),
        )

    def count(self, rate: float, threshold: float, margin: float) -> Trial:
        named_N = _named(self.probes, threshold, margin)
        right_N = named_N & (self.probes.persons_N == self.draw.owners_N)
        return Trial(
            people=len(self.draw.enrolled_P3),
            mode=self.mode,
            margin=margin,
            wanted_fmr=rate,
            thresholds=(threshold,),
            probes=len(named_N),
            right=int(right_N.sum()),
            wrong=int((named_N & ~right_N).sum()),
            strangers=len(self.draw.strangers_N),
            strangers_named=int(_named(self.strangers, threshold, margin).sum()),
        )


def _named(matches: Matches, threshold: float, margin: float) -> NDArray[np.bool_]:
    named_N: NDArray[np.bool_] = (matches.distances_N < threshold) & (
        matches.second_distances_N - matches.distances_N >= margin
    )
    return named_N


def _references(
    embeddings_ND: NDArray[np.float32], enrolled_P3: NDArray[np.int64], mode: Mode, *, unit_length: bool
) -> References:
    photos_P3D = embeddings_ND[enrolled_P3]
    means_P1D = photos_P3D.mean(axis=1, keepdims=True)
    if unit_length:
        means_P1D = means_P1D / np.maximum(np.linalg.norm(means_P1D, axis=2, keepdims=True), 1e-12)
    kept = {"nearest": [photos_P3D], "mean": [means_P1D], "both": [photos_P3D, means_P1D]}[mode]
    chosen_PRD = np.concatenate(kept, axis=1).astype(np.float32)
    people, each, dimensions = chosen_PRD.shape
    return References(
        embeddings_MD=chosen_PRD.reshape(-1, dimensions),
        persons_M=np.repeat(np.arange(people, dtype=np.int64), each),
        names=tuple(str(person) for person in range(people)),
        model_id="trial",
    )
