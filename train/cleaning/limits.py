"""From which angle on an image counts as wrongly labelled, read off the set itself.

Enters: the angles of images to their own classes, and those at which strangers stand. Leaves: how many labels seem
wrong, and the smallest angle at which a wanted share of what is dropped is wrong.

The images are a mixture: a share p has wrong labels and stands as strangers do, whose distribution is known from the
comparisons with other classes; the rest lies nearer. Where hardly anything but strangers is left, the share of images
beyond an angle is p times the share of strangers beyond it: Storey's estimate of a share of nulls (J. R. Stat. Soc. B
64, 2002). Of what is dropped at t, p * strangers(t) * N are wrong. At a small angle p is read off many images, some
right ones among them; at a wide one off few, nearly all wrong. So the smallest angle is taken whose p is no more than
those of wider ones allow, within two standard errors: right images can only make it larger. On real faces p comes out
a tenth too low, as centres bend a little towards the wrong images that they were learned on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# N images; M comparisons of strangers; T angles looked at
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

PAPER_DEG: Final = 75.0
"""ArcFace, table 8: the best of 70, 75, 80 and 85 degrees, with 70."""

PRECISION: Final = 0.9
"""Share of what is dropped that should be wrong."""

AT: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Quantiles of the strangers at which p may be read off."""

ERRORS: Final = 2.0
"""Standard errors."""

STEP_DEG: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """An angle, and what the mixture says of it."""

    angle_deg: float
    """An image is dropped from here on."""
    wrong_share: float
    """p: of the set's labels that seem to be wrong."""
    precision: float | None
    """Share of what is dropped here that seems to be wrong; None where nothing is dropped."""
    recall: float | None
    """Share of what seems to be wrong that is dropped here; None where nothing seems to be."""


def wrong_share(own_N: Float32, strangers_M: Float32) -> float:
    """p in [0, 1].

    Args:
        own_N: angles of images to their own classes, degrees.
        strangers_M: ascending, see ``angles.strangers``.
    """
    if not len(own_N) or not len(strangers_M):
        return 0.0
    at_T = np.quantile(strangers_M.astype(np.float64), AT)
    expected_T = np.maximum(_beyond(strangers_M, at_T), 1 / len(strangers_M)) * len(own_N)
    found_T = _beyond(np.sort(own_N), at_T) * len(own_N)
    shares_T = found_T / expected_T
    allowed = (shares_T + ERRORS * np.sqrt(np.maximum(found_T, 1)) / expected_T).min()
    return float(min(shares_T[np.argmax(shares_T <= allowed)], 1.0))


def limit_at(angle_deg: float, own_N: Float32, strangers_M: Float32) -> Limit:
    """What the mixture says of a given angle."""
    share = wrong_share(own_N, strangers_M)
    dropped = float(np.mean(own_N >= angle_deg)) if len(own_N) else 0.0
    strange = float(np.mean(strangers_M >= angle_deg)) if len(strangers_M) else 0.0
    return Limit(
        angle_deg=angle_deg,
        wrong_share=share,
        precision=min(share * strange / dropped, 1.0) if dropped else None,
        recall=min(strange, 1.0) if share else None,
    )


def own_limit(own_N: Float32, strangers_M: Float32, *, precision: float = PRECISION) -> Limit:
    """The smallest angle at which at least ``precision`` of what is dropped seems to be wrong.

    180 degrees, which drops nothing, where less than one label seems to be wrong.
    """
    share = wrong_share(own_N, strangers_M)
    if share * len(own_N) < 1:
        return limit_at(180.0, own_N, strangers_M)
    angles_T = np.arange(STEP_DEG, 180.0, STEP_DEG)
    dropped_T = _beyond(np.sort(own_N), angles_T)
    precision_T = share * _beyond(strangers_M, angles_T) / np.maximum(dropped_T, 1 / len(own_N))
    good_T = (precision_T >= precision) & (dropped_T > 0)
    angle = float(angles_T[np.argmax(good_T)]) if good_T.any() else 180.0
    return limit_at(angle, own_N, strangers_M)


def _beyond(sorted_X: Float32, angles_T: Float64) -> Float64:
    """Share of sorted angles from each angle on."""
    shares: Float64 = 1 - np.searchsorted(sorted_X, angles_T, side="left") / len(sorted_X)
    return shares
