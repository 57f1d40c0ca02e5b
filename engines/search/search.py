"""The nearest rows of each probe, exact and proved to be so.

Enters: ``Rows`` and probes. Leaves: for each probe the rows with the greatest inner products, and whether they are
proved to be the greatest. One pass over coarse rows gives the best score of each group; the rows of the best groups are
scored one by one, coarsely; the best of these are compared again in float32.

Why that is exact. A row is r = c + e with c its coarse form and |e| <= ``rows.error``; a probe is p = u + f. The coarse
score is u.c, and p.r - u.c = p.e + f.c, so it is off by at most |p| error + |f| (longest + error), and by what float32
rounds. A row that was not compared again had a coarse score of at most the best that was left out. If that plus the
bound is below the last exact score that is given, no such row can belong among them. Where it is not, more groups and
rows are taken, in the end all of them.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.search.passes import Passes, TorchPasses, rows_of
from engines.search.rows import Exact, Kind, Rows, build_rows, quantised

GROUPS: Final = 64
ROWS: Final = 128
"""Best groups and best rows that are looked at again at first. Of 10 million random directions about 50 rows lie within
the bound of the fifth."""

WIDER: Final = 4
"""Times as many where that did not prove it."""

EXACT_AT_ONCE: Final = 4096
"""Rows of a probe that are fetched at a time: half a GB for 64 probes."""

AT_ONCE: Final = 64
"""Probes of one pass; more are cut."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """Of N probes the K nearest rows, best first; equal ones in the order of the rows."""

    rows_NK: Tensor
    """int64."""
    scores_NK: Tensor
    """float32 inner products of the probe and the exact row."""
    proved_N: Tensor
    """bool: no other row can have a greater score; always true unless the search was told not to widen."""
    widened: int = 0
    """How often a probe needed more than the first look."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """P probes after their pass."""

    probes_PD: Tensor
    probes_PW: Tensor
    """In the form of the pass."""
    scale_P: Tensor
    bound_P: Tensor
    best_PG: Tensor
    """Best score of each group."""

    def of(self, probes: Tensor) -> _Passed:
        return _Passed(
            self.probes_PD[probes],
            self.probes_PW[probes],
            self.scale_P[probes],
            self.bound_P[probes],
            self.best_PG[probes],
        )


class Search:
    """Rows ready to be searched. One thread at a time."""

    def __init__(self, rows: Rows, *, passes: Passes | None = None) -> None:
        """
        Args:
            rows: what is searched.
            passes: what reads them; by default Triton's kernels on a GPU that has them, else torch.
        """
        self.rows = rows
        self.passes: Passes = passes or fastest_passes(rows.device)

    def search(self, probes_ND: Tensor | NDArray[np.float32], k: int = 5, *, widen: bool = True) -> Found:
        """
        Args:
            probes_ND: (N, D) float32, of any length, on any device.
            k: rows wanted of each; all of them where there are fewer.
            widen: look further where the first look proves nothing.

        Raises:
            ValueError: other dimensions, or no k.
        """
        probes = torch.as_tensor(probes_ND, dtype=torch.float32, device=self.rows.device)
        if probes.dim() != 2 or probes.shape[1] != self.rows.dimensions or k < 1:
            raise ValueError(
                f"probes are {tuple(probes.shape)} and k is {k}; rows have {self.rows.dimensions} numbers, k is 1 up"
            )
        k = min(k, self.rows.count)
        parts = torch.split(probes, AT_ONCE) if len(probes) and k else ()
        found = [self._some(part, k, widen) for part in parts]
        if not found:
            empty = probes.new_empty(len(probes), k)
            return Found(empty.long(), empty, torch.ones(len(probes), dtype=torch.bool, device=probes.device))
        return Found(
            torch.cat([one.rows_NK for one in found]),
            torch.cat([one.scores_NK for one in found]),
            torch.cat([one.proved_N for one in found]),
            sum(one.widened for one in found),
        )

    def _some(self, probes_PD: Tensor, k: int, widen: bool) -> Found:
        rows = self.rows
        probes_PW, scale_P, bound_P = self._coarse(probes_PD)
        passed = _Passed(probes_PD, probes_PW, scale_P, bound_P, self.passes.maxima(rows, probes_PW) * scale_P[:, None])
        groups, taken, widened = GROUPS, max(ROWS, 2 * k), 0
        found = self._look(passed, k, groups, taken)
        # the last look is at all rows; a probe that is not made of numbers stays unproved even then
        while widen and taken < len(rows.coarse_QW) and len(open_N := (~found.proved_N).nonzero()[:, 0]):
            groups, taken, widened = groups * WIDER, taken * WIDER, widened + len(open_N)
            more = self._look(passed.of(open_N), k, groups, taken)
            found.rows_NK[open_N], found.scores_NK[open_N] = more.rows_NK, more.scores_NK
            found.proved_N[open_N] = more.proved_N
        return Found(found.rows_NK, found.scores_NK, found.proved_N, widened)

    def _coarse(self, probes_PD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probes as the pass takes them, the factor of their scores, and how far off a score may be."""
        rows = self.rows
        if rows.kind == "int8":
            coarse_PD, scale_P = quantised(probes_PD)
            kept_PD = coarse_PD.float() * scale_P[:, None]
        else:
            coarse_PD, scale_P = probes_PD.half(), torch.ones(len(probes_PD), device=rows.device)
            kept_PD = coarse_PD.float()
        length_P = torch.linalg.vector_norm(probes_PD, dim=1)
        lost_P = torch.linalg.vector_norm(probes_PD - kept_PD, dim=1)
        rounding = 4 * (rows.dimensions + 8) * torch.finfo(torch.float32).eps * rows.longest
        bound_P = length_P * (rows.error + rounding) + lost_P * (rows.longest + rows.error)
        padded = coarse_PD.new_zeros(len(coarse_PD), rows.coarse_QW.shape[1])
        padded[:, : rows.dimensions] = coarse_PD
        return padded, scale_P, bound_P * (1 + 1e-4)

    def _look(self, passed: _Passed, k: int, groups: int, taken: int) -> Found:
        """Compare the best rows of the best groups; nothing here waits for the device but exact rows from the host."""
        rows, best_PG = self.rows, passed.best_PG
        top = best_PG.topk(min(groups + 1, best_PG.shape[1]), dim=1)
        chosen_PC = top.indices[:, :groups]
        left_out = top.values[:, groups] if best_PG.shape[1] > groups else best_PG.new_full((len(best_PG),), -torch.inf)
        row_PR = rows_of(chosen_PC)
        coarse_PR = self.passes.scores(rows, passed.probes_PW, chosen_PC) * passed.scale_P[:, None]
        few = coarse_PR.topk(min(taken + 1, coarse_PR.shape[1]), dim=1)
        if coarse_PR.shape[1] > taken:
            left_out = torch.maximum(left_out, few.values[:, taken])
        kept_PR = row_PR.gather(1, few.indices[:, :taken])
        kept_PR = kept_PR.sort(dim=1).values  # equal scores then stand in the order of the rows
        known_PR = kept_PR < rows.count
        exact_PR = torch.cat(
            [
                (rows.exact(some_PR)[:, :, : rows.dimensions] * passed.probes_PD[:, None]).sum(dim=2)
                for some_PR in torch.split(kept_PR.clamp(max=rows.count - 1), EXACT_AT_ONCE, dim=1)
            ],
            dim=1,
        ).masked_fill(~known_PR, -torch.inf)
        order = exact_PR.sort(dim=1, descending=True, stable=True)
        rows_PK = kept_PR.gather(1, order.indices[:, :k])
        scores_PK = order.values[:, :k]
        return Found(rows_PK, scores_PK, left_out + passed.bound_P < scores_PK[:, -1])


def open_search(
    references_MD: NDArray[np.float32] | Tensor | Iterable[NDArray[np.float32] | Tensor],
    *,
    device: torch.device,
    kind: Kind = "int8",
    exact: Exact = "device",
    count: int | None = None,
    dimensions: int | None = None,
) -> Search:
    """Put rows on a device.

    Args:
        references_MD: (M, D) float32, or pieces of it with ``count`` and ``dimensions``.
        device: to hold them.
        kind: of the pass: int8 reads half the bytes.
        exact: from what the last few are compared: float32 on the device, float16 there, or the array on the host.
        count: M, of pieces.
        dimensions: D, of pieces.

    Raises:
        ValueError: not vectors, or pieces that do not add up.
    """
    if isinstance(references_MD, np.ndarray | Tensor):
        if references_MD.ndim != 2:
            raise ValueError(f"references must be (M, D), but got {tuple(references_MD.shape)}")
        count, dimensions = references_MD.shape
        pieces: Iterable[Any] = [references_MD]
    else:
        pieces = references_MD
    if count is None or dimensions is None:
        raise ValueError("pieces need count and dimensions")
    whole = references_MD if isinstance(references_MD, np.ndarray) else None
    rows = build_rows(pieces, count, dimensions, device=device, kind=kind, exact=exact, whole=whole)
    return Search(rows)


def fastest_passes(device: torch.device) -> Passes:
    """Triton's kernels on a GPU where it is installed, else torch."""
    if device.type != "cuda":
        return TorchPasses()
    try:
        made: Passes = importlib.import_module("engines.search.triton_passes").TritonPasses()
    except ImportError as err:
        _log.info("searching without Triton: %s", err)
        return TorchPasses()
    return made
