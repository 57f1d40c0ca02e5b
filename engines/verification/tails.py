"""The tail of the distances between different people: how low a threshold must be for how few false matches.

Enters: embeddings and who each is of. Leaves: exact counts over all pairs, thresholds at false match rates with their
intervals, and the share of mated pairs that each threshold keeps. All pairs of LFW are 87 million: they are gone
through in blocks, twice, and only the tail is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.bootstrap import cross_comparisons, draws, interval

# N embeddings; D their length; B bins of a histogram; T pairs in the tail
Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]

FINEST_BIN: Final = 2.0**-13
"""A power of two, so that dividing by it is exact and the counts at bin edges are exact counts in float32."""

MAX_BINS: Final = 1 << 16
BLOCK: Final = 2048
"""Rows and columns of one block of pairs: 16 MB of distances."""

DECIMALS: Final = 4
"""Of a threshold: it is rounded down, and the rate is counted again at the rounded one."""

MIN_MATCHES: Final = 10
"""False matches that a rate must allow in a set; with fewer the set is too small to measure that rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Histograms of the squared distances of all pairs; bin k counts k * width <= distance < (k + 1) * width."""

    width: float
    mated_B: Ints
    non_mated_B: Ints
    matches: int | None = None
    """Non-mated pairs below the threshold that was asked for."""

    @property
    def mated(self) -> int:
        return int(self.mated_B.sum())

    @property
    def non_mated(self) -> int:
        return int(self.non_mated_B.sum())

    def edge_above(self, count: int) -> float:
        """The lowest bin edge below which more than ``count`` non-mated pairs lie (or the last edge)."""
        passed = np.flatnonzero(np.cumsum(self.non_mated_B) > count)
        return float((passed[0] + 1 if len(passed) else len(self.non_mated_B)) * self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The nearest non-mated pairs, by rising distance: squared distance and the two people of each."""

    distances_T: Float32
    first_T: Ints
    second_T: Ints
    complete_below: float
    """Every non-mated pair nearer than this is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A threshold and what it does. Rates are shares of comparisons."""

    wanted_fmr: float
    threshold: float
    """Squared L2; a pair is a match below it."""
    false_matches: int
    non_mated: int
    fmr_low: float
    fmr_high: float
    """95 % interval of the false match rate over other people of the same kind (bootstrap over subjects)."""
    mated_below: float | None
    """Share of all mated pairs of the set below the threshold; None where there are none."""

    @property
    def fmr(self) -> float:
        return self.false_matches / self.non_mated


def count_pairs(
    embeddings_ND: Float32,
    persons_N: Ints,
    *,
    others_ND: Float32 | None = None,
    threshold: float | None = None,
    block: int = BLOCK,
) -> Pairs:
    """Histogram all pairs of a set.

    Args:
        embeddings_ND: (N, D) float32.
        persons_N: (N,) who each is of, any integers.
        others_ND: the same photos by another engine: pairs are then of one engine's embedding with the other's, both
            ways round, so twice as many.
        threshold: below which to count the non-mated pairs, squared L2.
        block: rows and columns of the pairs that are looked at together.

    Raises:
        ValueError: shapes that do not fit, or an embedding that is not finite.
    """
    _check(embeddings_ND, persons_N, others_ND)
    longest = max(
        float(np.linalg.norm(each, axis=1).max(initial=0.5)) for each in (embeddings_ND, _or(others_ND, embeddings_ND))
    )
    width = FINEST_BIN
    while (bins := math.floor((2 * longest) ** 2 / width) + 2) > MAX_BINS:
        width *= 2
    all_B, mated_B = np.zeros(bins, dtype=np.int64), np.zeros(bins, dtype=np.int64)
    scale = np.float32(1 / width)
    matches = 0
    for block_pairs in _blocks(embeddings_ND, persons_N, block, others_ND):
        bin_T = np.minimum((block_pairs.distances_T * scale).astype(np.int64), bins - 1)
        all_B += np.bincount(bin_T, minlength=bins)
        mated_B += np.bincount(bin_T[block_pairs.mated_T], minlength=bins)
        if threshold is not None:
            near_T = block_pairs.distances_T < np.float32(threshold)
            matches += int(np.count_nonzero(near_T & ~block_pairs.mated_T))
    return Pairs(
        width=width,
        mated_B=mated_B,
        non_mated_B=all_B - mated_B,
        matches=None if threshold is None else matches,
    )


def collect_tail(
    embeddings_ND: Float32, persons_N: Ints, below: float, *, others_ND: Float32 | None = None, block: int = BLOCK
) -> Tail:
    """Every non-mated pair with a squared distance under ``below``, sorted; as ``count_pairs``."""
    _check(embeddings_ND, persons_N, others_ND)
    parts: list[tuple[Float32, Ints, Ints]] = []
    for pairs in _blocks(embeddings_ND, persons_N, block, others_ND):
        near = np.flatnonzero((pairs.distances_T < np.float32(below)) & ~pairs.mated_T)
        first, second = pairs.ends(near)
        parts.append((pairs.distances_T[near], persons_N[first], persons_N[second]))
    distances_T, first_T, second_T = (np.concatenate([part[k] for part in parts]) for k in range(3))
    order = np.argsort(distances_T, kind="stable")
    return Tail(
        distances_T=distances_T[order], first_T=first_T[order], second_T=second_T[order], complete_below=float(below)
    )


def operating_points(
    embeddings_ND: Float32, persons_N: Ints, rates: Sequence[float], *, block: int = BLOCK, seed: int = 1
) -> tuple[Pairs, list[OperatingPoint]]:
    """Thresholds at false match rates over all cross-person pairs.

    Returns:
        The counts, and a point for each rate, in the order given, that the set is large enough for (at least
        ``MIN_MATCHES`` false matches allowed).
    """
    pairs = count_pairs(embeddings_ND, persons_N, block=block)
    usable = [rate for rate in rates if rate * pairs.non_mated >= MIN_MATCHES]
    if not usable:
        return pairs, []
    below = pairs.edge_above(math.floor(max(usable) * pairs.non_mated))
    tail = collect_tail(embeddings_ND, persons_N, below, block=block)
    sizes = np.unique(persons_N, return_counts=True)
    return pairs, [_point(rate, pairs, tail, sizes, seed) for rate in usable]


def threshold_at(tail: Tail, allowed: int) -> float:
    """The largest threshold, rounded down, below which at most ``allowed`` pairs of the tail lie."""
    exact = float(tail.distances_T[allowed]) if allowed < len(tail.distances_T) else tail.complete_below
    unit = 10**DECIMALS
    return math.floor(exact * unit) / unit


def _point(rate: float, pairs: Pairs, tail: Tail, sizes: tuple[Any, Any], seed: int) -> OperatingPoint:
    threshold = threshold_at(tail, math.floor(rate * pairs.non_mated))
    matches = int(np.searchsorted(tail.distances_T, threshold, side="left"))
    low, high = _interval(tail, matches, pairs.non_mated, sizes, seed)
    return OperatingPoint(
        wanted_fmr=rate,
        threshold=threshold,
        false_matches=matches,
        non_mated=pairs.non_mated,
        fmr_low=low,
        fmr_high=high,
        mated_below=_share_below(pairs, threshold),
    )


def _share_below(pairs: Pairs, threshold: float) -> float | None:
    """Of mated pairs; within one bin width (1e-4) of exact, as they are counted by bins."""
    if not pairs.mated:
        return None
    return float(pairs.mated_B[: round(threshold / pairs.width)].sum() / pairs.mated)


def _interval(tail: Tail, matches: int, non_mated: int, sizes: tuple[Any, Any], seed: int) -> tuple[float, float]:
    """95 % interval of the false match rate over other people."""
    if not matches:
        return 0.0, 3 / non_mated  # rule of three
    people, counts = sizes
    first = np.searchsorted(people, tail.first_T[:matches])
    second = np.searchsorted(people, tail.second_T[:matches])
    rates = []
    for drawn_P in draws(len(people), seed=seed):
        comparisons = cross_comparisons(counts, drawn_P)
        rates.append((drawn_P[first] * drawn_P[second]).sum() / comparisons if comparisons else 0.0)
    return interval(np.array(rates))


@dataclass(frozen=True, slots=True, kw_only=True)
class _BlockPairs:
    distances_T: Float32
    mated_T: NDArray[np.bool_]
    rows: Ints
    """Embeddings that the block's rows stand for."""
    columns: Ints
    upper_T: Ints | None
    """Place in the flattened block of each pair; None where every place is a pair."""

    def ends(self, pairs: Ints) -> tuple[Ints, Ints]:
        """The two embeddings of each of some pairs."""
        places = pairs if self.upper_T is None else self.upper_T[pairs]
        row, column = np.divmod(places, len(self.columns))
        return self.rows[row], self.columns[column]


def _blocks(
    embeddings_ND: Float32, persons_N: Ints, block: int, others_ND: Float32 | None = None
) -> Iterator[_BlockPairs]:
    """All unordered pairs, each once; with ``others_ND`` all pairs of two photos, both ways round. The same call gives
    the same floats, so two passes agree on every count."""
    second_ND = _or(others_ND, embeddings_ND)
    norms_N, others_N = (np.einsum("nd,nd->n", each, each) for each in (embeddings_ND, second_ND))
    count = len(embeddings_ND)
    for top in range(0, count, block):
        rows = np.arange(top, min(top + block, count))
        for left in range(top if others_ND is None else 0, count, block):
            columns = np.arange(left, min(left + block, count))
            products_RC = embeddings_ND[rows] @ second_ND[columns].T
            distances_RC = np.maximum(norms_N[rows, None] + others_N[None, columns] - 2 * products_RC, 0)
            mated_RC = persons_N[rows, None] == persons_N[None, columns]
            upper_T = np.flatnonzero(_counted(mated_RC.shape, whole=others_ND is not None)) if left == top else None
            chosen: Any = slice(None) if upper_T is None else upper_T
            yield _BlockPairs(
                distances_T=distances_RC.ravel()[chosen],
                mated_T=mated_RC.ravel()[chosen],
                rows=rows,
                columns=columns,
                upper_T=upper_T,
            )


def _counted(shape: tuple[int, ...], *, whole: bool) -> NDArray[np.bool_]:
    """Of a block on the diagonal: what lies above it, or all but a photo with itself."""
    square = np.ones(shape, dtype=bool)
    above: NDArray[np.bool_] = np.triu(square, k=1)
    return above | np.tril(square, k=-1) if whole else above


def _or(others_ND: Float32 | None, embeddings_ND: Float32) -> Float32:
    return embeddings_ND if others_ND is None else others_ND


def _check(embeddings_ND: Float32, persons_N: Ints, others_ND: Float32 | None) -> None:
    for each_ND in (embeddings_ND, _or(others_ND, embeddings_ND)):
        if each_ND.ndim != 2 or each_ND.dtype != np.float32 or each_ND.shape != embeddings_ND.shape:
            raise ValueError(f"embeddings must be float32 (N, D), but got {each_ND.dtype} {each_ND.shape}")
        if not np.isfinite(each_ND).all():
            raise ValueError("an embedding is not finite; the model or its file is broken")
    if persons_N.shape != embeddings_ND.shape[:1]:
        raise ValueError(f"{len(embeddings_ND)} embeddings need as many persons, got {persons_N.shape}")
