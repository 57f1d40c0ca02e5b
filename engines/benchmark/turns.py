"""Everybody in turn, round after round.

Enters: contestants. Leaves: a ``Bench``. One process computes at a time; the others sleep. The order turns by one place
each round, so that nobody always follows the one that heats the chip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Final

import numpy as np

from engines.benchmark.apart import Apart
from engines.benchmark.contestants import MATMUL, Contestant, Skipped, yardsticks
from engines.benchmark.meters import Meters, open_meters
from engines.benchmark.results import Bench, Matmul, Tally, rows_of
from engines.benchmark.usage import machine
from engines.errors import EngineError

SETTLE_S: Final = 0.1
"""Between turns, seconds: numpy's BLAS spins for 60 ms of CPU time after its last call, everybody else for less."""

Progress = Callable[[str, int, int], None]
"""Told what comes next, how many steps are done, and of how many."""


def take_turns(
    contestants: Sequence[Contestant],
    skipped: Sequence[Skipped] = (),
    *,
    seconds: float,
    repeats: int,
    progress: Progress = lambda title, done, total: None,
) -> Bench:
    """Open everybody, run the rounds, and count. Ctrl-C ends it with what is there; it is not raised.

    Args:
        contestants: who runs; the matrix products that they are measured by are added.
        skipped: who was left out before.
        seconds: for each contestant and batch in a round.
        repeats: rounds.
        progress: told what comes next.
    """
    everybody = [*yardsticks(contestants), *contestants]
    with closing(open_meters()) as meters, ExitStack() as stack:
        run = _Run(everybody, stack, meters, progress, repeats)
        interrupted = False
        try:
            run.open_all()
            for number in range(repeats):
                run.round(number, seconds)
        except KeyboardInterrupt:
            interrupted = True
        return run.result([*skipped, *run.failed], meters, interrupted)


class _Run:
    """Who is there, and what is known so far."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        stack: ExitStack,
        meters: Meters,
        progress: Progress,
        repeats: int,
    ) -> None:
        self._waiting = contestants
        self._stack = stack
        self._meters = meters
        self._progress = progress
        self._steps = len(contestants) * (1 + repeats)
        self._done = 0
        self._alive: list[tuple[Apart, list[Tally]]] = []
        self._flop: dict[Contestant, float] = {}
        self._tallies: list[Tally] = []
        self.failed: list[Skipped] = []

    def open_all(self) -> None:
        """One after the other: load times are measured too."""
        for who in self._waiting:
            self._step(f"opening {who.title}")
            try:
                self._open(who)
            except EngineError as err:
                self._fail(who, err)

    def round(self, number: int, seconds: float) -> None:
        """Everybody once, at every batch."""
        turn = number % max(len(self._alive), 1)
        for apart, tallies in [*self._alive[turn:], *self._alive[:turn]]:
            who = tallies[0].contestant
            self._step(f"round {number + 1}, {who.title}")
            try:
                for tally in tallies:
                    self._turn(apart, tally, seconds)
            except EngineError as err:
                self._alive = [(other, its) for other, its in self._alive if other is not apart]
                self._fail(who, err)

    def result(self, skipped: Sequence[Skipped], meters: Meters, interrupted: bool) -> Bench:
        matmul = tuple(self._matmul())
        values = machine()
        if meters.gpu_name is not None:
            values["gpu"] = meters.gpu_name
        return Bench(
            machine=values,
            rows=rows_of([tally for tally in self._tallies if tally.contestant.task != MATMUL], matmul),
            matmul=matmul,
            skipped=tuple(skipped),
            energy=meters.words,
            interrupted=interrupted,
        )

    def _open(self, who: Contestant) -> None:
        device_before = self._meters.device_mib()
        apart = Apart(who)
        self._stack.callback(apart.close)
        ready = apart.open()
        tallies = [
            Tally(contestant=who, batch=batch, load_s=ready.load_s, build_s=ready.build_s, seconds=[])
            for batch in who.batches
        ]
        for tally in tallies:
            warm = apart.run(tally.batch, 0)
            tally.memory_mib = warm.memory_mib
            if who.on_gpu and device_before is not None:
                tally.device_mib = (self._meters.device_mib() or 0) - device_before
        if ready.flop is not None:
            self._flop[who] = ready.flop
        self._alive.append((apart, tallies))
        self._tallies += tallies

    def _turn(self, apart: Apart, tally: Tally, seconds: float) -> None:
        time.sleep(SETTLE_S)
        joules, start = self._meters.joules(), time.perf_counter()
        turn = apart.run(tally.batch, seconds)
        tally.metered_s += time.perf_counter() - start
        after = self._meters.joules()
        if joules is not None and after is not None:
            tally.joules = (tally.joules or 0) + after - joules
        tally.seconds += turn.seconds
        tally.memory_mib = turn.memory_mib if tally.batch == tally.contestant.batches[-1] else tally.memory_mib
        tally.rounds += 1

    def _matmul(self) -> list[Matmul]:
        return [
            Matmul(
                precision=who.precision,
                threads=who.threads,
                device="cuda" if who.on_gpu else "cpu",
                gflop_s=round(self._flop[who] / float(np.median(tally.seconds)) / 1e9, 1),
            )
            for tally in self._tallies
            if (who := tally.contestant) in self._flop and tally.seconds
        ]

    def _step(self, title: str) -> None:
        self._progress(title, self._done, self._steps)
        self._done += 1

    def _fail(self, who: Contestant, err: EngineError) -> None:
        self.failed.append(Skipped(model=who.model, engine=who.engine, reason=str(err)))
