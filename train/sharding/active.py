"""The centres that a step looks at on one rank: all that lie there, or a share of them.

Enters: a rank's weights and the labels of the global batch. Leaves: the centres, and where each row's own one is among
them. Of a share the gradient is sparse: only rows that took part are in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from train.sharding.sampling import Shard

# B rows of the global batch; W classes looked at on this rank, K centres of each; D embedding


@dataclass(frozen=True, slots=True)
class Active:
    """What a step looks at on this rank."""

    centres_WKD: Tensor
    bias_W: Tensor | None
    """Of plain softmax alone."""
    columns_B: Tensor
    """Of each row's own class among the W; -1 where it is not there."""
    classes: int
    """Looked at on all ranks."""


def all_centres(weight_RD: Tensor, bias: Tensor | None, labels_B: Tensor, shard: Shard, centres: int) -> Active:
    """Every class that lies here.

    Args:
        weight_RD: the K centres of each class beside each other.
        bias: (W, 1), or none.
        labels_B: int64; -1 is none.
        shard: the classes that lie here.
        centres: K.
    """
    columns_B = torch.where(_here(labels_B, shard), labels_B - shard.start, -1)
    centres_WKD = weight_RD.view(-1, centres, weight_RD.shape[1])
    return Active(centres_WKD, None if bias is None else bias[:, 0], columns_B, shard.classes)


def some_centres(
    weight_RD: Tensor, bias: Tensor | None, labels_B: Tensor, shard: Shard, centres: int, chosen: Tensor
) -> Active:
    """Those of the ``chosen`` classes (sorted, all labels among them) that lie here; the rest as ``all_centres``."""
    own_W = chosen[(chosen >= shard.start) & (chosen < shard.stop)] - shard.start
    columns_B = torch.where(_here(labels_B, shard), torch.searchsorted(own_W, labels_B - shard.start), -1)
    rows = (own_W[:, None] * centres + torch.arange(centres, device=own_W.device)).flatten()
    centres_WKD = functional.embedding(rows, weight_RD, sparse=True).view(-1, centres, weight_RD.shape[1])
    bias_W = None if bias is None else functional.embedding(own_W, bias, sparse=True)[:, 0]
    return Active(centres_WKD, bias_W, columns_B, len(chosen))


def _here(labels_B: Tensor, shard: Shard) -> Tensor:
    return (labels_B >= shard.start) & (labels_B < shard.stop)
