"""A set's embeddings, chunk by chunk, so that its crops are never all in memory.

Enters: a ``VerificationSet`` and an ``Embed``. Leaves: float32 (N, D).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from train.errors import DataError
from train.evaluation.progress import Progress
from train.evaluation.sets import VerificationSet
from train.prepared import Embed

# N rows; D embedding; S side of a crop
Float32 = NDArray[np.float32]

CHUNK: Final = 256
"""Crops handed over at once: 17 MB at 150 pixels."""

UNIT: Final = 1e-3
"""How far a length may be from 1 in embeddings that are taken as normalised."""


def embed_rows(
    embed: Embed, wanted: VerificationSet, *, flip: bool = False, progress: Progress | None = None
) -> Float32:
    """Embed every row.

    Args:
        embed: see ``Embed``.
        wanted: whose crops.
        flip: average each face with its mirror image, as papers' flip test; the mean of unit embeddings is made one
            again.
        progress: told of rows done.

    Raises:
        DataError: an embedding that is no number.
    """
    parts = []
    for start in range(0, len(wanted), CHUNK):
        crops_NSS3 = wanted.crops(start, start + CHUNK)
        part_ND = np.asarray(embed(crops_NSS3), dtype=np.float32)
        if flip:
            part_ND = _mean(part_ND, np.asarray(embed(crops_NSS3[:, :, ::-1]), dtype=np.float32))
        if not np.isfinite(part_ND).all():
            row = start + int(np.flatnonzero(~np.isfinite(part_ND).all(axis=1))[0])
            raise DataError(f"{wanted.name}: the model's embedding of {wanted.names[row]} is no number; it is broken")
        parts.append(part_ND)
        if progress is not None:
            progress(min(start + CHUNK, len(wanted)), len(wanted))
    return np.concatenate(parts)


def _mean(first_ND: Float32, second_ND: Float32) -> Float32:
    mean_ND: Float32 = (first_ND + second_ND) / np.float32(2)
    if np.abs(np.linalg.norm(first_ND, axis=1) - 1).max(initial=0) < UNIT:
        mean_ND /= np.maximum(np.linalg.norm(mean_ND, axis=1, keepdims=True), np.float32(1e-12))
    return mean_ND
