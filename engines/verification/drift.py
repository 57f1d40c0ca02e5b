"""How far two engines' embeddings of the same faces lie apart.

Enters: two sets of embeddings, row by row of the same faces. Leaves: cosine and L2, mean and worst.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.parity import cosines

# N faces; D embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Over all faces of a set."""

    faces: int
    cosine_mean: float
    cosine_worst: float
    """Not a number where an embedding has none: no gate lets it pass."""
    worst: int
    """Row of the face with the worst cosine."""
    l2_mean: float
    l2_worst: float
    """In the model's own units: of embeddings of length 1, unless it gives raw ones."""


def drift(embeddings_ND: NDArray[np.float32], reference_ND: NDArray[np.float32]) -> Drift:
    """Compare row by row.

    Raises:
        ValueError: shapes that differ, or no faces.
    """
    if embeddings_ND.shape != reference_ND.shape or not len(embeddings_ND):
        raise ValueError(f"embeddings of shapes {embeddings_ND.shape} and {reference_ND.shape} cannot be compared")
    cosine_N = cosines(embeddings_ND, reference_ND)
    with np.errstate(invalid="ignore", over="ignore"):
        l2_N = np.linalg.norm(embeddings_ND.astype(np.float64) - reference_ND.astype(np.float64), axis=1)
    return Drift(
        faces=len(cosine_N),
        cosine_mean=float(cosine_N.mean()),
        cosine_worst=float(cosine_N.min()),
        worst=int(np.argmin(cosine_N)),  # the first that is not a number, where there is one
        l2_mean=float(l2_N.mean()),
        l2_worst=float(l2_N.max()),
    )
