"""Probes against millions of rows: whether the nearest are the nearest, and how near a search is to reading them once.

Enters: a device. Leaves: a ``Proof``'s tables and checks. Rows are random directions, drawn on the device from a seed,
with one mate planted for each probe; strangers of that many make the task as hard as a gallery of that size is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from engines.proofs.attempts import attempt
from engines.proofs.clock import copy_bytes_s, device_times, host_times
from engines.proofs.record import Proof, Table
from engines.search import Rows, Search
from engines.search.rows import PIECE, Exact, Kind, build_rows

TITLE: Final = "Matching: the five nearest rows of each probe, exact, on the device"

K: Final = 5
DIMENSIONS: Final = 512
PROBES: Final = (1, 8, 64)
MATE: Final = 0.6
"""Cosine of a probe and its planted mate."""

SIZES: Final = (10_000_000, 1_000_000, 50_000_000)
DRY_SIZES: Final = (3_000,)

PUBLISHED: Final = 3.84e-3 / (10_000_000 * DIMENSIONS / 1.8e12)
"""InsightFace Server's p50 of one probe against 10 million int8 vectors on an RTX 5090, over its floor at 1.8 TB/s."""


@dataclass(frozen=True, slots=True)
class _Tables:
    search: Table
    beside: Table


def prove(proof: Proof, device: torch.device) -> None:
    """Every size and kind that the device holds and the time allows, the published one first."""
    copy_s = copy_bytes_s(device)
    ceilings = proof.table("ceilings", "What the device can do", ("what", "GB/s"))
    proof.row(ceilings, "copy within the device, bytes read and written", copy_s / 1e9)
    read_s = _read_bytes_s(device)
    proof.row(ceilings, "reading alone: the sum of a buffer", read_s / 1e9)
    tables = _Tables(
        proof.table(
            "search",
            "Search of the five nearest, exact",
            (
                *("rows", "kind", "probes", "p50 ms", "p95 ms", "p99 ms", "host to host p50 ms", "pass alone ms"),
                *("floor ms", "time over floor", "proved %", "widened", "build s"),
            ),
            note="p50 to p99: probes and answers on the device, the host waits for each search; the floor is reading "
            "the coarse rows once at the copy rate above",
        ),
        proof.table(
            "beside",
            "What people write instead: one matrix product and topk",
            ("rows", "numbers", "probes", "p50 ms", "times ours"),
        ),
    )
    for size in DRY_SIZES if proof.dry_run else SIZES:
        for kind in ("int8", "fp16"):
            if proof.has_time(f"{size:,} rows, {kind}", 0 if proof.dry_run else 20):
                attempt(proof, f"{size:,} rows, {kind}", lambda: _one(proof, tables, device, copy_s, size, kind))  # noqa: B023


def _one(proof: Proof, tables: _Tables, device: torch.device, copy_s: float, size: int, kind: Kind) -> None:
    probes_ND = _probes(device)
    exact: Exact = "device" if size <= 10_000_000 and kind == "int8" else "fp16"
    start = time.perf_counter()
    search = Search(build_rows(_pieces(size, probes_ND), size, DIMENSIONS, device=device, kind=kind, exact=exact))
    built_s = time.perf_counter() - start
    _check(proof, search, probes_ND, size, kind)
    medians = {}
    for count in PROBES:
        medians[count] = _timed(proof, tables.search, search, probes_ND, count, copy_s, built_s)
    _say_cut(proof, search, size, kind)
    over = medians[1] / (search.rows.bytes / copy_s)
    if kind == "int8" and size == SIZES[0]:
        proof.check(
            "one probe, 10 million int8 rows: nearer to its floor than what is published",
            over <= PUBLISHED,
            f"{over:.2f} times the floor, published {PUBLISHED:.2f}",
        )
    if size <= 10_000_000:
        _beside(proof, tables.beside, search.rows, probes_ND, medians)


def _probes(device: torch.device) -> Tensor:
    """Of length 1, more than one batch, so that no search is of the probes before."""
    generator = torch.Generator(device).manual_seed(1)
    return functional.normalize(torch.randn(4 * PROBES[-1], DIMENSIONS, generator=generator, device=device), dim=1)


def _pieces(size: int, probes_ND: Tensor) -> Iterator[Tensor]:
    """Rows of length 1; row (i + 1/2) * size / N is the mate of probe i."""
    device = probes_ND.device
    generator = torch.Generator(device).manual_seed(2)
    mates_N = mates(size, len(probes_ND)).to(device)
    for start in range(0, size, PIECE):
        count = min(PIECE, size - start)
        rows = torch.randn(count, DIMENSIONS, generator=generator, device=device)
        rows = functional.normalize(rows, dim=1)
        here = (mates_N >= start) & (mates_N < start + count)
        own = probes_ND[here]
        away = functional.normalize(rows[mates_N[here] - start] - _along(rows[mates_N[here] - start], own), dim=1)
        rows[mates_N[here] - start] = MATE * own + (1 - MATE**2) ** 0.5 * away
        yield rows


def _along(rows_nD: Tensor, probes_nD: Tensor) -> Tensor:
    """What of each row lies along its probe."""
    return (rows_nD * probes_nD).sum(dim=1, keepdim=True) * probes_nD


def mates(size: int, count: int) -> Tensor:
    """Row of each probe's mate."""
    return ((torch.arange(count, dtype=torch.float64) + 0.5) * size / count).long()


def _check(proof: Proof, search: Search, probes_ND: Tensor, size: int, kind: Kind) -> None:
    """Against brute force, for one batch."""
    probes_PD = probes_ND[: PROBES[-1]]
    found = search.search(probes_PD, K)
    best_PK = brute_force(search.rows, probes_PD, K)
    recall = float((found.scores_NK >= best_PK - 2e-6).float().mean())
    first = float((found.rows_NK[:, 0].cpu() == mates(size, len(probes_ND))[: len(probes_PD)]).float().mean())
    name = f"{size:,} rows, {kind}"
    proof.check(f"{name}: the five nearest are brute force's", recall == 1.0, f"{recall:.4f} of 1")
    proof.check(f"{name}: each probe's mate is its nearest", first == 1.0, f"{first:.4f} of 1")
    proof.check(f"{name}: every answer is proved", bool(found.proved_N.all()), f"{found.widened} looked further")


def brute_force(rows: Rows, probes_PD: Tensor, k: int) -> Tensor:
    """(P, k) best scores over all exact rows, float32, in pieces."""
    assert isinstance(rows.fine, Tensor)
    best_PK = probes_PD.new_full((len(probes_PD), k), -torch.inf)
    for start in range(0, rows.count, PIECE):
        piece = rows.fine[start : min(start + PIECE, rows.count), : rows.dimensions].float()
        best_PK = torch.cat([best_PK, probes_PD @ piece.T], dim=1).topk(k, dim=1).values
    return best_PK


def _timed(
    proof: Proof, table: Table, search: Search, probes_ND: Tensor, count: int, copy_s: float, built_s: float
) -> float:
    """A row of the table; returns the median in seconds."""
    rows, device = search.rows, search.rows.device
    seconds, least = (0.0, 2) if proof.dry_run else (1.0, 20)
    batches = cycle(torch.split(probes_ND, count))
    on_host = cycle([part.cpu() for part in torch.split(probes_ND, count)])
    times = host_times(lambda: search.search(next(batches), K), device, seconds=seconds, least=least)

    def there_and_back() -> None:
        found = search.search(next(on_host), K)
        found.rows_NK.cpu()
        found.scores_NK.cpu()

    whole = host_times(there_and_back, device, seconds=seconds, least=least)
    passed = [search._coarse(part)[0] for part in torch.split(probes_ND, count)]
    turns = cycle(passed)
    alone = device_times(lambda: search.passes.maxima(rows, next(turns)), device, seconds=seconds, least=least)
    all_found = [search.search(part, K, widen=False) for part in torch.split(probes_ND, count)]
    proved = float(torch.cat([one.proved_N for one in all_found]).float().mean())
    floor_s = rows.bytes / copy_s
    proof.row(
        table,
        *(rows.count, rows.kind, count, times.p50_ms, times.p95_ms, times.p99_ms, whole.p50_ms, alone.p50_ms),
        *(1e3 * floor_s, times.p50_ms / 1e3 / floor_s, 100 * proved, search.search(probes_ND, K).widened, built_s),
    )
    return times.p50_ms / 1e3


def _say_cut(proof: Proof, search: Search, size: int, kind: Kind) -> None:
    """Which way of the pass was measured to be the quickest."""
    for (of, probes), cut in getattr(search.passes, "chosen", {}).items():
        if of == kind:
            table = next((one for one in proof.tables if one.name == "cuts"), None)
            columns = ("rows", "kind", "probes", "numbers at a time", "groups a program", "warps", "stages")
            table = table or proof.table("cuts", "How the pass was cut: the quickest that was tried", columns)
            proof.row(table, size, kind, probes, cut.columns, cut.groups, cut.warps, cut.stages)


def _beside(proof: Proof, table: Table, rows: Rows, probes_ND: Tensor, ours: dict[int, float]) -> None:
    assert isinstance(rows.fine, Tensor)
    device = rows.device
    ways: dict[str, Tensor] = {str(rows.fine.dtype).removeprefix("torch."): rows.fine[: rows.count, : rows.dimensions]}
    if rows.kind == "int8":
        ways["int8"] = rows.coarse_QW
    for name, stored in ways.items():
        for count in PROBES:
            batches = cycle(torch.split(probes_ND, count))
            scales = rows.scales_Q[:, None]

            def plain(stored: Tensor = stored, batches: Iterator[Tensor] = batches) -> Tensor:
                return (next(batches).to(stored.dtype) @ stored.T).topk(K, dim=1).values

            def whole(stored: Tensor = stored, batches: Iterator[Tensor] = batches, scales: Tensor = scales) -> Tensor:
                probes = next(batches)
                wide = probes.new_zeros(max(8, len(probes)), probes.shape[1])
                wide[: len(probes)] = probes
                coarse = (wide * (127 / wide.abs().amax().clamp(min=1e-9))).round().to(torch.int8)
                sums: Tensor = torch._int_mm(stored, coarse.T.contiguous())
                return (sums[:, : len(probes)].float() * scales).topk(K, dim=0).values

            def one(
                call: Callable[[], Tensor] = whole if name == "int8" else plain, name: str = name, count: int = count
            ) -> None:
                times = host_times(call, device, seconds=0.05 if proof.dry_run else 0.5, least=5)
                proof.row(table, rows.count, name, count, times.p50_ms, times.p50_ms / 1e3 / ours[count])

            attempt(proof, f"{name} product and topk, {rows.count:,} rows, {count} probes", one)


def _read_bytes_s(device: torch.device) -> float:
    size = 1 << (32 if device.type == "cuda" else 24)
    values = torch.ones(size // 4, device=device)
    return size / (device_times(values.sum, device, seconds=0.2).p50_ms / 1e3)
