"""Our assignment against every possible one, and against scipy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from realtime.faces.assignment import assign


def total(gains_NM: NDArray[np.float64], pairs: list[tuple[int, int]]) -> float:
    return float(sum(gains_NM[row, column] for row, column in pairs))


def tables(largest: int) -> st.SearchStrategy[NDArray[np.float64]]:
    sides = st.tuples(st.integers(0, largest), st.integers(0, largest))
    # few values: ties and rows that want the same column are what goes wrong
    return hnp.arrays(np.float64, sides, elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0]))


@given(tables(5))
def test_no_other_pairing_is_better(gains_NM: NDArray[np.float64]) -> None:
    pairs = assign(gains_NM)
    rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
    assert len(pairs) == min(gains_NM.shape)
    assert rows == sorted(set(rows))
    assert len(set(columns)) == len(columns)
    table = gains_NM if gains_NM.shape[0] <= gains_NM.shape[1] else gains_NM.T
    best = max(
        (total(table, list(enumerate(order))) for order in itertools.permutations(range(table.shape[1]), len(table))),
        default=0.0,
    )
    assert total(gains_NM, pairs) == pytest.approx(best)


@given(tables(12), st.integers(0, 1000))
def test_is_as_good_as_scipys(gains_NM: NDArray[np.float64], seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    gains_NM = gains_NM + np.random.default_rng(seed).uniform(0, 0.2, gains_NM.shape)
    theirs = list(zip(*optimize.linear_sum_assignment(gains_NM, maximize=True), strict=True))
    assert total(gains_NM, assign(gains_NM)) == pytest.approx(total(gains_NM, theirs))


def test_the_greedy_pairing_is_not_taken_where_it_is_worse() -> None:
    assert assign(np.array([[0.9, 0.8], [0.85, 0.1]])) == [(0, 1), (1, 0)]
