"""LFW's protocol: accuracy over folds, each at the threshold that is best on the others, and the equal error rate.

Enters: comparisons of a list. Leaves: figures. A comparison with a photo that gave no embedding is a wrong decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.verification.pairs import Comparisons

# T comparisons; N photos; D embedding; B draws
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Share of right decisions, each fold at the threshold that is best on the others."""

    mean: float
    std: float
    """Over the folds."""
    threshold: float
    """Best on all folds: squared L2."""
    eer: float
    """Where FMR and FNMR are equal."""


def accuracy(comparisons: Comparisons) -> Accuracy | None:
    """Over the folds; a comparison without an embedding counts as a wrong decision. None without two folds or without
    a comparison of each kind in each."""
    folds = [np.flatnonzero(comparisons.folds_T == fold) for fold in np.unique(comparisons.folds_T)]
    usable = comparisons.without_failed()
    kinds = [set(usable.mated_T[usable.folds_T == fold].tolist()) for fold in np.unique(comparisons.folds_T)]
    if len(folds) < 2 or any(len(kind) < 2 for kind in kinds):
        return None
    scores = []
    for fold, members_T in zip(np.unique(comparisons.folds_T), folds, strict=True):
        others_T = usable.folds_T != fold
        threshold = best_threshold(usable.distances_T[others_T], usable.mated_T[others_T])
        distances_T = comparisons.distances_T[members_T]
        right_T = (distances_T < threshold) == comparisons.mated_T[members_T]
        scores.append(float((right_T & ~np.isinf(distances_T)).mean()))
    return Accuracy(
        mean=float(np.mean(scores)),
        std=float(np.std(scores)),
        threshold=best_threshold(usable.distances_T, usable.mated_T),
        eer=equal_error_rate(comparisons),
    )


def best_threshold(distances_T: Float32, mated_T: NDArray[np.bool_]) -> float:
    """With most right decisions; the middle one of several equally good ones."""
    cuts_K, thresholds_K = _cuts(distances_T)
    mated_below_K = np.concatenate([[0], np.cumsum(mated_T[np.argsort(distances_T, kind="stable")])])[cuts_K]
    right_K = 2 * mated_below_K - cuts_K  # plus the number of non-mated ones, which no cut changes
    best = np.flatnonzero(right_K == right_K.max())
    return float(thresholds_K[best[len(best) // 2]])


def equal_error_rate(comparisons: Comparisons) -> float:
    """Mean of FMR and FNMR where they are nearest to each other."""
    cuts_K, _ = _cuts(comparisons.distances_T)
    order = np.argsort(comparisons.distances_T, kind="stable")
    mated_below_K = np.concatenate([[0], np.cumsum(comparisons.mated_T[order])])[cuts_K]
    misses_K = 1 - mated_below_K / max(1, comparisons.mated_T.sum())
    matches_K = (cuts_K - mated_below_K) / max(1, (~comparisons.mated_T).sum())
    nearest = np.argmin(np.abs(misses_K - matches_K))
    return float((misses_K[nearest] + matches_K[nearest]) / 2)


def _cuts(distances_T: Float32) -> tuple[Ints, Float32]:
    """How many comparisons can lie below a threshold, and a threshold that parts them so."""
    ordered_T = np.sort(distances_T[np.isfinite(distances_T)])
    if not len(ordered_T):
        return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.float32)
    inner = np.flatnonzero(np.diff(ordered_T) > 0) + 1
    cuts_K = np.concatenate([[0], inner, [len(ordered_T)]])
    below_T = np.nextafter(ordered_T, np.float32(np.inf))  # distances are float32, and so is what parts them
    middles_T = np.maximum((ordered_T[inner - 1] + ordered_T[inner]) / 2, below_T[inner - 1])
    return cuts_K, np.concatenate([ordered_T[:1], middles_T, below_T[-1:]])
