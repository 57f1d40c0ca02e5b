"""One call from a prepared set and a model to what should be dropped.

Enters: a prepared set, the model's embeddings, and the class centres of a run where it was trained with sub-centres on
this very set. Leaves: a ``Cleaning``. Only training images are looked at; people kept back are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from train.cleaning.angles import centred, measure, unit
from train.cleaning.centres import fit_centres
from train.cleaning.drops import Cleaning, decide
from train.cleaning.limits import PAPER_DEG, PRECISION
from train.errors import DataError
from train.prepared import Embed, PreparedSet, Split
from train.runs import Run

# N images; C classes, K centres of each; D embedding; S side of a crop
Float32 = NDArray[np.float32]
Progress = Callable[[str, int, int], object]
"""Told (what, done, in all)."""

CHUNK: Final = 256
"""Crops embedded at a time."""


def clean(
    prepared: PreparedSet,
    embed: Embed,
    *,
    centres_CKD: Float32 | None = None,
    angle_deg: float | None = PAPER_DEG,
    precision: float = PRECISION,
    seed: int = 1,
    progress: Progress | None = None,
) -> Cleaning:
    """Find images that do not look like most of their subject.

    Args:
        prepared: the set.
        embed: crops (N, S, S, 3) uint8 RGB to (N, D) float32.
        centres_CKD: as ``centres_of`` gives them; None learns three a class on the model's centred embeddings.
        angle_deg: to drop from; None takes the angle that the set itself suggests.
        precision: wanted of the latter.
        seed: of learning and of drawn comparisons.
        progress: see ``Progress``.

    Raises:
        DataError: fewer than two people, or an embedding that is no number.
    """
    told = progress or (lambda what, done, total: None)
    split = prepared.train
    if len(np.unique(split.labels_N)) < 2:
        raise DataError(f"{prepared.folder}: its training images show one person; cleaning compares two or more")
    raw_ND = _embedded(prepared, split, embed, told)
    if centres_CKD is None:
        embeddings_ND = centred(raw_ND)
        centres_CKD = fit_centres(
            embeddings_ND,
            split.labels_N,
            len(split.subjects),
            seed=seed,
            progress=lambda done, total: told("learning centres", done, total),
        )
        words = f"{centres_CKD.shape[1]} a class, learned on the model's embeddings seen from their mean"
    else:
        embeddings_ND = unit(raw_ND)
        words = f"{centres_CKD.shape[1]} a class, those of the run"
    angles = measure(embeddings_ND, split.labels_N, centres_CKD)
    return decide(split, embeddings_ND, angles, angle_deg=angle_deg, precision=precision, centres=words, seed=seed)


def centres_of(run: Run, prepared: PreparedSet) -> Float32 | None:
    """A run's own sub-centres; None where it has one a class, or was trained on another set."""
    if run.centres_CKD is None or run.centres_CKD.shape[1] < 2 or run.data.digest != prepared.manifest.digest:
        return None
    found: Float32 = run.centres_CKD.float().numpy()
    return found


def _embedded(prepared: PreparedSet, split: Split, embed: Embed, told: Progress) -> Float32:
    parts = []
    for start in range(0, len(split), CHUNK):
        part_ND = np.asarray(embed(np.array(split.crops_NSS3[start : start + CHUNK])), dtype=np.float32)
        if not np.isfinite(part_ND).all():
            raise DataError(f"{prepared.folder}: the model gives embeddings that are no numbers; it is broken")
        parts.append(part_ND)
        told("embedding", min(start + CHUNK, len(split)), len(split))
    return np.concatenate(parts)
