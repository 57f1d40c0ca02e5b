"""Counts over blocks of pairs against brute force, and thresholds against their definition."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.verification.tails import (
    MIN_MATCHES,
    Tail,
    collect_tail,
    count_pairs,
    operating_points,
    threshold_at,
)


def on_a_grid(seed: int, photos: int, people: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings whose coordinates are eighths: float32 computes their distances exactly."""
    generator = np.random.default_rng(seed)
    embeddings = (generator.integers(-4, 5, (photos, 6)) / 8).astype(np.float32)
    return embeddings, generator.integers(0, people, photos).astype(np.int64)


def brute_force(embeddings: NDArray[np.float32], persons: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    mated, non_mated = [], []
    for i, j in combinations(range(len(embeddings)), 2):
        distance = float(((embeddings[i].astype(float) - embeddings[j].astype(float)) ** 2).sum())
        (mated if persons[i] == persons[j] else non_mated).append(distance)
    return sorted(mated), sorted(non_mated)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 70), st.integers(1, 9), st.integers(1, 80))
def test_every_pair_is_counted_once_whatever_the_blocks(seed: int, photos: int, people: int, block: int) -> None:
    embeddings, persons = on_a_grid(seed, photos, people)
    mated, non_mated = brute_force(embeddings, persons)
    found = count_pairs(embeddings, persons, block=block)
    assert (found.mated, found.non_mated) == (len(mated), len(non_mated))
    for counts, distances in ((found.mated_B, mated), (found.non_mated_B, non_mated)):
        bins = np.bincount([math.floor(d / found.width) for d in distances] or [0], minlength=len(counts))
        bins[0] -= not distances
        assert (bins == counts).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 70), st.integers(1, 80), st.floats(0, 3, width=32))
def test_the_tail_is_every_non_mated_pair_below(seed: int, photos: int, block: int, below: float) -> None:
    embeddings, persons = on_a_grid(seed, photos, 5)
    tail = collect_tail(embeddings, persons, below, block=block)
    assert tail.distances_T.tolist() == [d for d in brute_force(embeddings, persons)[1] if d < below]
    assert (tail.first_T != tail.second_T).all()


def test_tail_pairs_name_their_people() -> None:
    embeddings = np.array([[0, 0], [0.25, 0], [5, 0], [5, 0.5]], dtype=np.float32)
    tail = collect_tail(embeddings, np.array([7, 8, 9, 7]), 1.0)
    assert [
        (float(d), int(a), int(b)) for d, a, b in zip(tail.distances_T, tail.first_T, tail.second_T, strict=True)
    ] == [
        (0.0625, 7, 8),
        (0.25, 9, 7),
    ]


def faces(people: int, each: int, spread: float, seed: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit embeddings of people around centres of their own."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((people, 16))
    photos = np.repeat(centres, each, axis=0) + spread * generator.standard_normal((people * each, 16))
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    return photos.astype(np.float32), np.repeat(np.arange(people), each)


@pytest.mark.parametrize("block", [64, 1000])
def test_a_threshold_lets_no_more_through_than_its_rate_and_is_the_largest_that_does(block: int) -> None:
    embeddings, persons = faces(80, 4, 0.5)
    _, non_mated = brute_force(embeddings, persons)
    mated, _ = brute_force(embeddings, persons)
    _, points = operating_points(embeddings, persons, [1e-2, 1e-3, 2e-4], block=block)
    assert [point.wanted_fmr for point in points] == [1e-2, 1e-3, 2e-4]
    for point in points:
        below = sum(distance < point.threshold for distance in non_mated)
        assert abs(below - point.false_matches) <= 1  # float32 against float64 at the very edge
        assert point.fmr <= point.wanted_fmr
        above = sum(distance < point.threshold + 2e-4 for distance in non_mated)
        assert above / len(non_mated) >= point.wanted_fmr * 0.98
        assert point.non_mated == len(non_mated)
        assert point.mated_below == pytest.approx(sum(d < point.threshold for d in mated) / len(mated), abs=0.02)
        assert point.fmr_low < point.fmr < point.fmr_high


def test_a_lower_rate_gives_a_lower_threshold() -> None:
    _, points = operating_points(*faces(60, 5, 0.4), [1e-2, 1e-3])
    assert points[0].threshold > points[1].threshold
    assert (points[0].mated_below or 0) >= (points[1].mated_below or 0)


def test_a_rate_that_the_set_is_too_small_for_gets_no_point() -> None:
    embeddings, persons = faces(10, 3, 0.3)
    pairs, points = operating_points(embeddings, persons, [0.5, MIN_MATCHES / 405 - 1e-9, 1e-6])
    assert pairs.non_mated == 405
    assert [point.wanted_fmr for point in points] == [0.5]


def test_the_interval_follows_people_not_pairs() -> None:
    """One pair of look-alikes with many photos: all false matches hang on two people, so the interval is wide."""
    embeddings, persons = faces(60, 12, 0.2)
    persons[persons == 1] = 1000
    embeddings[12:24] = embeddings[:12]
    point = operating_points(embeddings, persons, [144 / 255_000])[1][0]
    assert point.fmr_low == 0
    assert point.fmr_high > 2 * point.fmr


def test_thresholds_are_rounded_down() -> None:
    tail = Tail(
        distances_T=np.array([0.11119, 0.2], dtype=np.float32),
        first_T=np.array([0, 0]),
        second_T=np.array([1, 2]),
        complete_below=0.3,
    )
    assert threshold_at(tail, 0) == 0.1111
    assert threshold_at(tail, 1) == 0.2
    assert threshold_at(tail, 2) == 0.3


@pytest.mark.parametrize(
    ("embeddings", "persons", "message"),
    [
        (np.zeros((2, 3)), np.array([0, 1]), "float32"),
        (np.zeros((2, 3), dtype=np.float32), np.array([0]), "as many persons"),
        (np.array([[np.nan], [0]], dtype=np.float32), np.array([0, 1]), "not finite"),
    ],
)
def test_wrong_arrays_are_refused(embeddings: NDArray[np.float32], persons: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_pairs(embeddings, persons)


def test_long_embeddings_get_wider_bins_and_the_same_counts() -> None:
    embeddings, persons = on_a_grid(1, 40, 4)
    long = embeddings * 64
    found = count_pairs(long, persons)
    assert len(found.non_mated_B) <= 1 << 16
    assert found.non_mated == len(brute_force(long, persons)[1])
