"""One-to-one pairing with the greatest total, exactly.

Enters: a table of gains. Leaves: pairs of a row and a column. scipy has the same in ``linear_sum_assignment``, whose
import takes 0.4 s of the first frame's three seconds and 35 MB of the install; a test holds the two together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def assign(gains_NM: NDArray[Any]) -> list[tuple[int, int]]:
    """Pairs (row, column) with the greatest sum of gains, each row and column at most once, min(N, M) pairs, rows
    ascending. Gains must be finite.

    Where every row has a best column of its own these are the answer; else Kuhn's method with potentials and shortest
    augmenting paths (Jonker and Volgenant 1987), O(N^2 M).
    """
    gains = np.asarray(gains_NM, dtype=np.float64)
    if not gains.size:
        return []
    if gains.shape[0] > gains.shape[1]:
        return sorted((row, column) for column, row in assign(gains.T))
    best_N = gains.argmax(axis=1)
    if len(set(best_N.tolist())) == len(best_N):
        return list(enumerate(best_N.tolist()))
    return _shortest_paths((-gains).tolist())


def _shortest_paths(costs: list[list[float]]) -> list[tuple[int, int]]:
    """Least total cost for N <= M; row and column 0 are a sentinel, so real ones count from 1."""
    rows, columns = len(costs), len(costs[0])
    row_potential, column_potential = [0.0] * (rows + 1), [0.0] * (columns + 1)
    owner = [0] * (columns + 1)
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        least, came_from = [math.inf] * (columns + 1), [0] * (columns + 1)
        visited = [False] * (columns + 1)
        while owner[column]:
            visited[column] = True
            current, step, nearest = owner[column], math.inf, 0
            for candidate in range(1, columns + 1):
                if visited[candidate]:
                    continue
                reduced = costs[current - 1][candidate - 1] - row_potential[current] - column_potential[candidate]
                if reduced < least[candidate]:
                    least[candidate], came_from[candidate] = reduced, column
                if least[candidate] < step:
                    step, nearest = least[candidate], candidate
            for candidate in range(columns + 1):
                if visited[candidate]:
                    row_potential[owner[candidate]] += step
                    column_potential[candidate] -= step
                else:
                    least[candidate] -= step
            column = nearest
        while column:
            owner[column] = owner[came_from[column]]
            column = came_from[column]
    return sorted((owner[column] - 1, column - 1) for column in range(1, columns + 1) if owner[column])
