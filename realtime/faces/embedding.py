"""Aligned crops to embeddings, in micro-batches.

Enters: crops of any number of faces. Leaves: one embedding each. On a CPU a batch buys at most a fifth, so batches stay
small for the sake of latency; on a GPU the engine's own buckets do the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine, Faces_NHWC, open_engine
from realtime.records import RGB_HW3
from realtime.settings import EmbedSettings


def open_embedder(settings: EmbedSettings) -> Engine:
    """The engine that the ``embed`` section names; raises EngineError where it cannot be had."""
    file = Path(settings.model) if settings.model else None
    return open_engine(file, runtime=settings.runtime, precision=settings.precision, threads=settings.threads)


def embed_in_batches(engine: Engine, crops: Faces_NHWC | Sequence[RGB_HW3], max_batch: int) -> NDArray[np.float32]:
    """(N, D) float32, in the crops' order; N = 0 gives (0, D)."""
    if not len(crops):
        return np.zeros((0, engine.manifest.dimensions), dtype=np.float32)
    starts = range(0, len(crops), max_batch)
    parts = [engine.run(np.stack([*crops[start : start + max_batch]])) for start in starts]
    return np.concatenate(parts)


def fuse(
    embeddings_ND: NDArray[np.float32], weights_N: NDArray[np.float32], *, unit_length: bool
) -> NDArray[np.float32]:
    """(D,) weighted mean of views of one face, back to length 1 where the model's embeddings have it."""
    total = float(weights_N.sum())
    mean_D = weights_N @ embeddings_ND / np.float32(total if total > 0 else 1.0)
    if unit_length:
        mean_D = mean_D / np.float32(max(float(np.linalg.norm(mean_D)), 1e-12))
    fused: NDArray[np.float32] = mean_D.astype(np.float32)
    return fused
