"""Sub-centres for a model that was not trained with any: learned on its embeddings, which stay as they are.

Enters: embeddings of a labelled set. Leaves: K centres of each class. It is the training of the paper (K = 3, s = 64,
m = .5, cross-entropy over all classes) with a body that stands still, and takes seconds on a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from train.settings import LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks
from train.sharding.sampling import derived_seed

# N images; C classes, K centres of each; D embedding
Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Progress = Callable[[int, int], object]
"""Told (steps done, steps in all)."""

SUB_CENTERS: Final = 3
"""ArcFace, table 8: 3 serve noisy data best, 10 fall apart."""

LOSS: Final = LossSettings(kind="arcface", sub_centers=SUB_CENTERS)
EPOCHS: Final = 30
BATCH: Final = 512
LR: Final = 0.05
"""Of Adam. Only directions count, and unit vectors have turned as far as they will after some 200 steps."""


def fit_centres(
    embeddings_ND: Float32,
    labels_N: Ints,
    classes: int,
    *,
    seed: int = 1,
    epochs: int = EPOCHS,
    progress: Progress | None = None,
) -> Float32:
    """Learn them.

    Args:
        embeddings_ND: of unit length; see ``angles.centred``.
        labels_N: places in the classes.
        classes: C.
        seed: of fresh centres and of the order.
        epochs: times that each image is seen.
        progress: see ``Progress``.

    Returns:
        (C, 3, D) float32, of any length.
    """
    dimensions = embeddings_ND.shape[1]
    centres = ClassCentres(classes, dimensions, LOSS, Ranks.alone(), seed=seed)
    optimiser = torch.optim.Adam(centres.parameters(), lr=LR)
    faces_ND, targets_N = torch.from_numpy(embeddings_ND), torch.from_numpy(labels_N)
    random = torch.Generator().manual_seed(derived_seed(seed, "cleaning", 0))
    step, steps = 0, epochs * -(-len(labels_N) // BATCH)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(labels_N), generator=random), BATCH):
            optimiser.zero_grad()
            centres(faces_ND[rows], targets_N[rows], step=step).loss.backward()
            optimiser.step()
            step += 1
            if progress is not None:
                progress(step, steps)
    found: Float32 = centres.whole_weight().view(classes, SUB_CENTERS, dimensions).numpy()
    return found
