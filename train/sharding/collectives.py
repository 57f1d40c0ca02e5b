"""Sums and rows over all ranks through which gradients flow.

Enters: tensors of one rank. Leaves: what all ranks have together. The convention of the whole run: each rank calls
``backward`` on the same loss, that of the global batch. The gradient of a class centre is then the true one, on the
rank that holds it; the gradient of an embedding is the true one times the number of ranks, so that the mean of the
network's gradients over ranks, which is what data-parallel training takes, is the true one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from train.sharding.ranks import Ranks

# b rows of this rank; B rows of all ranks; D embedding


def gathered_rows(values_bD: Tensor, ranks: Ranks) -> Tensor:
    """(B, D) all ranks' rows, one rank after the other; each brings as many as the others."""
    return values_bD if ranks.size == 1 else _Gather.apply(values_bD, ranks)  # type: ignore[no-untyped-call]


def total(piece: Tensor, ranks: Ranks) -> Tensor:
    """Sum of the ranks' pieces of the loss; each piece gets the gradient of the sum."""
    return piece if ranks.size == 1 else _Total.apply(piece, ranks)  # type: ignore[no-untyped-call]


def shared_sum(values: Tensor, ranks: Ranks) -> Tensor:
    """Sum over ranks of what each goes on to use in a piece of its own; gradients of all pieces come back."""
    return values if ranks.size == 1 else _SharedSum.apply(values, ranks)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_bD: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.rows = ranks, len(values_bD)
        return ranks.gather(values_bD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BD: Tensor) -> tuple[Tensor, None]:
        ranks: Ranks = ctx.ranks
        whole_BD = ranks.sum_(grad_BD.contiguous().clone())
        start = ranks.rank * ctx.rows
        return whole_BD[start : start + ctx.rows] * ranks.size, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, piece: Tensor, ranks: Ranks) -> Tensor:
        return ranks.sum_(piece.detach().clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _SharedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.sum_(values.detach().clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ranks: Ranks = ctx.ranks
        return ranks.sum_(grad.contiguous().clone()), None
