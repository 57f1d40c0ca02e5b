"""The people of the toy: those with the most crops in a prepared set.

Enters: a prepared set. Leaves: their crops, made small, and labels.

The paper takes 8 people with about 1,500 crops each (ArcFace, arXiv 1801.07698v4, figure 3); LFW's eight have 1,348
together, which does as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from train.errors import ConfigError
from train.prepared import PreparedSet

# N crops; S = SIDE; C classes
SIDE: Final = 48
"""Pixels. So small a crop still tells eight people apart, and a network for it trains in seconds."""

MOST: Final = 1500
"""Crops taken of one person, the paper's number."""

FEWEST: Final = 4
"""Crops that a person needs."""


@dataclass(frozen=True, slots=True, eq=False)
class ToyFaces:
    crops_NSS3: NDArray[np.uint8]
    """RGB."""
    labels_N: NDArray[np.int64]
    """Places in ``subjects``."""
    subjects: tuple[str, ...]
    """From the most crops to the fewest."""

    def __len__(self) -> int:
        return len(self.labels_N)


def toy_faces(prepared: PreparedSet, classes: int) -> ToyFaces:
    """Training crops of the ``classes`` people with the most of them.

    Raises:
        ConfigError: the set has not so many people with ``FEWEST`` crops.
    """
    split = prepared.train
    counts = np.bincount(split.labels_N, minlength=len(split.subjects))
    enough = int((counts >= FEWEST).sum())
    if enough < classes:
        raise ConfigError(
            f"{prepared.folder}: {enough} people have {FEWEST} crops or more, {classes} are asked for; give --classes "
            f"{enough} or a larger set"
            if enough >= 2
            else f"{prepared.folder}: {enough} people have {FEWEST} crops or more, the toy needs two; give a larger set"
        )
    chosen = np.argsort(-counts, kind="stable")[:classes]
    rows = [np.flatnonzero(split.labels_N == label)[:MOST] for label in chosen]
    return ToyFaces(
        crops_NSS3=np.stack([_small(split.crops_NSS3[row]) for each in rows for row in each]),
        labels_N=np.repeat(np.arange(classes), [len(each) for each in rows]),
        subjects=tuple(split.subjects[label] for label in chosen),
    )


def _small(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)
