"""The process of one contestant.

Enters: on standard input, one JSON line: the contestant; then one for each order, ``{"batch": 8, "seconds": 0.5}``.
Leaves: on standard output, one JSON line for each; what libraries print goes to standard error. Between orders it
sleeps in a read; when standard input ends, it ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from engines.benchmark.contestants import Contestant
from engines.benchmark.openers import Opened, open_contestant
from engines.benchmark.usage import peak_mib, resident_mib
from engines.errors import EngineError


def serve(orders: Iterator[str], say: TextIO) -> None:
    """Open the contestant that the first line names, then run what the others ask for."""
    fields = json.loads(next(orders))
    spec = Contestant(**{**fields, "batches": tuple(fields["batches"])})
    before = resident_mib()
    try:
        opened = open_contestant(spec)
        _tell(say, {"load_s": opened.load_s, "build_s": opened.build_s, "flop": opened.flop})
        slept_since = time.process_time()
        for line in orders:
            idle_s = time.process_time() - slept_since
            _tell(say, {**_turn(opened, json.loads(line), before), "idle_s": idle_s})
            slept_since = time.process_time()
    except (EngineError, MemoryError) as err:
        _tell(say, {"error": str(err) or "memory ran out"})


def _tell(say: TextIO, answer: dict[str, Any]) -> None:
    say.write(json.dumps(answer) + "\n")
    say.flush()


def _turn(opened: Opened, order: dict[str, Any], before: float | None) -> dict[str, Any]:
    """Call after call until the time is up, one at least."""
    batch = int(order["batch"])
    taken: list[float] = []
    end = time.perf_counter() + float(order["seconds"])
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        opened.run(batch)
        taken.append(time.perf_counter() - start)
    peak = peak_mib()
    return {"seconds": taken, "memory_mib": None if peak is None or before is None else peak - before}


def main() -> None:
    """Keep standard output for answers: file descriptor 1 becomes standard error's."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(iter(sys.stdin), answers)


if __name__ == "__main__":
    main()
