"""From cosines to the logits of a softmax: the margin at the target column, then the scale.

Enters: cosines of embeddings to class centres (or, for plain softmax, their inner products), labels, the settings of
the loss. Leaves: float32 logits. Nothing here needs all classes: a shard of them does as well, with label -1 for a row
whose centre lies elsewhere. Shapes do not depend on the labels, so a CUDA graph can record it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from train.losses.adaface import first_statistics, quality, row_margins
from train.losses.margins import margin_of, with_margin
from train.settings import LossSettings

# B embeddings of a batch; C classes, K centres of each; D embedding


def sub_center_cosine(embeddings_BD: Tensor, centres_CKD: Tensor) -> Tensor:
    """Cosine to the nearest of each class's K centres (ArcFace, section 3.4); K = 1 is the plain cosine.

    Both are normalised here. Half precision is raised to float32, and autocast is off: a bf16 product is wrong by up to
    2e-3, which the scale makes a logit's .15.

    Args:
        embeddings_BD: of any length.
        centres_CKD: of any length.

    Returns:
        (B, C) float32, or float64 if both came as that.
    """
    classes, centres, dimensions = centres_CKD.shape
    with torch.autocast(embeddings_BD.device.type, enabled=False):
        faces_BD = functional.normalize(_float(embeddings_BD), dim=1)
        flat_MD = functional.normalize(_float(centres_CKD).reshape(-1, dimensions), dim=1)
        cosine_BM = functional.linear(faces_BD, flat_MD)
    if centres == 1:
        return cosine_BM
    return cosine_BM.view(-1, classes, centres).amax(dim=2)


def target_cosine(cosine_BC: Tensor, labels_B: Tensor) -> Tensor:
    """(B,) the label's column of each row; column 0 where the label is -1, for the caller to mask."""
    return cosine_BC.gather(1, labels_B.clamp(min=0)[:, None]).squeeze(1)


def logits_BC(
    cosine_BC: Tensor,
    labels_B: Tensor,
    loss: LossSettings,
    norms_B: Tensor | None = None,
    statistics_2: Tensor | None = None,
) -> Tensor:
    """Logits for a cross-entropy.

    Args:
        cosine_BC: [-1, 1]; for kind ``softmax`` inner products plus bias, which are returned as they came.
        labels_B: int64 columns; -1 leaves a row without a margin, as in the tutorial's listing.
        loss: kind, margin, scale and the margin's gradient.
        norms_B: lengths of the raw embeddings; AdaFace needs them.
        statistics_2: of such lengths (``train.losses.adaface``); those before the first batch if none are given.

    Returns:
        (B, C) float32, or float64 if that came in.

    Raises:
        ValueError: AdaFace without lengths.
    """
    plain_BC = _float(cosine_BC)
    if loss.kind == "softmax":
        return plain_BC
    margin = margin_of(loss)
    m2_B: Tensor | None = None
    m3_B: Tensor | None = None
    if loss.kind == "adaface":
        if norms_B is None:
            raise ValueError("AdaFace reads its margin off the lengths of raw embeddings; pass norms_B")
        known_2 = first_statistics(norms_B.device) if statistics_2 is None else statistics_2
        m2_B, m3_B = row_margins(quality(norms_B, known_2), margin)
    elif margin.is_none:
        return plain_BC * loss.scale
    own_B = target_cosine(plain_BC, labels_B)
    moved_B = with_margin(own_B, margin, loss.margin_grad, m2_B=m2_B, m3_B=m3_B)
    moved_B = torch.where(labels_B >= 0, moved_B, own_B)
    # in place: with a million classes one copy of the matrix is gigabytes, and the product keeps nothing for backward
    return (plain_BC * loss.scale).scatter_(1, labels_B.clamp(min=0)[:, None], (moved_B * loss.scale)[:, None])


def _float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
