"""Intervals that follow people: subjects are drawn again with replacement, and their comparisons with them.

Comparisons share people, so an interval that takes them as independent (Wilson's) is too narrow by an order of
magnitude. The draws are seeded: two engines on one set see the same draws, so their difference has an interval too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# P people
BOOTSTRAPS: Final = 1000
SEED: Final = 1


def draws(people: int, *, count: int = BOOTSTRAPS, seed: int = SEED) -> Iterator[NDArray[np.float64]]:
    """``count`` times how often each of ``people`` people is drawn, (P,)."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield np.bincount(generator.integers(0, people, people), minlength=people).astype(np.float64)


def cross_comparisons(photos_P: NDArray[Any], drawn_P: NDArray[np.float64]) -> float:
    """Unordered comparisons between photos of different people, when each person is there ``drawn_P`` times; a person
    is not compared with a second copy of the same person."""
    photos = photos_P * drawn_P
    return float((photos.sum() ** 2 - (photos**2).sum()) / 2)


def interval(values_B: NDArray[np.float64]) -> tuple[float, float]:
    """95 %, from the draws' values; everything is possible where none could be drawn."""
    if not len(values_B):
        return 0.0, 1.0
    low, high = np.quantile(values_B, [0.025, 0.975])
    return float(low), float(high)
