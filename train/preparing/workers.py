"""Crops of a source, made by several processes and handed over in order.

Enters: a source and the ranges of items that are wanted. Leaves: what became of each item, range by range in the order
asked for, however the processes are timed. No more than a few ranges lie in memory, so a slow disk slows the workers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Final

from engines.errors import EngineError
from realtime.errors import RealtimeError
from train.errors import DataError, TrainError
from train.source import Reader, Source, Taken

WAITING: Final = 2
"""Ranges a worker has been given: one that it works on, one that keeps it from idling."""

AHEAD: Final = 4
"""Ranges a worker that may be done before the one that is written next; 32 crops of 112 pixels are 1.2 MB."""

JOIN_S: Final = 5.0
"""So long an idle worker may take to leave before it is stopped."""

FAILURES: Final = (TrainError, EngineError, RealtimeError)
"""What ends a reader for good. All else is a mistake of ours and shows its traceback."""

Outcome = Taken | str
"""A crop, or why there is none."""


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def outcomes(source: Source, ranges: Sequence[range], workers: int) -> Generator[list[Outcome], None, None]:
    """What became of each range's items, in the order of ``ranges``. Close it (or use it up) to end the workers.

    Args:
        source: pickled for each worker.
        ranges: places in ``source.items``.
        workers: processes; 0 does the work in this one.

    Raises:
        TrainError, EngineError, RealtimeError: the source cannot be read.
        DataError: a worker ended by itself; killed for its memory, as a rule.
    """
    if workers:
        yield from _shared_out(source, ranges, min(workers, len(ranges)))
        return
    with closing(_opened(source)) as reader:
        for wanted in ranges:
            yield _taken(reader, wanted)


def _opened(source: Source) -> Reader:
    try:
        return source.open()
    except OSError as err:
        raise _lost(err) from err


def _taken(reader: Reader, wanted: range) -> list[Outcome]:
    try:
        return [reader.take(index) for index in wanted]
    except OSError as err:
        raise _lost(err) from err


def _lost(err: OSError) -> DataError:
    return DataError(f"the source cannot be read ({err}); is it still there? Start again to go on")


def _shared_out(source: Source, ranges: Sequence[range], count: int) -> Generator[list[Outcome], None, None]:
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            workers.append(_Worker(source))
        done: dict[int, list[Outcome]] = {}
        given = 0
        for written in range(len(ranges)):
            while written not in done:
                for worker in sorted(workers, key=lambda each: each.busy):
                    while given < min(len(ranges), written + AHEAD * count) and worker.busy < WAITING:
                        worker.give(given, ranges[given])
                        given += 1
                for worker in _ready(workers):
                    place, found = worker.take()
                    done[place] = found
            yield done.pop(written)
        for worker in workers:
            worker.leave()
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One process with a reader of its own; it ends with this one, however this one ends."""

    def __init__(self, source: Source) -> None:
        context = get_context("spawn")  # threads of OpenCV and of progress bars do not survive a fork
        self.connection, theirs = context.Pipe()
        self.busy = 0
        self.process = context.Process(target=_work, args=(theirs, source), daemon=True)
        try:
            with _no_ctrl_c():
                self.process.start()
        except OSError as err:
            raise DataError(f"a worker process cannot be started ({err}); use fewer with --workers") from err
        finally:
            theirs.close()  # so that the end of the process is the end of the pipe

    def give(self, place: int, wanted: range) -> None:
        with suppress(BrokenPipeError):  # it has ended; take() says so
            self.connection.send((place, wanted))
        self.busy += 1

    def take(self) -> tuple[int, list[Outcome]]:
        try:
            answer: tuple[int, list[Outcome]] | Exception = self.connection.recv()
        except (EOFError, ConnectionError) as err:
            self.process.join(JOIN_S)
            raise DataError(_ended(self.process.exitcode)) from err
        if isinstance(answer, Exception):
            raise answer
        self.busy -= 1
        return answer

    def leave(self) -> None:
        """Ask it to end; it closes its reader."""
        with suppress(BrokenPipeError):
            self.connection.send(None)
        self.process.join(JOIN_S)

    def stop(self) -> None:
        """May be called twice."""
        if self.process.is_alive():
            self.process.terminate()
        if self.process.pid is not None:
            self.process.join()
        self.connection.close()


@contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """Ctrl-C waits meanwhile. A process started here keeps it out for good, also while it is still importing."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else the first start would, and it lets Ctrl-C in again when it has
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    ready = set(wait([worker.connection for worker in workers]))
    return [worker for worker in workers if worker.connection in ready]


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = f"was killed ({name}), as a rule because memory ran out"
    else:
        why = f"ended by itself (exit code {code}; its last words stand above)"
    return f"a worker process {why}; start the same command again, it goes on where it was, with fewer --workers"


def _work(connection: Connection, source: Source) -> None:
    """A worker's life. Ctrl-C reaches the whole group of processes; the one that writes decides what to do."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    with suppress(EOFError, ConnectionError):  # the writing process has ended, killed perhaps
        try:
            with closing(_opened(source)) as reader:
                while (task := connection.recv()) is not None:
                    place, wanted = task
                    connection.send((place, _taken(reader, wanted)))
        except FAILURES as err:
            connection.send(err)
