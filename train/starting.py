"""Where a run starts from: somebody's weights, and class centres from the means of their embeddings.

Enters: a file of weights or a run, a split, a network. Leaves: a network and centres to train on from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.networks import Network
from engines.networks.matching import match
from engines.networks.weights import Weights, read_weights
from train.errors import ConfigError
from train.prepared import Embed, Split
from train.runs import is_run, load_arrays, open_run
from train.sharding.centres import DEVIATION
from train.sharding.ranks import Ranks
from train.sharding.sampling import derived_seed

# N crops; S side, pixels; C classes, K centres of each; D embedding

BATCH: Final = 256
"""Crops that are embedded at a time."""

SPREAD: Final = 0.1
"""Of the centres of one class around its mean, as a share of their length: equal ones would never part."""

Progress = Callable[[int, int], object]
"""Told (crops done, crops in all)."""


def load_backbone(module: nn.Module, network: Network, path: Path) -> Weights:
    """Put weights of a ``.pth``, a ``.safetensors`` or a run into a network; nothing else of a run is taken over.

    Returns:
        What was read.

    Raises:
        ConfigError: embeddings of another length.
        CheckpointError: the folder of a run that is damaged or holds none.
        ModelFileError: not weights, or those of another network; the message says which.
    """
    weights = open_run(path).weights if path.is_dir() or is_run(path) else read_weights(path)
    fitting = match(weights.arrays, network, str(path))
    if fitting.dimensions != network.dimensions:
        raise ConfigError(
            f"init.backbone {path}: makes embeddings of {fitting.dimensions} numbers, network.dimensions is "
            f"{network.dimensions}; set network.dimensions={fitting.dimensions}"
        )
    load_arrays(module, weights.arrays)
    return weights


def class_means(
    embed: Embed, split: Split, ranks: Ranks | None = None, *, batch: int = BATCH, progress: Progress | None = None
) -> Tensor:
    """(C, D) float32 of unit length: the mean direction of each subject's crops.

    The crops are shared out over the ranks; sums are float64. Collective.

    Args:
        embed: see ``Embed``.
        split: whose crops; a subject without any gets zeros.
        ranks: of the run; this process alone if not given.
        batch: crops at a time.
        progress: see ``Progress``; told of this rank's share.
    """
    among = ranks or Ranks.alone()
    edges = np.linspace(0, len(split), among.size + 1).astype(int)
    start, stop = int(edges[among.rank]), int(edges[among.rank + 1])
    sums_CD: NDArray[np.float64] | None = None
    for first in range(start, stop, batch):
        rows = slice(first, min(first + batch, stop))
        embeddings_ND = embed(split.crops_NSS3[rows]).astype(np.float64)
        if sums_CD is None:
            sums_CD = np.zeros((len(split.subjects), embeddings_ND.shape[1]))
        np.add.at(sums_CD, split.labels_N[rows], embeddings_ND)
        if progress is not None:
            progress(rows.stop - start, stop - start)
    if sums_CD is None:  # fewer crops than ranks: the others know the length
        sums_CD = np.zeros((len(split.subjects), embed(split.crops_NSS3[:1]).shape[1]))
    whole_CD = among.sum_(torch.from_numpy(sums_CD).to(among.device))
    means_CD: Tensor = nn.functional.normalize(whole_CD, dim=1).float().cpu()
    return means_CD


def centres_from_means(means_CD: Tensor, *, sub_centers: int, seed: int) -> Tensor:
    """(C * K, D) float32 to start from, as ``ClassCentres.load_whole`` takes them.

    They are as long as fresh centres are, so that they turn as fast. The first of a class is its mean, the others lie
    around it; a class without a mean gets what a fresh one has.
    """
    classes, dimensions = means_CD.shape
    random = torch.Generator().manual_seed(derived_seed(seed, "class means"))
    noise_CKD = torch.randn(classes, sub_centers, dimensions, generator=random) * DEVIATION
    length = DEVIATION * math.sqrt(dimensions)
    centres_CKD = means_CD[:, None].expand(-1, sub_centers, -1) * length + noise_CKD * SPREAD
    centres_CKD[:, 0] = means_CD * length
    without_C = means_CD.norm(dim=1) == 0
    centres_CKD[without_C] = noise_CKD[without_C]
    return centres_CKD.flatten(0, 1)
