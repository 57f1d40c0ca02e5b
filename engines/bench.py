"""What models cost on this machine: every runtime that works here beside what people use today, in one run.

Enters: models, batches, threads. Leaves: a ``Bench``. Each contestant has a process of its own; they take turns, in
another order each round, so that a busy neighbour slows all alike, and medians are taken. Plain matrix products take
turns with them: they say what this machine can do at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from engines.benchmark.contestants import Contestant, detectors, embedded, embedders, wanted_rows
from engines.benchmark.report import format_rows, report
from engines.benchmark.results import Bench, Row
from engines.benchmark.turns import Progress, take_turns
from engines.benchmark.usage import cores
from engines.store import find_model

__all__ = ["Bench", "Row", "bench", "format_rows", "report"]


def bench(
    models: Sequence[str] = (),
    *,
    runtimes: Sequence[str] = ("all",),
    batches: Sequence[int] = (1, 8, 64),
    threads: int | None = None,
    seconds: float = 0.5,
    repeats: int = 5,
    detector: bool = False,
    progress: Progress = lambda title, done, total: None,
) -> Bench:
    """Measure.

    Args:
        models: paths or names; none for the embedded descriptor in dlib's own form, and once in the product's.
        runtimes: names of runtimes or of their rows, or ``all``.
        batches: faces in a call.
        threads: of the runtimes on the processor, at most 2 if not given.
        seconds: for each contestant and batch in a round; one call at least.
        repeats: rounds.
        detector: dlib's CNN detector too.
        progress: told what comes next.

    Raises:
        EngineError: a model cannot be read.
        ValueError: an unknown runtime, or a number below 1.
    """
    threads = min(2, cores()) if threads is None else threads
    if not batches or min(threads, repeats, *batches) < 1 or seconds < 0:
        raise ValueError(
            f"threads is {threads}, repeats {repeats}, batches {list(batches)}, seconds {seconds}; "
            "all but the seconds must be at least 1"
        )
    rows, skipped = wanted_rows(runtimes)
    contestants = _named(models, rows, batches, threads) if models else embedded(rows, batches, threads)
    if detector:
        contestants += detectors(rows, threads)
    return take_turns(contestants, skipped, seconds=seconds, repeats=repeats, progress=progress)


def _named(
    models: Sequence[str], rows: Sequence[tuple[str, str]], batches: Sequence[int], threads: int
) -> list[Contestant]:
    """Two files of one name are told apart by their files."""
    found = [(file, find_model(file)) for file in dict.fromkeys(models)]
    names = [model.manifest.name for _, model in found]
    contestants: list[Contestant] = []
    for (file, model), name in zip(found, names, strict=True):
        title = name if names.count(name) == 1 else f"{name} ({file})"
        contestants += embedders(model, file, title, rows, batches, threads)
    return contestants
