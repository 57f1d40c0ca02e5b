"""Figures of a list that ``engines.verification.protocol`` does not count: papers' forms, intervals by identity.

Enters: ``Comparisons``. Leaves: insightface's accuracy over 400 fixed thresholds, MixFace's at the best threshold, and
intervals of accuracy and equal error rate when people are drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.bootstrap import BOOTSTRAPS, draws, interval
from engines.verification.pairs import Comparisons
from engines.verification.protocol import best_threshold, equal_error_rate
from train.evaluation.lists import FOLDS, contiguous_folds

# T comparisons; K thresholds; F folds; B draws; P people
Float64 = NDArray[np.float64]

STEPS: Final = 400
"""insightface's thresholds: squared distances 0, 0.01 to 3.99 (``verification.py``, ``np.arange(0, 4, 0.01)``)."""

EER_DRAWS: Final = 200
"""Of the equal error rate, which needs every distance in each draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PapersAccuracy:
    """As insightface's ``evaluate`` gives it; most papers' LFW figure is this one."""

    mean: float
    std: float


def papers_accuracy(comparisons: Comparisons) -> PapersAccuracy | None:
    """Ten contiguous folds, each at the first of 400 thresholds that is best on the others (insightface,
    ``eval/verification.py``). A comparison that failed is wrong. None with fewer than ten comparisons.

    A histogram of 401 bins holds all that the thresholds can tell apart, so this is exact, not an approximation.
    """
    count = len(comparisons.distances_T)
    if count < FOLDS:
        return None
    thresholds_K = np.arange(0, 4, 0.01)
    bin_T = np.searchsorted(thresholds_K, comparisons.distances_T.astype(np.float64), side="right")
    folds_T = contiguous_folds(count)
    sign_T = np.where(comparisons.failed_T, 0, np.where(comparisons.mated_T, 1, -1))
    # right decisions at threshold k: mated in bins 0..k, and non-mated above
    gain_FB = np.zeros((FOLDS, STEPS + 1), dtype=np.int64)
    np.add.at(gain_FB, (folds_T, bin_T), sign_T)
    non_mated_F = np.bincount(folds_T, weights=sign_T < 0, minlength=FOLDS).astype(np.int64)
    right_FK = np.cumsum(gain_FB, axis=1)[:, :STEPS] + non_mated_F[:, None]
    best_F = np.argmax(right_FK.sum(axis=0) - right_FK, axis=1)
    scores_F = right_FK[np.arange(FOLDS), best_F] / np.bincount(folds_T, minlength=FOLDS)
    return PapersAccuracy(mean=float(scores_F.mean()), std=float(scores_F.std()))


def best_accuracy(comparisons: Comparisons) -> float:
    """At the threshold that is best on these very comparisons, as MixFace counts; a failed one is wrong."""
    usable = comparisons.without_failed()
    right_T = (usable.distances_T < best_threshold(usable.distances_T, usable.mated_T)) == usable.mated_T
    return float(right_T.sum() / max(1, len(comparisons.distances_T)))


def accuracy_figure(comparisons: Comparisons) -> Figure:
    """Accuracy of ``protocol.accuracy`` with its interval: each fold's decisions stay, the people change."""
    right_T = np.zeros(len(comparisons.distances_T), dtype=bool)
    share_T = np.zeros(len(comparisons.distances_T))
    usable = comparisons.without_failed()
    folds = np.unique(comparisons.folds_T)
    for fold in folds:
        others_T = usable.folds_T != fold
        threshold = best_threshold(usable.distances_T[others_T], usable.mated_T[others_T])
        own_T = comparisons.folds_T == fold
        below_T = comparisons.distances_T[own_T] < threshold
        right_T[own_T] = (below_T == comparisons.mated_T[own_T]) & ~comparisons.failed_T[own_T]
        share_T[own_T] = 1 / own_T.sum() / len(folds)  # folds count alike, however many pairs they have
    values = [
        float((weights_T * share_T)[right_T].sum() / total)
        for weights_T in _weights(comparisons, BOOTSTRAPS)
        if (total := float((weights_T * share_T).sum()))
    ]
    low, high = interval(np.array(values))
    return Figure(value=float(share_T[right_T].sum()), low=low, high=high)


def eer_figure(comparisons: Comparisons, *, value: float | None = None) -> Figure:
    """Equal error rate with its interval; ``value`` where it is known more exactly than from these comparisons."""
    order = np.argsort(comparisons.distances_T, kind="stable")
    mated_T = comparisons.mated_T[order]
    rates = []
    for weights_T in _weights(comparisons, EER_DRAWS):
        drawn_T = weights_T[order]
        mated, non_mated = np.cumsum(drawn_T * mated_T), np.cumsum(drawn_T * ~mated_T)
        if not (mated[-1] and non_mated[-1]):
            continue
        misses, matches = 1 - mated / mated[-1], non_mated / non_mated[-1]
        nearest = np.argmin(np.abs(misses - matches))
        rates.append(float(misses[nearest] + matches[nearest]) / 2)
    low, high = interval(np.array(rates))
    return Figure(value=equal_error_rate(comparisons) if value is None else value, low=low, high=high)


def _weights(comparisons: Comparisons, count: int) -> Iterator[Float64]:
    """How often each comparison is there when people are drawn again: a mated one hangs on one person, a non-mated one
    on two."""
    first_T, second_T = comparisons.people_T2.T
    for drawn_P in draws(len(comparisons.people), count=count):
        yield drawn_P[first_T] * np.where(comparisons.mated_T, 1.0, drawn_P[second_T])
