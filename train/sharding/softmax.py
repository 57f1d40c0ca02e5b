"""Cross-entropy over classes that lie on several ranks, and how often the own class was the nearest.

Enters: each rank's columns of the logits. Leaves: the mean loss of the global batch, the same on every rank. Only three
numbers a row travel: the greatest logit, the sum of exponentials, the target's logit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from train.sharding.ranks import Ranks

# B rows of all ranks; W columns of this rank, possibly none


def sharded_cross_entropy(logits_BW: Tensor, columns_B: Tensor, counted_B: Tensor, ranks: Ranks) -> Tensor:
    """Mean over counted rows of log(sum over all ranks of exp(logit)) - logit of the target.

    Args:
        logits_BW: float32 or float64.
        columns_B: int64, the target's column; -1 where another rank holds it, or none.
        counted_B: bool, rows that have a target on some rank.
        ranks: who shares the classes.

    Returns:
        Scalar; 0 where no row counts.
    """
    return _CrossEntropy.apply(logits_BW, columns_B, counted_B, ranks)  # type: ignore[no-any-return, no-untyped-call]


def share_nearest(scores_BW: Tensor, columns_B: Tensor, counted_B: Tensor, ranks: Ranks) -> Tensor:
    """Share of counted rows whose target has the greatest score of all ranks' columns; float32, no gradient."""
    scores_BW = scores_BW.detach()
    greatest_B = ranks.max_(_greatest(scores_BW))
    hit_B = (_target(scores_BW, columns_B) >= greatest_B) & (columns_B >= 0)
    hits = ranks.sum_((hit_B & counted_B).sum().float())
    return hits / counted_B.sum().clamp(min=1)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BW: Tensor, columns_B: Tensor, counted_B: Tensor, ranks: Ranks) -> Tensor:
        greatest_B = ranks.max_(_greatest(logits_BW))
        shares_BW = (logits_BW - greatest_B[:, None]).exp_()
        own_B = torch.where(columns_B >= 0, _target(logits_BW, columns_B) - greatest_B, 0.0)
        sums_2B = ranks.sum_(torch.stack([shares_BW.sum(dim=1), own_B]))
        rows = counted_B.sum().clamp(min=1)
        shares_BW /= sums_2B[0][:, None]
        ctx.save_for_backward(shares_BW, columns_B, counted_B, rows)
        loss_B = torch.where(counted_B, sums_2B[0].log() - sums_2B[1], 0.0)
        return loss_B.sum() / rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        shares_BW, columns_B, counted_B, rows = ctx.saved_tensors
        weight_B = counted_B.to(shares_BW) * (grad / rows)
        grad_BW = shares_BW * weight_B[:, None]
        if grad_BW.shape[1]:
            target_B = torch.where(columns_B >= 0, -weight_B, 0.0)
            grad_BW.scatter_add_(1, columns_B.clamp(min=0)[:, None], target_B[:, None])
        return grad_BW, None, None, None


def _greatest(values_BW: Tensor) -> Tensor:
    """(B,) of each row; -inf where there are no columns."""
    if not values_BW.shape[1]:
        return values_BW.new_full((len(values_BW),), -torch.inf)
    return values_BW.amax(dim=1)


def _target(values_BW: Tensor, columns_B: Tensor) -> Tensor:
    """(B,) at the target; any number where the column is -1."""
    if not values_BW.shape[1]:
        return values_BW.new_zeros(len(values_BW))
    return values_BW.gather(1, columns_B.clamp(min=0)[:, None]).squeeze(1)
