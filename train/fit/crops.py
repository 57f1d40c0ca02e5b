"""The crops of a step, on the device, as the network takes them.

Enters: rows and flips. Leaves: uint8 crops on the device; ``as_images`` mirrors and normalises them there, so that a
quarter of the bytes travel. A set that fits lies on the device as a whole and is indexed there (K-FACE's 9,360 crops
are 352 MB). One that does not is read from the mapped file, a step ahead, by one thread. No worker process is started:
there is none to be killed, and an error of the thread comes out where the crops are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.fit.order import Bools, Ints, Order
from train.prepared import Split

# N rows of the set; M crops of a part; S side, pixels; C = 3 channels, RGB
SHARE_OF_DEVICE: Final = 0.3
"""Of the free memory that crops may take; the rest is for activations."""

MEAN: Final = 127.5
"""Subtracted, then divided by: what ``engines/networks/to_onnx.py`` writes into every model."""


@dataclass(frozen=True, slots=True)
class Part:
    """A rank's piece of a step, or of a part of one, on the device."""

    crops_MSSC: Tensor
    """uint8 RGB."""
    flips_M: Tensor
    """bool."""
    labels_M: Tensor
    """int64."""


def as_images(crops_MSSC: Tensor, flips_M: Tensor, *, channels_last: bool) -> Tensor:
    """(M, 3, S, S) float32 in [-1, 1], mirrored where ``flips_M``.

    Args:
        crops_MSSC: uint8 RGB.
        flips_M: bool.
        channels_last: keep the memory layout that the crops have.
    """
    turned = torch.where(flips_M[:, None, None, None], crops_MSSC.flip(2), crops_MSSC)
    images = turned.permute(0, 3, 1, 2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images.to(torch.float32, memory_format=layout).sub_(MEAN).mul_(1 / MEAN)


class Keeper(Protocol):
    """Where the crops lie."""

    def take(self, rows_M: Ints) -> Tensor:
        """(M, S, S, 3) uint8 on the device, or in pinned memory."""


class Resident:
    """All crops of a split on the device."""

    CHUNK: Final = 4096
    """Rows copied at a time, 154 MB."""

    def __init__(self, split: Split, device: torch.device) -> None:
        crops = split.crops_NSS3
        self._crops_NSSC = torch.empty(crops.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(crops), self.CHUNK):
            piece = np.array(crops[start : start + self.CHUNK])
            self._crops_NSSC[start : start + len(piece)] = torch.from_numpy(piece)
        self._device = device

    def take(self, rows_M: Ints) -> Tensor:
        return self._crops_NSSC[on_device(rows_M, self._device)]


class Mapped:
    """Crops read from the file when they are asked for."""

    def __init__(self, split: Split, *, pinned: bool) -> None:
        self._crops_NSS3 = split.crops_NSS3
        self._pinned = pinned

    def take(self, rows_M: Ints) -> Tensor:
        # in the order of the file, which a disk reads faster
        order = np.argsort(rows_M, kind="stable")
        out = torch.empty((len(rows_M), *self._crops_NSS3.shape[1:]), dtype=torch.uint8, pin_memory=self._pinned)
        view: NDArray[np.uint8] = out.numpy()
        view[order] = self._crops_NSS3[rows_M[order]]
        return out


def resident(split: Split, wish: str, device: torch.device) -> bool:
    """Whether the crops lie on the device: by the wish, ``auto``, ``device`` or ``host``, and a GPU's free memory."""
    if wish != "auto" or device.type != "cuda":
        return wish == "device"
    return split.crops_NSS3.nbytes <= SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]


def keeper_for(split: Split, wish: str, device: torch.device) -> Keeper:
    """As ``resident`` says."""
    return Resident(split, device) if resident(split, wish, device) else Mapped(split, pinned=device.type == "cuda")


class Feed:
    """The steps' parts in order, the next one being made ready while one is worked on."""

    def __init__(self, split: Split, order: Order, keeper: Keeper, device: torch.device) -> None:
        self._labels_N: NDArray[np.int64] = split.labels_N
        self._order = order
        self._keeper = keeper
        self._device = device

    def steps(self, first: int, last: int) -> Iterator[list[Part]]:
        """Parts of the steps first .. last - 1. Close the iterator to stop the thread."""
        with ThreadPoolExecutor(1, thread_name_prefix="crops") as pool:
            coming: Future[list[Any]] | None = pool.submit(self._read, first) if first < last else None
            for step in range(first, last):
                assert coming is not None
                read = coming.result()
                coming = pool.submit(self._read, step + 1) if step + 1 < last else None
                yield [self._placed(*each) for each in read]

    def _read(self, step: int) -> list[tuple[Tensor, Bools, Ints]]:
        return [(self._keeper.take(rows_M), flips_M, rows_M) for rows_M, flips_M in self._order.parts(step)]

    def _placed(self, crops_MSSC: Tensor, flips_M: Bools, rows_M: Ints) -> Part:
        return Part(
            crops_MSSC.to(self._device, non_blocking=True),
            on_device(flips_M, self._device),
            on_device(self._labels_N[rows_M], self._device),
        )


def on_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """A copy there, without waiting for it: one from ordinary memory would make each step wait for the one before.
    torch does not use pinned memory again before the copy is done."""
    held = torch.from_numpy(values)
    return held.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else held
