"""Probes against a gallery of more references than a processor compares in time, on an NVIDIA GPU.

Enters: probes and references. Leaves: the nearest and the second nearest person of each probe, the same as
``realtime.people.matching`` gives, or None where there is no GPU that can. Torch is loaded only then.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.machine import has_nvidia_gpu

if TYPE_CHECKING:
    import torch

    from engines.search import Search

# N probes, M references, K rows found, D embedding
Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]

LARGE: Final = 100_000
"""References from which the GPU is asked: numpy takes 20 ms for one probe there, which is half of an embedding."""

FIRST: Final = 16
"""Rows asked for at first: two people are nearly always among them; more where all are of one person."""

log = logging.getLogger(__name__)


class LargeGallery:
    """References on a device. Made once for a snapshot: 2 GB of them take some tenths of a second to get there."""

    def __init__(self, embeddings_MD: Float32, persons_M: Ints, device: torch.device) -> None:
        from engines.search import open_search

        squares_M = np.einsum("md,md->m", embeddings_MD, embeddings_MD)
        self._equal = bool(np.ptp(squares_M) < 1e-4)
        # |p - r|^2 = |p|^2 - 2 (p.r - |r|^2 / 2): one more number makes the nearest the one of the greatest product
        rows = embeddings_MD if self._equal else np.column_stack([embeddings_MD, -squares_M / 2])
        self._search: Search = open_search(np.ascontiguousarray(rows), device=device, kind="int8", exact="host")
        self._embeddings_MD, self._persons_M = embeddings_MD, persons_M
        self._alone = len(np.unique(persons_M)) < 2

    def nearest_two(self, probes_ND: Float32) -> tuple[Ints, Ints]:
        """Rows of the nearest reference, and of the nearest one of another person; -1 where there is no other."""
        best_N = np.full(len(probes_ND), -1, dtype=np.int64)
        second_N = best_N.copy()
        open_N, k = np.arange(len(probes_ND)), FIRST
        while len(open_N):
            probes = probes_ND[open_N]
            if not self._equal:
                probes = np.column_stack([probes, np.ones(len(probes), dtype=np.float32)])
            rows_NK = self._in_order(probes_ND[open_N], self._search.search(probes, k).rows_NK.cpu().numpy())
            best_N[open_N] = rows_NK[:, 0]
            other_NK = self._persons_M[rows_NK] != self._persons_M[rows_NK[:, :1]]
            has_N = other_NK.any(axis=1)
            second_N[open_N[has_N]] = rows_NK[has_N, other_NK[has_N].argmax(axis=1)]
            if self._alone or k >= len(self._persons_M):
                break
            open_N, k = open_N[~has_N], 4 * k
        return best_N, second_N

    def _in_order(self, probes_ND: Float32, rows_NK: Ints) -> Ints:
        """By distance, in full precision, equal ones in the order of the gallery."""
        distances_NK = ((self._embeddings_MD[rows_NK] - probes_ND[:, None]) ** 2).sum(axis=2)
        order_NK = np.lexsort((rows_NK, distances_NK), axis=1)
        ordered: Ints = np.take_along_axis(rows_NK, order_NK, axis=1)
        return ordered


def on_gpu(embeddings_MD: Float32, persons_M: Ints) -> LargeGallery | None:
    """The references on the GPU; None where they are few, or no GPU takes them: the reason goes to the log, once."""
    if len(embeddings_MD) < LARGE or not has_nvidia_gpu():
        return None
    try:
        import torch

        if not torch.cuda.is_available():
            return None
        return LargeGallery(embeddings_MD, persons_M, torch.device("cuda", torch.cuda.current_device()))
    except (ImportError, RuntimeError) as err:
        log.warning("%d references are compared on the processor: %s", len(embeddings_MD), _line(err))
        return None


def nearest_two(large: LargeGallery, probes_ND: Float32) -> tuple[Ints, Ints] | None:
    """As ``LargeGallery.nearest_two``; None where the GPU failed."""
    try:
        return large.nearest_two(probes_ND)
    except RuntimeError as err:
        log.warning("the GPU failed while matching, going on with the processor: %s", _line(err))
        return None


def _line(err: Any) -> str:
    from engines.errors import first_line

    return first_line(err)
