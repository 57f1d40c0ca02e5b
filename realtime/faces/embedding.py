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
from realtime.errors import RealtimeError
from realtime.faces.alignment import TEMPLATES
from realtime.records import RGB_HW3
from realtime.settings import EmbedSettings


def open_embedder(settings: EmbedSettings) -> Engine:
    """The engine that the ``embed`` section names.

    Raises:
        EngineError: it cannot be had.
        RealtimeError: it was trained on faces that are aligned in a way that this program does not know: its answers
            would look right and be worth little.
    """
    file = Path(settings.model) if settings.model else None
    engine = open_engine(file, runtime=settings.runtime, precision=settings.precision, threads=settings.threads)
    manifest = engine.manifest
    template = TEMPLATES.get(manifest.template)
    if template is None or template.size != manifest.input_size:
        engine.close()
        known = ", ".join(f"{name} ({each.size} pixels)" for name, each in TEMPLATES.items())
        raise RealtimeError(
            f"{settings.model or manifest.name}: made for faces aligned to {manifest.template!r} at "
            f"{manifest.input_size} pixels, and known are {known}; use a model of one of these"
        )
    return engine


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
