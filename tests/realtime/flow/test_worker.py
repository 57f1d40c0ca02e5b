"""A thread's exception crosses to its owner."""

from __future__ import annotations

import threading

import pytest

from realtime.flow.worker import Worker

LONG_S = 20.0


def test_runs_in_a_thread_of_its_own_with_its_name() -> None:
    seen: list[str] = []
    worker = Worker("capture film", lambda: seen.append(threading.current_thread().name), pytest.fail)
    worker.start()
    assert worker.join(LONG_S)
    assert seen == ["capture film"]


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_tells_of_its_failure_once(error: BaseException) -> None:
    told: list[BaseException] = []

    def body() -> None:
        raise error

    worker = Worker("w", body, told.append)
    worker.start()
    assert worker.join(LONG_S)
    assert worker.join(LONG_S)
    assert told == [error]


def test_says_when_it_has_not_ended_in_time() -> None:
    go = threading.Event()
    worker = Worker("w", lambda: go.wait(LONG_S) and None, pytest.fail)
    worker.start()
    assert not worker.join(0.01)
    go.set()
    assert worker.join(LONG_S)


def test_one_that_never_started_has_ended() -> None:
    assert Worker("w", lambda: None, pytest.fail).join(0.0)
