"""What reads coarse rows, as Triton kernels: rows are read once, and only what is asked for is written.

Enters: ``Rows`` and probes. Leaves: as ``passes.TorchPasses``, to which a test holds it. Imported only where Triton is
installed. How the pass over all rows is cut into programs is chosen by measuring a few ways on the rows at hand.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from engines.search.rows import GROUP, WIDTH, Rows

triton: Any = importlib.import_module("triton")
tl: Any = importlib.import_module("triton.language")

PROBES: Final = (16, 32, 64, 128)
"""Probes of one pass; fewer are padded, as the matrix units take at least 16."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a pass is cut."""

    columns: int
    """Numbers of a row that are multiplied at a time."""
    groups: int
    """Of one program, one after the other."""
    warps: int
    stages: int
    """Loads under way ahead of the multiplication."""


CUTS: Final = (
    *(Cut(128, 8, 4, 4), Cut(128, 8, 8, 4), Cut(256, 8, 4, 3), Cut(256, 8, 8, 3), Cut(64, 8, 4, 6), Cut(512, 4, 8, 2)),
)


@triton.jit  # type: ignore[untyped-decorator]
def maxima_kernel(  # type: ignore[no-untyped-def]  # Triton reads the annotations, and knows only its own
    rows_ptr,
    scales_ptr,
    probes_ptr,
    best_ptr,
    count,
    groups,
    W: tl.constexpr,
    P: tl.constexpr,
    G: tl.constexpr,
    COLUMNS: tl.constexpr,
    PER_PROGRAM: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Positions are of 64 bits: 50 million rows of 512 numbers are beyond 32."""
    first = tl.program_id(0).to(tl.int64) * PER_PROGRAM
    lane = tl.arange(0, G)
    probe = tl.arange(0, P)
    for step in range(PER_PROGRAM):
        group = first + step
        if group < groups:
            row = group * G + lane
            if WHOLE:  # noqa: SIM108 - Triton takes no conditional of two types
                sums = tl.zeros((G, P), dtype=tl.int32)
            else:
                sums = tl.zeros((G, P), dtype=tl.float32)
            for start in range(0, W, COLUMNS):
                column = start + tl.arange(0, COLUMNS)
                a = tl.load(rows_ptr + row[:, None] * W + column[None, :])
                b = tl.load(probes_ptr + probe[None, :] * W + column[:, None])
                if WHOLE:  # noqa: SIM108
                    sums = tl.dot(a, b, sums, out_dtype=tl.int32)
                else:
                    sums = tl.dot(a, b, sums)
            scores = sums.to(tl.float32)
            if WHOLE:
                scores = scores * tl.load(scales_ptr + row)[:, None]
            scores = tl.where((row < count)[:, None], scores, float("-inf"))
            tl.store(best_ptr + probe.to(tl.int64) * groups + group, tl.max(scores, axis=0))


@triton.jit  # type: ignore[untyped-decorator]
def scores_kernel(  # type: ignore[no-untyped-def]
    rows_ptr,
    scales_ptr,
    probes_ptr,
    chosen_ptr,
    scores_ptr,
    count,
    chosen,
    W: tl.constexpr,
    G: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One group of one probe. The rows of a group lie beside each other, so it is read as fast as in the pass."""
    probe = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1).to(tl.int64)
    row = tl.load(chosen_ptr + probe * chosen + place) * G + tl.arange(0, G)
    sums = tl.zeros((G,), dtype=tl.float32)
    for start in range(0, W, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        a = tl.load(rows_ptr + row[:, None] * W + column[None, :]).to(tl.float32)
        b = tl.load(probes_ptr + probe * W + column).to(tl.float32)
        sums += tl.sum(a * b[None, :], axis=1)
    scores = tl.where(row < count, sums * tl.load(scales_ptr + row), float("-inf"))
    tl.store(scores_ptr + (probe * chosen + place) * G + tl.arange(0, G), scores)


class TritonPasses:
    """``passes.Passes``; remembers the best cut for each number of probes."""

    def __init__(self) -> None:
        self.chosen: dict[tuple[str, int], Cut] = {}
        """By kind and probes of a pass."""

    def scores(self, rows: Rows, probes_PW: Tensor, chosen_PC: Tensor) -> Tensor:
        probes, chosen = chosen_PC.shape
        scores_PR = torch.empty(probes, chosen * GROUP, dtype=torch.float32, device=rows.device)
        scores_kernel[(probes, chosen)](
            rows.coarse_QW,
            rows.scales_Q,
            probes_PW.contiguous(),
            chosen_PC.contiguous(),
            scores_PR,
            rows.count,
            chosen,
            W=probes_PW.shape[1],
            G=GROUP,
            COLUMNS=WIDTH,
        )
        return scores_PR

    def maxima(self, rows: Rows, probes_PW: Tensor) -> Tensor:
        parts = [self._pass(rows, part) for part in torch.split(probes_PW, PROBES[-1])]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _pass(self, rows: Rows, probes_PW: Tensor) -> Tensor:
        count = len(probes_PW)
        places = next(size for size in PROBES if size >= count)
        padded = probes_PW
        if places > count:
            padded = probes_PW.new_zeros(places, probes_PW.shape[1])
            padded[:count] = probes_PW
        key = (rows.kind, places)
        if key not in self.chosen:
            self.chosen[key] = self._measured(rows, padded)
        return run(rows, padded.contiguous(), self.chosen[key])[:count]

    def _measured(self, rows: Rows, probes_PW: Tensor) -> Cut:
        """The quickest that compiles, three passes each; on a processor the first, which is not measured."""
        fitting = [cut for cut in CUTS if rows.coarse_QW.shape[1] % cut.columns == 0]
        if rows.device.type != "cuda":
            return fitting[0]
        best: tuple[float, Cut] | None = None
        failure: Exception | None = None
        for cut in fitting:
            try:
                seconds = _seconds(rows, probes_PW, cut)
            except (RuntimeError, triton.TritonError) as err:  # more shared memory than there is, say
                failure = err
                continue
            best = min(best or (seconds, cut), (seconds, cut), key=lambda pair: pair[0])
        if best is None:
            raise RuntimeError(f"no way of the pass works here: {failure}") from failure
        return best[1]


def run(rows: Rows, probes_PW: Tensor, cut: Cut) -> Tensor:
    """One pass, probes padded to one of ``PROBES``."""
    places, width = probes_PW.shape
    groups = len(rows.coarse_QW) // GROUP
    best_PG = torch.empty(places, groups, dtype=torch.float32, device=rows.device)
    maxima_kernel[(triton.cdiv(groups, cut.groups),)](
        rows.coarse_QW,
        rows.scales_Q,
        probes_PW,
        best_PG,
        rows.count,
        groups,
        W=width,
        P=places,
        G=GROUP,
        COLUMNS=cut.columns,
        PER_PROGRAM=cut.groups,
        WHOLE=rows.kind == "int8",
        num_warps=cut.warps,
        num_stages=cut.stages,
    )
    return best_PG


def _seconds(rows: Rows, probes_PW: Tensor, cut: Cut) -> float:
    times = []
    run(rows, probes_PW, cut)
    for _ in range(3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        run(rows, probes_PW, cut)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(min(times))
