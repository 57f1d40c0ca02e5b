"""Which rank holds which class, and which classes a step looks at.

Enters: the number of classes, a seed, a step, the labels of the global batch. Leaves: class numbers. All of it is a
function of these alone, so every rank finds the same without asking, on any number of ranks, and a resumed run goes on
as if it had never stopped.

Source: An et al., Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial
FC (CVPR 2022, arXiv 2203.15565): the classes of the batch always take part, of the others a random share.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

# B rows of the global batch


@dataclass(frozen=True, slots=True)
class Shard:
    """The classes ``start`` to ``stop`` (exclusive) of ``classes``."""

    start: int
    stop: int
    classes: int

    def __len__(self) -> int:
        return self.stop - self.start


def shard_of(classes: int, rank: int, size: int) -> Shard:
    """A rank's part: contiguous, the first ranks hold one more where it does not come out even, the last maybe none."""
    share, more = divmod(classes, size)
    start = share * rank + min(rank, more)
    return Shard(start, start + share + (rank < more), classes)


def derived_seed(*parts: int | str) -> int:
    """A seed of 63 bits for one use of a run's seed: ``derived_seed(7, "sample", step)``."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def sampled_classes(labels_B: Tensor, classes: int, rate: float, *, seed: int, step: int) -> Tensor:
    """Sorted numbers of the classes that take part: all of the batch, and of the others as many as the share leaves.

    Args:
        labels_B: int64 of all ranks; -1 is none.
        classes: C.
        rate: share of C in (0, 1]. Where the batch alone has more classes, all of them take part and no other.
        seed: of the run.
        step: its number; another step draws others.
    """
    device = labels_B.device
    random = torch.Generator(device).manual_seed(derived_seed(seed, "sample", step))
    rank_C = torch.rand(classes, generator=random, device=device)
    present = torch.unique(labels_B[labels_B >= 0])
    rank_C[present] = 2.0
    count = max(int(rate * classes), len(present), 1)
    return rank_C.topk(count).indices.sort().values
