"""The rows that probes are compared with, as a device holds them.

Enters: float32 vectors, whole or in pieces. Leaves: ``Rows``: int8 with one scale a row, or float16, padded to what the
kernels read; what is lost by that, as a bound; and the rows from which the last few are compared again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# M rows, padded to Q; D numbers each, padded to W; P probes
Kind = Literal["int8", "fp16"]
Exact = Literal["host", "device", "fp16"]

GROUP: Final = 128
"""Rows of which only the best score leaves the pass: scores of 10 million rows are 40 MB, their maxima 0.3."""

WIDTH: Final = 64
"""Rows are padded with zeros to a multiple of so many numbers, which no load then has to be masked for."""

STEPS: Final = 127
"""Of int8 on each side of zero."""

PIECE: Final = 1 << 18
"""Rows that are converted at a time: half a GB of 512 float32 numbers."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Never changed. ``error`` bounds what the pass may be wrong by; see ``Search``."""

    coarse_QW: Tensor
    """int8 or float16."""
    scales_Q: Tensor
    """float32: a row is about its scale times its int8 numbers; 1 for float16."""
    count: int
    """M."""
    dimensions: int
    """D."""
    error: float
    """Greatest length of what a row lost."""
    longest: float
    """Greatest length of a row."""
    fine: Tensor | NDArray[np.float32]
    """(M or Q, D or W): rows for the exact comparison: float32 or float16 on the device, or the caller's own array."""

    @property
    def kind(self) -> Kind:
        return "int8" if self.coarse_QW.dtype == torch.int8 else "fp16"

    @property
    def device(self) -> torch.device:
        return self.coarse_QW.device

    @property
    def bytes(self) -> int:
        """That one pass reads."""
        scales = self.scales_Q.nbytes if self.kind == "int8" else 0
        return int(self.coarse_QW.nbytes) + int(scales)

    def exact(self, rows_PR: Tensor) -> Tensor:
        """(P, R, D or W) float32 of those rows, on the device; rows of the caller's array are fetched from there."""
        if isinstance(self.fine, Tensor):
            return self.fine[rows_PR].float()
        picked: NDArray[np.float32] = self.fine[rows_PR.cpu().numpy()]
        return torch.from_numpy(picked).to(self.device)


def build_rows(
    pieces: Iterable[NDArray[np.float32] | Tensor],
    count: int,
    dimensions: int,
    *,
    device: torch.device,
    kind: Kind,
    exact: Exact,
    whole: NDArray[np.float32] | None = None,
) -> Rows:
    """Convert piece by piece; float32 of all rows is never on the device but where ``exact`` is ``device``.

    Args:
        pieces: (m, D) float32 each, ``count`` rows in all.
        count: M.
        dimensions: D.
        device: to hold them.
        kind: of the pass.
        exact: what the last few are compared from: ``host`` is ``whole``, ``device`` float32 there, ``fp16`` float16
            there (a row is then what float16 keeps of it).
        whole: (M, D), for ``host``.

    Raises:
        ValueError: pieces of another shape, or not as many rows.
    """
    padded = -(-max(count, 1) // GROUP) * GROUP
    width = -(-dimensions // WIDTH) * WIDTH
    coarse = torch.zeros(padded, width, dtype=torch.int8 if kind == "int8" else torch.float16, device=device)
    scales = torch.ones(padded, device=device)
    fine = _fine(coarse, exact, whole)
    worst, longest, done = torch.zeros((), device=device), torch.zeros((), device=device), 0
    for piece in _cut(pieces):
        rows = torch.as_tensor(piece, device=device)
        if rows.dim() != 2 or rows.shape[1] != dimensions or done + len(rows) > count:
            raise ValueError(f"rows {tuple(rows.shape)} at {done} do not fit {count} of {dimensions} numbers")
        place = slice(done, done + len(rows))
        if exact == "fp16":  # what is compared in the end is what counts as the row
            rows = rows.half()
        if isinstance(fine, Tensor):
            fine[place, :dimensions] = rows
        rows = rows.float()
        kept = _coarse(rows, kind, coarse[place, :dimensions], scales[place])
        worst = torch.maximum(worst, torch.linalg.vector_norm(rows - kept, dim=1).max())
        longest = torch.maximum(longest, torch.linalg.vector_norm(rows, dim=1).max())
        done += len(rows)
    if done != count:
        raise ValueError(f"{done} rows came where {count} were promised")
    return Rows(
        coarse_QW=coarse,
        scales_Q=scales,
        count=count,
        dimensions=dimensions,
        error=float(worst) * (1 + 1e-5),
        longest=float(longest) * (1 + 1e-5),
        fine=fine,
    )


def quantised(values_ND: Tensor) -> tuple[Tensor, Tensor]:
    """int8 numbers and one scale a row; a row of zeros has scale 1."""
    peak_N = values_ND.abs().amax(dim=1)
    scale_N = torch.where(peak_N > 0, peak_N / STEPS, torch.ones_like(peak_N))
    return torch.round(values_ND / scale_N[:, None]).clamp_(-STEPS, STEPS).to(torch.int8), scale_N


def _coarse(rows_mD: Tensor, kind: Kind, into_mD: Tensor, scales_m: Tensor) -> Tensor:
    """Fill; returns what the rows now count as, float32."""
    if kind == "fp16":
        into_mD.copy_(rows_mD)
        return into_mD.float()
    whole, scale_m = quantised(rows_mD)
    into_mD.copy_(whole)
    scales_m.copy_(scale_m)
    return whole.float() * scale_m[:, None]


def _fine(coarse: Tensor, exact: Exact, whole: NDArray[np.float32] | None) -> Any:
    if exact == "host":
        if whole is None:
            raise ValueError("exact rows from the host need the whole array")
        return whole
    if exact == "fp16" and coarse.dtype == torch.float16:
        return coarse
    return torch.zeros(coarse.shape, dtype=torch.float32 if exact == "device" else torch.float16, device=coarse.device)


def _cut(pieces: Iterable[NDArray[np.float32] | Tensor]) -> Iterator[NDArray[np.float32] | Tensor]:
    for piece in pieces:
        for start in range(0, len(piece), PIECE):
            yield piece[start : start + PIECE]
