"""Figures against closed forms and brute force: accuracy, equal error rate, TAR at FAR, intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.verification.bootstrap import cross_comparisons, draws, interval
from engines.verification.pairs import Comparisons
from engines.verification.protocol import accuracy, best_threshold, equal_error_rate
from engines.verification.tar import mated_distances, tar_listed, tar_over_all
from tests.engines.test_verification_tails import brute_force, faces, on_a_grid


def comparisons(distances: Any, mated: Any, folds: Any | None = None) -> Comparisons:
    """Each pair of people of its own."""
    count = len(distances)
    ends = np.arange(2 * count).reshape(count, 2)
    ends[np.asarray(mated, dtype=bool), 1] = ends[np.asarray(mated, dtype=bool), 0]
    return Comparisons(
        distances_T=np.asarray(distances, dtype=np.float32),
        mated_T=np.asarray(mated, dtype=bool),
        folds_T=np.zeros(count, dtype=np.int64) if folds is None else np.asarray(folds),
        pairs_T=np.arange(count),
        people_T2=ends,
        people=tuple(map(str, range(2 * count))),
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40))
def test_no_threshold_is_better_than_the_best(pairs: list[tuple[int, bool]]) -> None:
    distances = np.array([distance for distance, _ in pairs], dtype=np.float32)
    mated = np.array([same for _, same in pairs])

    def right(threshold: float) -> int:
        return int(((distances < threshold) == mated).sum())

    assert right(best_threshold(distances, mated)) == max(right(k / 2) for k in range(-1, 28))


def test_the_middle_of_equally_good_thresholds_is_taken() -> None:
    assert best_threshold(np.float32([1, 5]), np.array([True, False])) == 3


def test_each_fold_is_judged_by_the_others() -> None:
    """Fold 0 parts at 1 to 3, fold 1 at 5 to 7: each at the other's threshold gets its own far side wrong."""
    found = accuracy(comparisons([1, 3, 5, 7], [True, False, True, False], [0, 0, 1, 1]))
    assert found is not None
    assert (found.mean, found.std) == (0.5, 0.0)
    both = accuracy(comparisons([1, 3, 1, 3], [True, False, True, False], [0, 0, 1, 1]))
    assert both is not None
    assert (both.mean, both.threshold, both.eer) == (1, 2, 0)


def test_a_failed_comparison_is_a_wrong_decision_of_either_kind() -> None:
    distances = [1, math.inf, 3, math.inf, 1, 1, 3, 3]
    mated = [True, True, False, False, True, True, False, False]
    found = comparisons(distances, mated, [0, 0, 0, 0, 1, 1, 1, 1])
    counted, left_out = accuracy(found), accuracy(found.without_failed())
    assert counted is not None
    assert left_out is not None
    assert counted.mean == 0.75
    assert left_out.mean == 1


def test_one_fold_has_no_accuracy() -> None:
    assert accuracy(comparisons([1, 3], [True, False])) is None
    assert accuracy(comparisons([1, 1, 1, 3], [True, True, True, False], [0, 0, 1, 1])) is None


def test_equal_error_rate_of_a_known_overlap() -> None:
    mated, others = [1, 2, 3, 4, 6, 6, 6, 6, 6, 9], [8, 5, 10, 10, 10, 10, 10, 10, 10, 10]
    assert equal_error_rate(comparisons(mated + others, [True] * 10 + [False] * 10)) == pytest.approx(0.1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 60), st.integers(1, 60), st.sampled_from([1e-1, 1e-2, 0.5]))
def test_tar_is_the_share_below_the_largest_threshold_that_keeps_the_rate(
    seed: int, mated: int, others: int, rate: float
) -> None:
    generator = np.random.default_rng(seed)
    near, far = generator.integers(0, 20, mated), generator.integers(5, 25, others)
    (point,) = tar_listed(comparisons([*near, *far], [True] * mated + [False] * others), [rate])
    assert (far < point.threshold).sum() <= rate * others
    assert point.tar == pytest.approx((near < point.threshold).mean())
    larger = [int(value) for value in np.unique(far) if value > point.threshold]
    assert all((far < value).sum() > rate * others for value in larger)
    low, high = point.interval
    assert 0 <= low <= high <= 1


def test_a_rate_that_allows_too_few_matches_says_so() -> None:
    point = tar_listed(comparisons(range(40), [True] * 20 + [False] * 20), [1e-1])[0]
    assert (point.allowed, point.counted) == (2, False)


def test_over_all_comparisons_the_threshold_is_that_of_the_tail() -> None:
    embeddings, persons = faces(60, 4, 0.5)
    people = [f"p{person:03d}" for person in persons]
    found = tar_over_all(embeddings, people, threshold=0.5, rates=[1e-2, 1e-3, 1e-9])
    mated, non_mated = brute_force(embeddings, persons)
    assert [point.rate for point in found.points] == [1e-2, 1e-3]
    assert found.non_mated == len(non_mated)
    for point in found.points:
        assert point.threshold == pytest.approx(non_mated[point.allowed], abs=1e-5)
        assert point.tar == pytest.approx(np.mean(np.array(mated) < point.threshold), abs=2 / len(mated))
        assert point.mated == len(mated)
        low, high = point.interval
        assert low < point.tar < high
    assert found.fmr_at == pytest.approx(np.mean(np.array(non_mated) < 0.5), abs=2 / len(non_mated))
    assert found.at(1e-3) is found.points[1]
    assert found.at(0.5) is None


def test_a_threshold_that_lets_everybody_in_is_counted_and_not_kept() -> None:
    embeddings, persons = faces(60, 4, 0.5)
    people = [str(person) for person in persons]
    found = tar_over_all(embeddings, people, threshold=5.0, rates=[1e-2])
    assert found.fmr_at == 1
    assert found.points[0].interval == tar_over_all(embeddings, people, rates=[1e-2]).points[0].interval


def test_against_the_same_engine_nothing_changes_but_the_count() -> None:
    embeddings, persons = faces(50, 4, 0.5)
    people = [str(person) for person in persons]
    own = tar_over_all(embeddings, people, rates=[1e-2])
    mixed = tar_over_all(embeddings, people, others_ND=embeddings, rates=[1e-2])
    assert mixed.non_mated == 2 * own.non_mated
    assert mixed.points[0].tar == pytest.approx(own.points[0].tar, abs=1e-3)
    assert mixed.points[0].interval == pytest.approx(own.points[0].interval, abs=2e-3)


def test_against_another_engine_every_comparison_is_made_both_ways_round() -> None:
    embeddings, persons = on_a_grid(3, 30, 6)
    others = np.roll(embeddings, 1, axis=1)
    rows = [
        (float(((a.astype(float) - b.astype(float)) ** 2).sum()), persons[i] == persons[j])
        for i, a in enumerate(embeddings)
        for j, b in enumerate(others)
        if i != j
    ]
    non_mated = sorted(distance for distance, same in rows if not same)
    found = tar_over_all(embeddings, [str(p) for p in persons], others_ND=others, rates=[0.1])
    assert found.non_mated == len(non_mated)
    assert found.points[0].threshold == pytest.approx(non_mated[found.points[0].allowed])
    distances, _ = mated_distances(embeddings, persons, others)
    assert sorted(distances.tolist()) == pytest.approx(sorted(distance for distance, same in rows if same))


def test_a_set_without_mated_or_other_people_has_no_points() -> None:
    embeddings, _ = faces(40, 1, 0.5)
    assert tar_over_all(embeddings, [str(k) for k in range(40)], rates=[0.1]).points == ()
    assert tar_over_all(embeddings, ["one"] * 40, rates=[0.1]).points == ()


def test_draws_are_the_same_for_everybody_and_draw_as_many_as_there_are() -> None:
    first, second = list(draws(30, count=5)), list(draws(30, count=5))
    assert all((a == b).all() and a.sum() == 30 for a, b in zip(first, second, strict=True))


def test_comparisons_of_a_drawn_set() -> None:
    photos, drawn = np.array([2, 3, 1]), np.array([1.0, 2.0, 0.0])
    assert cross_comparisons(photos, np.ones(3)) == 2 * 3 + 2 * 1 + 3 * 1
    assert cross_comparisons(photos, drawn) == 2 * 6


def test_an_interval_of_nothing_is_everything() -> None:
    assert interval(np.zeros(0)) == (0, 1)
    values: NDArray[np.float64] = np.linspace(0, 1, 1001)
    assert interval(values) == pytest.approx((0.025, 0.975))
