"""Rates over the last two seconds, on a clock that the test turns."""

from __future__ import annotations

import threading

import pytest

from realtime.flow import telemetry
from realtime.flow.telemetry import WINDOW_S, Meter


class Clock:
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(telemetry, "time", turned)
    return turned


def test_nothing_yet_is_no_rate() -> None:
    meter = Meter()
    assert (meter.rates(), meter.frames) == ((0.0, 0.0), 0)


def test_one_frame_has_a_latency_and_no_rate(clock: Clock) -> None:
    meter = Meter()
    meter.count(40.0)
    assert meter.rates() == (0.0, 40.0)


@pytest.mark.parametrize("fps", [5.0, 30.0])
def test_a_steady_source_has_its_rate(clock: Clock, fps: float) -> None:
    meter = Meter()
    for index in range(200):
        clock.now_s = 100 + index / fps
        meter.count(20.0 if index % 2 else 30.0)
    rate, latency_ms = meter.rates()
    assert rate == pytest.approx(fps, rel=0.01)
    assert latency_ms == pytest.approx(25, abs=2)
    assert meter.frames == 200


def test_a_source_that_stalls_slows_down_and_stops(clock: Clock) -> None:
    meter = Meter()
    for index in range(30):
        clock.now_s = 100 + index / 30
        meter.count(10.0)
    clock.now_s += 1.0
    assert 0 < meter.rates()[0] < 20
    clock.now_s += WINDOW_S
    assert meter.rates() == (0.0, 0.0)


def test_only_the_window_is_kept(clock: Clock) -> None:
    meter = Meter()
    for index in range(10_000):
        clock.now_s = 100 + index / 100
        meter.count(1.0)
    assert len(meter._recent) <= WINDOW_S * 100 + 2


def test_many_threads_may_count() -> None:
    meter = Meter()
    threads = [threading.Thread(target=lambda: [meter.count(1.0) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.frames == 2000
