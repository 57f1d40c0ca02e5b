"""The head of a run: a centre (or K of them) for each class, and the loss of embeddings against them.

Enters: raw embeddings of this rank's crops and their labels. Leaves: the loss of the global batch, its terms, and how
often the own class was the nearest. The classes are shared out over the ranks; one rank holds them all. With a
``sample_rate`` below 1 a step looks at a share of them, and their gradient is sparse: train them with
``train.sharding.rows.RowSgd``. Everything here is float32, whatever the network computes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.errors import ConfigError
from train.losses.adaface import first_statistics, updated_statistics
from train.losses.extra import inter, intra, triplet
from train.losses.logits import logits_BC, sub_center_cosine, target_cosine
from train.settings import LossSettings
from train.sharding.active import Active, all_centres, some_centres
from train.sharding.collectives import gathered_rows, shared_sum, total
from train.sharding.ranks import Ranks
from train.sharding.sampling import derived_seed, sampled_classes, shard_of
from train.sharding.softmax import sharded_cross_entropy, share_nearest

# b rows of this rank, B of all; C classes, W of them looked at on this rank, K centres of each; D embedding

DEVIATION: Final = 0.01
"""Of fresh centres, as arcface_torch and the tutorial have it. Only their direction counts; short ones turn faster."""

BLOCK: Final = 4096
"""Classes whose fresh centres come from one generator, so that they do not depend on the number of ranks."""


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """Of the global batch, the same on every rank."""

    loss: Tensor
    """Scalar: mean over the rows with a label, all terms with their weights."""
    accuracy: Tensor
    """Scalar float32: share of these rows whose own class was the nearest of those looked at, without a margin; of a
    triplet loss, of those whose nearest row in the batch is of the same class."""
    parts: dict[str, Tensor]
    """Terms of the loss by name, without their weights and without a gradient."""


class ClassCentres(nn.Module):
    """Centres and loss; see the module's first lines."""

    statistics: Tensor
    """(2,) of AdaFace alone: mean and standard deviation of lengths."""

    def __init__(self, classes: int, dimensions: int, loss: LossSettings, ranks: Ranks, *, seed: int) -> None:
        """
        Args:
            classes: C, over all ranks.
            dimensions: D.
            loss: what is minimised; kind ``triplet`` has no centres, and a weight of no rows.
            ranks: who shares the classes; the weights lie on its device.
            seed: of fresh centres and of the sampling.

        Raises:
            ConfigError: options of the loss that do not go together.
        """
        super().__init__()
        _check(loss)
        self.classes, self.dimensions, self.loss, self.ranks = classes, dimensions, loss, ranks
        self.shard = shard_of(0 if loss.kind == "triplet" else classes, ranks.rank, ranks.size)
        """The classes whose centres lie here."""
        self._seed = seed
        fresh = [self._fresh(block) for block in range(self.shard.start // BLOCK, -(-self.shard.stop // BLOCK))]
        rows = torch.cat([*fresh, torch.empty(0, dimensions)]).to(ranks.device)
        self.weight = nn.Parameter(rows)
        """(own classes * K, D) float32: the K centres of a class beside each other."""
        if loss.kind == "softmax":
            self.bias = nn.Parameter(torch.zeros(len(self.shard), 1, device=ranks.device))
        if loss.kind == "adaface":
            self.register_buffer("statistics", first_statistics(ranks.device))

    @property
    def sampled(self) -> bool:
        """Whether a step looks at a share of the classes; gradients are sparse then, and shapes change by step."""
        return self.loss.sample_rate < 1

    def forward(self, embeddings_bD: Tensor, labels_b: Tensor, *, step: int) -> HeadOutput:
        """
        Args:
            embeddings_bD: of any length and precision; every rank brings as many rows as the others.
            labels_b: int64; -1: the row takes no part.
            step: which the sampled classes are a function of.

        Returns:
            The same on every rank; for gradients see ``train.sharding.collectives``.

        Raises:
            ValueError: a label beyond the classes (looked at on the processor only).
            RankLost: another rank is gone.
        """
        if labels_b.device.type == "cpu" and labels_b.numel() and int(labels_b.max()) >= self.classes:
            raise ValueError(f"label {int(labels_b.max())} is beyond the {self.classes} classes")
        with torch.autocast(embeddings_bD.device.type, enabled=False):
            faces_bD = embeddings_bD if embeddings_bD.dtype == torch.float64 else embeddings_bD.float()
            faces_BD = gathered_rows(faces_bD, self.ranks)
            labels_B = self.ranks.gather(labels_b)
            if self.loss.kind == "triplet":
                return self._triplet_alone(faces_BD, labels_B)
            return self._against_centres(faces_BD, labels_B, step)

    def whole(self, values: Tensor) -> Tensor:
        """Rows of all ranks (C * K, ...) on the processor, from this rank's ``weight``, its momentum or the bias.

        Collective; one rank's rows at a time are on the device besides.
        """
        if self.ranks.size == 1:
            return values.detach().cpu().clone()
        pieces = []
        for rank in range(self.ranks.size):
            rows = len(shard_of(self.shard.classes, rank, self.ranks.size)) * self.loss.sub_centers
            own = values.detach().contiguous() if rank == self.ranks.rank else values.new_empty(rows, *values.shape[1:])
            pieces.append(self.ranks.broadcast_(own, rank).cpu())
        return torch.cat(pieces)

    def own(self, whole: Tensor, like: Tensor) -> Tensor:
        """This rank's rows of what ``whole`` gave."""
        centres = self.loss.sub_centers
        return whole[self.shard.start * centres : self.shard.stop * centres].to(like)

    def whole_weight(self) -> Tensor:
        """(C * K, D) on the processor, float32. Collective."""
        return self.whole(self.weight)

    def load_whole(self, weight: Tensor) -> None:
        """Take this rank's rows of all centres (C * K, D).

        Raises:
            ValueError: another shape.
        """
        wanted = (self.shard.classes * self.loss.sub_centers, self.dimensions)
        if tuple(weight.shape) != wanted:
            raise ValueError(f"centres of shape {tuple(weight.shape)} do not fit {wanted}")
        with torch.no_grad():
            self.weight.copy_(self.own(weight, self.weight))

    def whole_state(self, momentum: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All that a checkpoint keeps of the centres, on the processor, the same on any number of ranks. Collective.

        Args:
            momentum: the optimiser's buffers by the names of the parameters.
        """
        state = {name: self.whole(value) for name, value in self.named_parameters()}
        state |= {name: value.detach().cpu().clone() for name, value in self.named_buffers()}
        return state | {f"momentum.{name}": self.whole(value) for name, value in sorted(momentum.items())}

    def load_whole_state(self, state: Mapping[str, Tensor], momentum: Mapping[str, Tensor]) -> None:
        """What ``whole_state`` gave, into the parameters, the buffers and ``momentum`` in place.

        Raises:
            ValueError: a name is missing, or another shape.
        """
        places = dict(self.named_parameters()) | dict(self.named_buffers())
        places |= {f"momentum.{name}": value for name, value in momentum.items()}
        shared = dict(self.named_buffers())
        if set(places) != set(state):
            raise ValueError(f"centres have {', '.join(sorted(places))}, the state {', '.join(sorted(state))}")
        with torch.no_grad():
            for name, place in places.items():
                rows = state[name] if name in shared else self.own(state[name], place)
                if rows.shape != place.shape:
                    raise ValueError(f"{name} of shape {tuple(state[name].shape)} does not fit")
                place.copy_(rows)

    def _fresh(self, block: int) -> Tensor:
        """The part of a block's fresh centres that lies here."""
        start = block * BLOCK
        random = torch.Generator().manual_seed(derived_seed(self._seed, "centres", block))
        rows = min(BLOCK, self.shard.classes - start)
        drawn = torch.randn(rows, self.loss.sub_centers, self.dimensions, generator=random) * DEVIATION
        here = drawn[max(self.shard.start - start, 0) : self.shard.stop - start]
        return here.reshape(-1, self.dimensions)

    def _triplet_alone(self, faces_BD: Tensor, labels_B: Tensor) -> HeadOutput:
        loss = self._triplet(faces_BD, labels_B)
        return HeadOutput(loss, _share_beside_mates(faces_BD, labels_B), {"triplet": loss.detach()})

    def _triplet(self, faces_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Every rank computes all of it, and owns its share of the sum."""
        whole = triplet(faces_BD, labels_B, self.loss.triplet_margin)
        return total(whole / self.ranks.size, self.ranks)

    def _against_centres(self, faces_BD: Tensor, labels_B: Tensor, step: int) -> HeadOutput:
        loss, counted_B = self.loss, labels_B >= 0
        active = self._looked_at(labels_B, step)
        scores_BW = self._scores(faces_BD, active)
        logits = self._logits(scores_BW, active.columns_B, faces_BD)
        terms = {"softmax": (1.0, sharded_cross_entropy(logits, active.columns_B, counted_B, self.ranks))}
        if loss.intra:
            terms["intra"] = (loss.intra, self._intra(scores_BW, faces_BD, active, counted_B.sum()))
        if loss.inter:
            terms["inter"] = (loss.inter, self._inter(active, counted_B))
        if loss.triplet:
            terms["triplet"] = (loss.triplet, self._triplet(faces_BD, labels_B))
        accuracy = share_nearest(scores_BW, active.columns_B, counted_B, self.ranks)
        whole = torch.stack([weight * term for weight, term in terms.values()]).sum()
        return HeadOutput(whole, accuracy, {name: term.detach() for name, (_, term) in terms.items()})

    def _looked_at(self, labels_B: Tensor, step: int) -> Active:
        bias = self.bias if self.loss.kind == "softmax" else None
        if not self.sampled:
            return all_centres(self.weight, bias, labels_B, self.shard, self.loss.sub_centers)
        chosen = sampled_classes(labels_B, self.classes, self.loss.sample_rate, seed=self._seed, step=step)
        return some_centres(self.weight, bias, labels_B, self.shard, self.loss.sub_centers, chosen)

    def _scores(self, faces_BD: Tensor, active: Active) -> Tensor:
        """(B, W) cosines to the nearest of K centres; of plain softmax inner products and bias."""
        if active.bias_W is not None:
            return functional.linear(faces_BD, active.centres_WKD[:, 0], active.bias_W)
        return _cosines(faces_BD, active.centres_WKD)

    def _logits(self, scores_BW: Tensor, columns_B: Tensor, faces_BD: Tensor) -> Tensor:
        norms_B = statistics_2 = None
        if self.loss.kind == "adaface":
            norms_B, statistics_2 = faces_BD.detach().norm(dim=1), self.statistics
            if self.training:
                self.statistics.copy_(updated_statistics(statistics_2, norms_B))
        if not scores_BW.shape[1]:
            return scores_BW
        return logits_BC(scores_BW, columns_B, self.loss, norms_B, statistics_2)

    def _intra(self, scores_BW: Tensor, faces_BD: Tensor, active: Active, rows: Tensor) -> Tensor:
        cosine_BW = _cosines(faces_BD, active.centres_WKD) if active.bias_W is not None else scores_BW
        if not cosine_BW.shape[1]:
            return total(cosine_BW.sum(), self.ranks)
        return total(intra(target_cosine(cosine_BW, active.columns_B), active.columns_B, rows=rows), self.ranks)

    def _inter(self, active: Active, counted_B: Tensor) -> Tensor:
        """Each rank compares the batch's centres, which it may not hold, with its own."""
        unit_WD = functional.normalize(active.centres_WKD[:, 0], dim=1)
        here_B = active.columns_B >= 0
        if len(unit_WD):
            own_BD = unit_WD[active.columns_B.clamp(min=0)] * here_B[:, None]
        else:
            own_BD = unit_WD.new_zeros(len(here_B), self.dimensions) + unit_WD.sum()  # 0, with a gradient
        cosine_BW = shared_sum(own_BD, self.ranks) @ unit_WD.T
        piece = inter(cosine_BW, active.columns_B, classes=active.classes, rows=counted_B.sum(), counted_B=counted_B)
        return total(piece, self.ranks)


def _check(loss: LossSettings) -> None:
    if loss.kind in ("softmax", "triplet"):
        for name in ("m1", "m2", "m3"):
            if (got := getattr(loss, name)) is not None:
                raise ConfigError(
                    f"loss.{name} is {got}, but loss.kind {loss.kind} has no margin on angles; leave it empty"
                )
    if loss.sub_centers > 1 and loss.kind == "softmax":
        raise ConfigError(
            "loss.sub_centers is for losses of angles, loss.kind is softmax; take norm_softmax or arcface"
        )
    if loss.sub_centers > 1 and loss.inter:
        raise ConfigError(
            "loss.inter parts the centres of classes, which sub-centres have several of; set one to 0 or 1"
        )
    if loss.kind == "triplet":
        for name, nothing in (("intra", 0), ("inter", 0), ("sub_centers", 1), ("sample_rate", 1)):
            if (got := getattr(loss, name)) != nothing:
                raise ConfigError(
                    f"loss.{name} is {got}, but loss.kind triplet has no class centres; set it to {nothing}"
                )


def _cosines(faces_BD: Tensor, centres_WKD: Tensor) -> Tensor:
    """(B, W); a rank without classes has no columns, and still a gradient that the others wait for."""
    if not len(centres_WKD):
        return faces_BD @ centres_WKD[:, 0].T
    return sub_center_cosine(faces_BD, centres_WKD)


def _share_beside_mates(faces_BD: Tensor, labels_B: Tensor) -> Tensor:
    """Share of the rows with a mate in the batch whose nearest other row is one."""
    unit_BD = functional.normalize(faces_BD.detach(), dim=1)
    cosine_BB = (unit_BD @ unit_BD.T).fill_diagonal_(-2).masked_fill_(labels_B[None] < 0, -2)
    mate_BB = (labels_B[:, None] == labels_B[None]) & (labels_B >= 0)[:, None]
    has_B = mate_BB.sum(dim=1) > 1
    hit_B = mate_BB.gather(1, cosine_BB.argmax(dim=1)[:, None]).squeeze(1)
    return (hit_B & has_B).sum().float() / has_B.sum().clamp(min=1)
