"""Whom a picture should become to the network: one of its classes, or the owner of an embedding.

Enters: class centres or an embedding. Leaves: a loss on a network's embeddings, and the cosine that was reached.

Source: ArcFace (arXiv 1801.07698v4), section 3.6: closed set, the ArcFace loss against a class centre; open set, the
squared distance to an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from torch import Tensor
from torch.nn import functional

from train.losses.logits import logits_BC, sub_center_cosine, target_cosine
from train.settings import LossSettings

# B images; C classes, K centres of each; D embedding
LOSS: Final = LossSettings(kind="arcface")
"""s = 64, m = .5, whatever the run was trained with."""


class Target(Protocol):
    """What identity means to an inversion."""

    def loss(self, embeddings_BD: Tensor) -> Tensor:
        """Scalar, mean over the images."""

    def cosine(self, embeddings_BD: Tensor) -> Tensor:
        """(B,) to what is aimed at."""


@dataclass(frozen=True, eq=False)
class ClosedSet:
    """A class of the run for each image."""

    centres_CKD: Tensor
    labels_B: Tensor
    """int64."""

    def loss(self, embeddings_BD: Tensor) -> Tensor:
        cosine_BC = sub_center_cosine(embeddings_BD, self.centres_CKD)
        return functional.cross_entropy(logits_BC(cosine_BC, self.labels_B, LOSS), self.labels_B)

    def cosine(self, embeddings_BD: Tensor) -> Tensor:
        """To the nearest centre of the class."""
        return target_cosine(sub_center_cosine(embeddings_BD, self.centres_CKD), self.labels_B)


@dataclass(frozen=True, eq=False)
class OpenSet:
    """An embedding for each image."""

    embeddings_BD: Tensor
    """Of any length."""

    def loss(self, embeddings_BD: Tensor) -> Tensor:
        """Squared distance of the two directions, times D.

        The last norm gives embeddings a length of about sqrt(D): this is their squared distance, for an embedding whose
        length is not known, as one out of a gallery.
        """
        return 2 * embeddings_BD.shape[1] * (1 - self.cosine(embeddings_BD)).mean()

    def cosine(self, embeddings_BD: Tensor) -> Tensor:
        return functional.cosine_similarity(embeddings_BD, self.embeddings_BD, dim=1)
