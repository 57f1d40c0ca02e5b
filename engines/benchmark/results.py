"""What a bench found.

Enters: how long each call took. Leaves: a ``Bench``, ready for a table, for JSON and for a plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from engines.benchmark.contestants import REFERENCES, Contestant, Skipped

SCHEMA: Final = 1
"""Version of the JSON's keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contestant at one batch. Times are medians over all its calls of all rounds unless they say otherwise."""

    model: str
    task: str
    """``embed 8`` (a batch of eight), ``detect 640x480`` (one frame)."""
    engine: str
    """``openvino bf16``, ``dlib wheel``, ``torch eager``."""
    runtime: str
    """Empty for what is not a runtime of ours."""
    precision: str
    threads: int
    batch: int
    rounds: int
    calls: int
    p50_ms: float
    """Of a call, milliseconds; so are the next two. With fewer than 100 calls p99 is the slowest one."""
    p95_ms: float
    p99_ms: float
    median_ms: float
    """p50 for one face of the batch (or one frame), milliseconds."""
    per_s: float
    """Faces (or frames) a second, at the median."""
    speed_up: float | None
    """How many times the reference's ``per_s``, same model and batch, same run; None without a reference."""
    against: str | None
    """Which reference: ``dlib wheel``, ``torch eager``."""
    gmac: float | None
    """Billions of multiply-accumulates a face (or frame), counted in the fp32 graph."""
    of_matmul: float | None
    """Share of the rate that this machine reached in plain matrix products of the same precision and threads, in the
    same run (1 = all of it). Above 1 where a convolution needs fewer multiplications than it counts (Winograd)."""
    load_s: float
    """Library, file and session, when everything is built."""
    build_s: float | None
    """int8 form or engine file built in this run; None where it was kept from before or none is needed."""
    memory_mib: float | None
    """Growth of the process, at its peak, up to and with this batch."""
    device_mib: float | None
    """GPU memory taken, up to and with this batch."""
    watts: float | None
    """Of the whole chips while it ran."""
    joules: float | None
    """Of the whole chips, a face (or frame)."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matmul:
    """What this machine reached in plain matrix products, in the same run."""

    precision: str
    threads: int
    device: str
    """``cpu`` or ``cuda``."""
    gflop_s: float
    """Billions of multiplications and additions a second, at the median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything that one run found."""

    machine: dict[str, str | int]
    rows: tuple[Row, ...]
    matmul: tuple[Matmul, ...]
    skipped: tuple[Skipped, ...]
    energy: str
    """What watts and joules are of, or why there are none."""
    interrupted: bool
    """Stopped by Ctrl-C: what is there was measured, but not in every round."""

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(slots=True, kw_only=True)
class Tally:
    """What is known of a contestant at one batch so far."""

    contestant: Contestant
    batch: int
    load_s: float
    build_s: float | None
    seconds: list[float]
    rounds: int = 0
    memory_mib: float | None = None
    device_mib: float | None = None
    metered_s: float = 0.0
    joules: float | None = None
    """Over ``metered_s``."""


def rows_of(tallies: Sequence[Tally], matmul: Sequence[Matmul]) -> tuple[Row, ...]:
    """One row for everything that ran at least once."""
    ran = [tally for tally in tallies if tally.seconds]
    return tuple(_row(tally, _reference(tally, ran), matmul) for tally in ran)


def _row(tally: Tally, reference: Tally | None, matmul: Sequence[Matmul]) -> Row:
    who = tally.contestant
    p95_s, p99_s = np.percentile(tally.seconds, (95, 99), method="inverted_cdf").tolist()
    per_s = _per_s(tally)
    items = len(tally.seconds) * tally.batch
    return Row(
        model=who.model,
        task=f"{who.task} {tally.batch}" if who.task == "embed" else who.task,
        engine=who.engine,
        runtime="" if who.engine in REFERENCES else who.runtime,
        precision=who.precision,
        threads=who.threads,
        batch=tally.batch,
        rounds=tally.rounds,
        calls=len(tally.seconds),
        p50_ms=round(1e3 * tally.batch / per_s, 4),
        p95_ms=round(1e3 * p95_s, 4),
        p99_ms=round(1e3 * p99_s, 4),
        median_ms=round(1e3 / per_s, 4),
        per_s=round(per_s, 3),
        speed_up=None if reference is None else round(per_s / _per_s(reference), 3),
        against=None if reference is None else reference.contestant.engine,
        gmac=who.gmac,
        of_matmul=_of_matmul(tally, matmul),
        load_s=round(tally.load_s, 4),
        build_s=None if tally.build_s is None else round(tally.build_s, 3),
        memory_mib=_rounded(tally.memory_mib),
        device_mib=_rounded(tally.device_mib),
        watts=None if tally.joules is None or not tally.metered_s else _rounded(tally.joules / tally.metered_s),
        joules=None if tally.joules is None else round(tally.joules / items, 6),
    )


def _per_s(tally: Tally) -> float:
    return tally.batch / float(np.median(tally.seconds))


def _reference(tally: Tally, others: Sequence[Tally]) -> Tally | None:
    """What people use today for the same job; on a GPU, the one on the GPU."""
    who = tally.contestant
    same = [
        other
        for other in others
        if other.contestant.engine in REFERENCES
        and (other.contestant.model, other.contestant.task, other.batch) == (who.model, who.task, tally.batch)
    ]
    fitting = [other for other in same if other.contestant.on_gpu == who.on_gpu]
    return next(iter(fitting or same), None)


def _of_matmul(tally: Tally, matmul: Sequence[Matmul]) -> float | None:
    who = tally.contestant
    device = "cuda" if who.on_gpu else "cpu"
    for found in matmul:
        if (found.precision, found.device) == (who.precision, device) and (who.on_gpu or found.threads == who.threads):
            return None if who.gmac is None else round(2 * who.gmac * _per_s(tally) / found.gflop_s, 4)
    return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
