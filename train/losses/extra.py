"""The losses that the ArcFace paper sets beside a softmax, or in its place: intra, inter and triplet.

Enters: cosines or embeddings with labels. Leaves: a scalar, to be weighted and added by the caller. All angles are
divided by pi in intra and inter, and are radians in triplet, as in the paper.

Source: ArcFace (arXiv 1801.07698v4), section 3.2 "Comparison with other losses", equations 5 and 6 and the text on
triplets.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from train.losses.margins import angle

# B embeddings of a batch; C classes (of a shard, or all); D embedding


def intra(target_cosine_B: Tensor, labels_B: Tensor, *, rows: int | Tensor | None = None) -> Tensor:
    """Mean angle between an embedding and its own centre, over pi (equation 5).

    Args:
        target_cosine_B: to the own centre; anything where the label is -1.
        labels_B: -1: the row does not count (or its centre lies in another shard).
        rows: what the sum is divided by, where rows of other shards count too; the labelled rows if not given.

    Returns:
        Scalar in [0, 1]; 0 where no row is labelled.
    """
    labelled_B = labels_B >= 0
    total = torch.where(labelled_B, angle(target_cosine_B) / torch.pi, torch.zeros_like(target_cosine_B)).sum()
    return total / _at_least_one(labelled_B.sum() if rows is None else rows)


def inter(
    centre_cosine_BC: Tensor,
    labels_B: Tensor,
    *,
    classes: int | None = None,
    rows: int | Tensor | None = None,
    counted_B: Tensor | None = None,
) -> Tensor:
    """Less the mean angle between the own centre and all others, over pi (equation 6): it falls as centres part.

    The loss is the same for a sum over shards: pass each shard's columns, and ``classes`` and ``rows`` of all shards.

    Args:
        centre_cosine_BC: of each row's own centre to the centres of the columns.
        labels_B: the own centre's column, which does not count; -1 where it is none of these columns.
        classes: in all shards; the columns if not given.
        rows: what the sum is divided by; the counted rows if not given.
        counted_B: bool, rows that have a centre at all; those with a label from 0 on if not given.

    Returns:
        Scalar in [-1, 0]; 0 where there is one class, or no row.
    """
    counted_rows_B = labels_B >= 0 if counted_B is None else counted_B
    columns_C = torch.arange(centre_cosine_BC.shape[1], device=labels_B.device)
    counts_BC = counted_rows_B[:, None] & (columns_C[None] != labels_B[:, None])
    # where comes first: the own column stands at the pole, with the largest slope
    angles_BC = angle(torch.where(counts_BC, centre_cosine_BC, torch.zeros_like(centre_cosine_BC))) / torch.pi
    total = (angles_BC * counts_BC).sum()
    others = max((centre_cosine_BC.shape[1] if classes is None else classes) - 1, 1)
    return -total / others / _at_least_one(counted_rows_B.sum() if rows is None else rows)


def triplet(embeddings_BD: Tensor, labels_B: Tensor, margin: float) -> Tensor:
    """max(0, angle to the farthest mate + margin - angle to the nearest non-mate), mean over anchors.

    The paper's triplet loss by angles, arccos(x+ x) + m <= arccos(x- x), with the hardest of the batch for each anchor
    (Hermans, Beyer and Leibe, arXiv 1703.07737). Anchors without a mate or a non-mate in the batch do not count.

    Args:
        embeddings_BD: of any length; half precision is raised to float32.
        labels_B: -1: the row takes no part.
        margin: radians.

    Returns:
        Scalar from 0 on; 0, with a gradient of 0, where no anchor counts.
    """
    with torch.autocast(embeddings_BD.device.type, enabled=False):
        raised_BD = embeddings_BD if embeddings_BD.dtype == torch.float64 else embeddings_BD.float()
        unit_BD = functional.normalize(raised_BD, dim=1)
        cosine_BB = unit_BD @ unit_BD.T
    labelled_B = labels_B >= 0
    both_BB = labelled_B[:, None] & labelled_B[None]
    same_BB = (labels_B[:, None] == labels_B[None]) & both_BB
    mate_BB = same_BB & ~torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    other_BB = both_BB & ~same_BB
    # hardest by cosine, so that an angle (and its steep slope near the poles) is taken of two columns only
    farthest_B = cosine_BB.masked_fill(~mate_BB, 2.0).amin(dim=1)
    nearest_B = cosine_BB.masked_fill(~other_BB, -2.0).amax(dim=1)
    counts_B = mate_BB.any(dim=1) & other_BB.any(dim=1)
    harm_B = functional.relu(angle(farthest_B) + margin - angle(nearest_B))
    return torch.where(counts_B, harm_B, torch.zeros_like(harm_B)).sum() / _at_least_one(counts_B.sum())


def _at_least_one(count: int | Tensor) -> int | Tensor:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
