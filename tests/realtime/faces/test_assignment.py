"""Our exact assignment against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from realtime.faces.assignment import assign

scipy_optimize = pytest.importorskip("scipy.optimize")

GAINS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    elements=st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0]) | st.floats(0, 1),
)


@given(GAINS)
def test_total_is_the_greatest(gains_NM: np.ndarray) -> None:
    pairs = assign(gains_NM)
    rows, columns = scipy_optimize.linear_sum_assignment(gains_NM, maximize=True)
    assert sum(gains_NM[pair] for pair in pairs) == pytest.approx(gains_NM[rows, columns].sum(), abs=1e-9)


@given(GAINS)
def test_every_row_and_column_at_most_once(gains_NM: np.ndarray) -> None:
    pairs = assign(gains_NM)
    assert len(pairs) == (min(gains_NM.shape) if gains_NM.size else 0)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert pairs == sorted(pairs)
