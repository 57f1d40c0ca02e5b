"""Error rates at every threshold, and how scores are spread: what the plots are drawn from.

Enters: histograms of all comparisons, or the comparisons of a list. Leaves: ``Curves`` of a few hundred points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.pairs import Comparisons
from engines.verification.tails import Pairs

# K thresholds; H bars of a histogram; B bins; T comparisons
Float64 = NDArray[np.float64]

BARS: Final = 100
POINTS: Final = 400
"""Thresholds of a curve: more are not seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Over one set."""

    threshold_K: Float64
    """Squared L2, rising."""
    fmr_K: Float64
    """Share of non-mated comparisons below the threshold."""
    fnmr_K: Float64
    """Share of mated ones that are not."""
    edges_H: Float64
    """Squared L2, one more than bars."""
    mated_H: Float64
    """Share of the mated comparisons in each bar."""
    non_mated_H: Float64
    mated: int
    non_mated: int


def curves_of_pairs(pairs: Pairs) -> Curves:
    """From histograms over everybody."""
    edges_B = np.arange(1, len(pairs.mated_B) + 1, dtype=np.float64) * pairs.width
    return _curves(edges_B, pairs.mated_B, pairs.non_mated_B, pairs.mated, pairs.non_mated)


def curves_of_list(listed: Comparisons) -> Curves:
    """From a list; what failed never matches."""
    usable = listed.without_failed()
    edges_B, place_T = np.unique(usable.distances_T, return_inverse=True)
    mated_B = np.bincount(place_T, weights=usable.mated_T, minlength=len(edges_B))
    non_mated_B = np.bincount(place_T, weights=~usable.mated_T, minlength=len(edges_B))
    above_B = np.nextafter(edges_B, np.float32(np.inf)).astype(np.float64)
    return _curves(above_B, mated_B, non_mated_B, int(listed.mated_T.sum()), int((~listed.mated_T).sum()))


def _curves(edges_B: Float64, mated_B: NDArray[Any], non_mated_B: NDArray[Any], mated: int, non_mated: int) -> Curves:
    """``edges_B``: below which a bin's distances lie."""
    fmr_B = np.cumsum(non_mated_B) / max(1, non_mated)
    fnmr_B = 1 - np.cumsum(mated_B) / max(1, mated)
    kept = _spread(fmr_B, fnmr_B)
    last = float(edges_B[np.flatnonzero(mated_B + non_mated_B)[-1]]) if len(edges_B) else 4.0
    edges_H = np.linspace(0, last, BARS + 1)
    middles_B = edges_B - np.diff(edges_B, prepend=0.0) / 2
    return Curves(
        threshold_K=edges_B[kept],
        fmr_K=fmr_B[kept],
        fnmr_K=np.maximum(fnmr_B[kept], 0.0),
        edges_H=edges_H,
        mated_H=np.histogram(middles_B, edges_H, weights=mated_B)[0] / max(1, mated),
        non_mated_H=np.histogram(middles_B, edges_H, weights=non_mated_B)[0] / max(1, non_mated),
        mated=mated,
        non_mated=non_mated,
    )


def _spread(fmr_B: Float64, fnmr_B: Float64) -> NDArray[np.int64]:
    """Places whose points lie apart on paper: evenly over log FMR, and over FNMR."""
    smallest = fmr_B[fmr_B > 0].min() if (fmr_B > 0).any() else 1.0
    by_fmr = np.searchsorted(fmr_B, np.geomspace(smallest, 1, POINTS // 2))
    by_fnmr = np.searchsorted(-fnmr_B, -np.linspace(1, 0, POINTS // 2))
    places = np.unique(np.concatenate([by_fmr, by_fnmr, np.maximum(by_fmr - 1, 0)]))
    return places[places < len(fmr_B)]
