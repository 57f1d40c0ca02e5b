"""Which crops a step sees, in which order, and which of them are mirrored.

Enters: labels, a batch size, a seed. Leaves: row numbers and flips of any step. All of it is a function of (seed,
epoch), with no generator that runs along: a resumed run, a run on another number of ranks and a look back at the batch
that broke a run find the same crops. The numbers come from raw 64-bit draws, whose stream numpy promises to keep;
what ``Generator.permutation`` makes of them may change between its versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from train.errors import ConfigError, DataError

# N rows of the set; P positions of an epoch; B rows of a step; M rows of a part of it on one rank
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ORDER: Final = 0
FLIPS: Final = 1
"""Streams of one epoch."""

SMALLEST_PART: Final = 2
"""BatchNorm has no variance of a single crop."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which piece of each step this process works on."""

    rank: int = 0
    ranks: int = 1
    parts: int = 1
    """In which a step's batch is worked on, one after the other."""


class Order:
    """The epochs of a run.

    Each epoch goes through all crops in a new order, in steps of ``batch``; the crops of an incomplete last step are
    left out of that epoch (every epoch leaves out others), so that every step is of one size.
    """

    def __init__(
        self,
        labels_N: Ints,
        *,
        batch: int,
        seed: int,
        flip: bool = True,
        per_subject: int = 0,
        share: Share | None = None,
    ) -> None:
        """
        Args:
            labels_N: (N,) int64, the subject of each row.
            batch: crops a step, over all ranks and parts.
            seed: of the run.
            flip: mirror each crop with probability 1/2.
            per_subject: crops of one subject beside each other, for triplets; 0: as they come.
            share: this process's piece of a step.

        Raises:
            ConfigError: the batch cannot be shared out so, or is larger than an epoch.
            DataError: no subject has two crops where ``per_subject`` wants several.
        """
        self.share = share or Share()
        self.batch = batch
        self.seed = seed
        self.flip = flip
        self._check(batch, per_subject)
        self._groups = _Groups(labels_N, per_subject) if per_subject else None
        self.positions = len(labels_N) if self._groups is None else self._groups.positions
        """P: crops an epoch, before the incomplete last step is left out."""
        if batch > self.positions:
            raise ConfigError(
                f"run.batch is {batch}, an epoch has only {self.positions} crops; set it to {self.positions} or less"
            )
        self._epoch = lru_cache(maxsize=2)(self._drawn)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.positions // self.batch

    def rows_B(self, step: int) -> Ints:
        """(B,) rows of a whole step, over all ranks; steps count through all epochs."""
        return self._epoch(step // self.steps)[0][self._place(step)]

    def flips_B(self, step: int) -> Bools:
        """(B,) which of them are mirrored."""
        return self._epoch(step // self.steps)[1][self._place(step)]

    def parts(self, step: int) -> list[tuple[Ints, Bools]]:
        """Rows and flips of this rank's piece of each part of a step, (M,) each.

        A part is contiguous in the step, and a rank's piece in the part: what a part holds does not depend on the
        number of ranks.
        """
        whole = self.rows_B(step), self.flips_B(step)
        size = self.batch // (self.share.parts * self.share.ranks)
        starts = [(part * self.share.ranks + self.share.rank) * size for part in range(self.share.parts)]
        return [(whole[0][start : start + size], whole[1][start : start + size]) for start in starts]

    def _place(self, step: int) -> slice:
        start = step % self.steps * self.batch
        return slice(start, start + self.batch)

    def _drawn(self, epoch: int) -> tuple[Ints, Bools]:
        words_P = raw_words(self.seed, epoch, ORDER, self.positions)
        order_P = np.argsort(words_P, kind="stable") if self._groups is None else self._groups.order(words_P)
        flips_P = raw_words(self.seed, epoch, FLIPS, self.positions) >> np.uint64(63) == 1
        return order_P, flips_P & self.flip

    def _check(self, batch: int, per_subject: int) -> None:
        pieces = self.share.parts * self.share.ranks
        of = f"{self.share.parts} parts (run.accumulate) on {self.share.ranks} ranks"
        if batch % pieces:
            raise ConfigError(f"run.batch is {batch}, which {of} cannot share evenly; take a multiple of {pieces}")
        if batch // pieces < SMALLEST_PART:
            raise ConfigError(
                f"run.batch is {batch}: {of} leave one crop each, of which BatchNorm has no variance; raise run.batch "
                "or lower run.accumulate"
            )
        if per_subject == 1:
            raise ConfigError("data.per_subject is 1, which makes no pair; set 2 or more, or 0 for crops as they come")
        if per_subject and (batch // pieces) % per_subject:
            raise ConfigError(
                f"run.batch is {batch}, of which {of} leave {batch // pieces} crops each, no multiple of "
                f"data.per_subject {per_subject}; change one of them"
            )


class _Groups:
    """Crops of one subject, ``per_subject`` at a time: every crop of a subject with two or more at least once an epoch.

    A subject's last group is filled up with the first of its crops in that epoch's order.
    """

    def __init__(self, labels_N: Ints, per_subject: int) -> None:
        self._size = per_subject
        self._labels_N = labels_N
        counts = np.bincount(labels_N)
        self._kept = np.flatnonzero(counts >= 2)
        if not len(self._kept):
            raise DataError("nobody in the set has two crops, so there are no pairs; set data.per_subject=0")
        self._counts = counts[self._kept]
        self._groups = int((-(-self._counts // per_subject)).sum())
        self.positions = self._groups * per_subject

    def order(self, words_P: NDArray[np.uint64]) -> Ints:
        """(P,) rows. Row r is placed by word r, group g by word g, counted from the end."""
        rows_N = np.lexsort((words_P[np.arange(len(self._labels_N)) % len(words_P)], self._labels_N))
        starts = np.searchsorted(self._labels_N[rows_N], self._kept)
        groups = []
        for start, count in zip(starts, self._counts, strict=True):
            whole = -(-int(count) // self._size) * self._size
            groups.append(np.resize(rows_N[start : start + count], whole).reshape(-1, self._size))
        ranked = np.argsort(words_P[::-1][: self._groups], kind="stable")
        return np.concatenate(groups)[ranked].ravel()


def raw_words(seed: int, epoch: int, stream: int, count: int) -> NDArray[np.uint64]:
    """(count,) independent 64-bit draws of one stream of one epoch."""
    bits = np.random.PCG64(np.random.SeedSequence((seed, epoch, stream)))
    return np.asarray(bits.random_raw(count), dtype=np.uint64)
