"""A bench as text for people.

Enters: a ``Bench``. Leaves: lines of text: the machine, what it can do, a table for each model, and what did not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from engines.benchmark.contestants import Skipped
from engines.benchmark.results import Bench, Matmul, Row
from engines.benchmark.usage import machine_line

COLUMNS: Final[tuple[tuple[str, Callable[[Row], str]], ...]] = (
    ("task", lambda row: row.task),
    ("engine", lambda row: row.engine),
    ("threads", lambda row: str(row.threads)),
    ("p50 ms", lambda row: _figure(row.p50_ms)),
    ("p95", lambda row: _figure(row.p95_ms)),
    ("p99", lambda row: _figure(row.p99_ms)),
    ("calls", lambda row: str(row.calls)),
    ("per s", lambda row: _figure(row.per_s)),
    ("speed-up", lambda row: "" if row.speed_up is None else f"{row.speed_up:.1f}x"),
    ("of matmul", lambda row: "" if row.of_matmul is None else f"{row.of_matmul:.0%}"),
    ("MiB", lambda row: "" if row.memory_mib is None else f"{row.memory_mib:.0f}"),
    ("GPU MiB", lambda row: "" if row.device_mib is None else f"{row.device_mib:.0f}"),
    ("load s", lambda row: f"{row.load_s:.2f}"),
    ("build s", lambda row: "" if row.build_s is None else f"{row.build_s:.1f}"),
    ("W", lambda row: "" if row.watts is None else f"{row.watts:.0f}"),
    ("J each", lambda row: "" if row.joules is None else _figure(row.joules)),
)
"""Heading and cell; a column in which no row has anything is left out."""

LEFT: Final = ("task", "engine")


def report(bench: Bench) -> str:
    """Everything."""
    lines = [machine_line(bench.machine), *_matmul_lines(bench.matmul), bench.energy]
    for model in dict.fromkeys(row.model for row in bench.rows):
        rows = [row for row in bench.rows if row.model == model]
        lines += ["", _title(rows), "", format_rows(rows)]
    if bench.rows:
        lines += ["", *_legend(bench.rows)]
    if bench.skipped:
        lines += ["", "did not run:", *_skipped_lines(bench.skipped)]
    if bench.interrupted:
        until = "the figures are of the rounds until then" if bench.rows else "before anything was measured"
        lines += ["", f"stopped by Ctrl-C: {until}"]
    return "\n".join(lines)


def format_rows(rows: Sequence[Row]) -> str:
    """A table of some rows, heading first."""
    columns = [(head, [cell(row) for row in rows]) for head, cell in COLUMNS]
    kept = [(head, cells) for head, cells in columns if any(cells)]
    widths = [max(map(len, (head, *cells))) for head, cells in kept]
    lines = [[head for head, _ in kept], *(list(line) for line in zip(*(cells for _, cells in kept), strict=True))]
    return "\n".join(_aligned(line, widths, [head in LEFT for head, _ in kept]) for line in lines)


def _aligned(cells: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    padded = (
        cell.ljust(width) if is_left else cell.rjust(width)
        for cell, width, is_left in zip(cells, widths, left, strict=True)
    )
    return "  ".join(padded).rstrip()


def _title(rows: Sequence[Row]) -> str:
    gmac = rows[0].gmac
    return rows[0].model if gmac is None else f"{rows[0].model}, {gmac:.3g} GMAC"


def _matmul_lines(found: Sequence[Matmul]) -> Iterator[str]:
    """One line a precision: what plain matrix products reach."""
    for device, precision in dict.fromkeys((m.device, m.precision) for m in found):
        rates = [m for m in found if (m.device, m.precision) == (device, precision)]
        told = [
            f"{m.gflop_s:.0f} GFLOP/s" + ("" if device == "cuda" else f" on {m.threads} thread{'s' * (m.threads > 1)}")
            for m in rates
        ]
        yield f"matrix products here, {device} {precision}: {', '.join(told)}"


def _legend(rows: Sequence[Row]) -> Iterator[str]:
    yield "p50, p95, p99: of one call, ms (with few calls p99 is the slowest); per s: faces or frames, at the median"
    references = dict.fromkeys(row.against for row in rows if row.against)
    if references:
        yield f"speed-up: over {', '.join(references)} at the same batch; contestants took turns in one run"
    if any(row.of_matmul for row in rows):
        yield (
            "of matmul: of the rate above, same precision and threads; over 100 % where a convolution needs fewer "
            "products than it counts"
        )
    yield "MiB: growth of the process at its peak; load s: library, file and session"
    if any(row.precision == "int8" or row.device_mib for row in rows):
        yield "build s: empty where it was kept from before; set REALTIME_CACHE to an empty folder to time it"


def _skipped_lines(skipped: Iterable[Skipped]) -> Iterator[str]:
    """Those with one reason share a line."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        reasons.setdefault((one.model, one.reason), []).append(one.engine)
    for (model, reason), engines in reasons.items():
        of = f" of {model}" if model else ""
        yield f"  {', '.join(engines)}{of}: {reason}"


def _figure(value: float) -> str:
    """Three figures that mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"
