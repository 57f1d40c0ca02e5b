"""The papers' accuracies and the intervals over people, against slow ways of counting the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.verification.pairs import Comparisons
from engines.verification.protocol import accuracy, equal_error_rate
from train.evaluation.lists import contiguous_folds, dealt_folds
from train.evaluation.protocols import accuracy_figure, best_accuracy, eer_figure, papers_accuracy

# T comparisons; P people


def comparisons(distances: Any, mated: Any, *, people: int = 0, dealt: bool = True) -> Comparisons:
    """Each mated comparison is of one person, each other of two; ``people`` of them in turn, or all different."""
    mated_T = np.asarray(mated, dtype=bool)
    count = len(mated_T)
    own_T = np.arange(count) % people if people else np.arange(count)
    other_T = (own_T + 1) % people if people else own_T + count
    return Comparisons(
        distances_T=np.asarray(distances, dtype=np.float32),
        mated_T=mated_T,
        folds_T=dealt_folds(mated_T.tolist()) if dealt else contiguous_folds(count),
        pairs_T=np.arange(count),
        people_T2=np.stack([own_T, np.where(mated_T, own_T, other_T)], axis=1),
        people=tuple(map(str, range(people or 2 * count))),
    )


def insightface_accuracy(distances: Any, mated: Any) -> tuple[float, float]:
    """As its ``calculate_roc``: every threshold, every fold, one after the other."""
    distances, mated = np.asarray(distances, dtype=np.float32), np.asarray(mated, dtype=bool)
    thresholds = np.arange(0, 4, 0.01)
    folds = contiguous_folds(len(mated))
    scores = []
    for fold in range(10):
        own, others = folds == fold, folds != fold
        right = [np.mean((distances[others] < threshold) == mated[others]) for threshold in thresholds]
        best = thresholds[int(np.argmax(right))]
        scores.append(np.mean((distances[own] < best) == mated[own]))
    return float(np.mean(scores)), float(np.std(scores))


@given(st.integers(10, 120), st.integers(0, 1 << 30))
@settings(max_examples=60, deadline=None)
def test_the_histogram_gives_what_all_thresholds_give(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    mated = random.random(count) < 0.5
    distances = random.choice([random.normal(1.5, 0.7, count).clip(0, 4), random.integers(0, 401, count) / 100])
    found = papers_accuracy(comparisons(distances, mated))
    assert found is not None
    mean, std = insightface_accuracy(distances, mated)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.std == pytest.approx(std, abs=1e-12)


def test_fewer_than_ten_pairs_have_no_ten_folds() -> None:
    assert papers_accuracy(comparisons([0.1] * 9, [True] * 9)) is None


def test_a_failed_comparison_is_wrong_whatever_it_would_have_been() -> None:
    distances, mated = [0.1] * 10 + [3.0] * 10, [True] * 10 + [False] * 10
    clean = comparisons(distances, mated)
    assert best_accuracy(clean) == 1
    for place in (0, 19):
        worse = [*distances]
        worse[place] = np.inf
        found = comparisons(worse, mated)
        assert best_accuracy(found) == pytest.approx(19 / 20)
        papers = papers_accuracy(found)
        assert papers is not None
        assert papers.mean == pytest.approx(19 / 20)
        assert accuracy_figure(found).value == pytest.approx(19 / 20)


def test_the_figures_are_those_of_the_protocol() -> None:
    random = np.random.default_rng(3)
    mated = random.random(400) < 0.5
    found = comparisons(np.where(mated, random.normal(0.8, 0.4, 400), random.normal(1.6, 0.4, 400)), mated, people=40)
    reference = accuracy(found)
    assert reference is not None
    assert accuracy_figure(found).value == pytest.approx(reference.mean, abs=1e-12)
    assert eer_figure(found).value == equal_error_rate(found) == reference.eer
    for figure in (accuracy_figure(found), eer_figure(found)):
        assert 0 <= figure.low < figure.value < figure.high <= 1


def test_an_interval_covers_what_other_people_would_give() -> None:
    """Half of the people are told apart and half are not: an interval over people is wide, one over pairs is not."""
    people = 20
    owner = np.arange(2000) % people
    mated = np.arange(2000) // people % 2 == 0
    hard = owner < people // 2
    distances = np.where(mated == hard, 2.0, 0.5)  # the hard ones are wrong every time
    found = comparisons(distances, mated, people=people)
    assert best_accuracy(found) == pytest.approx(0.5, abs=0.05)
    figure = accuracy_figure(found)
    assert figure.high - figure.low > 0.2


def test_an_equal_error_rate_that_is_known_better_is_kept() -> None:
    found = comparisons([0.1, 0.2, 1.0, 1.1] * 5, [True, True, False, False] * 5)
    assert eer_figure(found, value=0.123).value == 0.123
