"""Hand-over between threads: nothing of a file is lost or reordered, of a live source only the newest counts."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.flow.exchange import Exchange

LONG_S = 20.0
"""Only a deadlock takes so long."""


def blocked(body: threading.Thread, exchange: Exchange[int]) -> None:
    """Wait until the thread waits inside of the exchange."""
    deadline = time.monotonic() + LONG_S
    while not exchange._changed._waiters and body.is_alive():  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.001)


class TestLive:
    def test_the_newest_replaces_and_the_replaced_are_counted(self) -> None:
        exchange: Exchange[int] = Exchange([True])
        for item in range(5):
            assert exchange.put(0, item)
        assert exchange.take() == [(0, 4)]
        assert exchange.drops == [4]

    def test_what_is_taken_in_time_is_not_dropped(self) -> None:
        exchange: Exchange[int] = Exchange([True])
        for item in range(3):
            exchange.put(0, item)
            assert exchange.take() == [(0, item)]
        assert exchange.drops == [0]

    @given(st.lists(st.booleans(), max_size=40))
    def test_taken_and_dropped_are_all_there_were(self, takes: list[bool]) -> None:
        exchange: Exchange[int] = Exchange([True])
        taken = []
        for item, take in enumerate(takes):
            exchange.put(0, item)
            if take:
                taken += exchange.take() or []
        exchange.end(0)
        while (rest := exchange.take()) is not None:
            taken += rest
        assert len(taken) + exchange.drops[0] == len(takes)
        assert [item for _, item in taken] == sorted(item for _, item in taken)
        if takes:
            assert taken[-1] == (0, len(takes) - 1)


class TestFile:
    def test_a_full_compartment_makes_its_writer_wait(self) -> None:
        exchange: Exchange[int] = Exchange([False], room=2)
        assert exchange.put(0, 0)
        assert exchange.put(0, 1)
        writer = threading.Thread(target=lambda: exchange.put(0, 2), daemon=True)
        writer.start()
        blocked(writer, exchange)
        assert exchange.take() == [(0, 0)]
        writer.join(LONG_S)
        assert not writer.is_alive()
        assert [exchange.take(), exchange.take()] == [[(0, 1)], [(0, 2)]]
        assert exchange.drops == [0]

    def test_a_full_file_does_not_hold_up_a_live_source(self) -> None:
        exchange: Exchange[int] = Exchange([False, True], room=1)
        exchange.put(0, 10)
        for item in range(3):
            exchange.put(1, item)
        assert exchange.take() == [(0, 10), (1, 2)]

    @settings(max_examples=25)
    @given(
        st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=4),
        st.integers(1, 4),
        st.integers(0, 3),
    )
    def test_nothing_is_lost_or_reordered_across_threads(
        self, lanes: list[tuple[int, bool]], room: int, pause: int
    ) -> None:
        exchange: Exchange[int] = Exchange([live for _, live in lanes], room=room)

        def write(lane: int, count: int) -> None:
            for item in range(count):
                exchange.put(lane, item)
            exchange.end(lane)

        writers = [
            threading.Thread(target=write, args=(lane, count), daemon=True) for lane, (count, _) in enumerate(lanes)
        ]
        for writer in writers:
            writer.start()
        taken: list[list[int]] = [[] for _ in lanes]
        while (items := exchange.take(LONG_S)) is not None:
            assert items
            assert len({lane for lane, _ in items}) == len(items)
            for lane, item in items:
                taken[lane].append(item)
            time.sleep(pause * 1e-5)
        for (count, live), got, drops in zip(lanes, taken, exchange.drops, strict=True):
            assert got == sorted(set(got))
            assert len(got) + drops == count
            if not live:
                assert got == list(range(count))
            if count:
                assert got[-1] == count - 1


class TestEnd:
    def test_what_is_there_is_still_given_out(self) -> None:
        exchange: Exchange[int] = Exchange([False, True])
        exchange.put(0, 1)
        exchange.end(0)
        exchange.end(1)
        assert exchange.take() == [(0, 1)]
        assert exchange.take() is None
        assert exchange.take() is None

    def test_only_the_last_end_ends(self) -> None:
        exchange: Exchange[int] = Exchange([False, False])
        exchange.end(0)
        assert exchange.take(0.001) == []
        exchange.put(1, 5)
        assert exchange.take() == [(1, 5)]

    def test_wakes_the_reader(self) -> None:
        exchange: Exchange[int] = Exchange([False])
        got: list[object] = []
        reader = threading.Thread(target=lambda: got.append(exchange.take()), daemon=True)
        reader.start()
        blocked(reader, exchange)
        exchange.end(0)
        reader.join(LONG_S)
        assert got == [None]

    def test_nothing_in_time_is_an_empty_list(self) -> None:
        assert Exchange[int]([False]).take(0.001) == []
        assert Exchange[int]([True]).take(0.0) == []


class TestClose:
    @pytest.mark.parametrize("live", [False, True])
    def test_gives_out_nothing_more_and_takes_nothing_more(self, live: bool) -> None:
        exchange: Exchange[int] = Exchange([live])
        exchange.put(0, 1)
        exchange.close()
        exchange.close()
        assert exchange.take() is None
        assert exchange.put(0, 2) is False

    def test_wakes_a_waiting_writer_with_false(self) -> None:
        exchange: Exchange[int] = Exchange([False], room=1)
        exchange.put(0, 0)
        got: list[bool] = []
        writer = threading.Thread(target=lambda: got.append(exchange.put(0, 1)), daemon=True)
        writer.start()
        blocked(writer, exchange)
        exchange.close()
        writer.join(LONG_S)
        assert got == [False]

    def test_wakes_a_waiting_reader_with_none(self) -> None:
        exchange: Exchange[int] = Exchange([True])
        got: list[object] = []
        reader = threading.Thread(target=lambda: got.append(exchange.take()), daemon=True)
        reader.start()
        blocked(reader, exchange)
        exchange.close()
        reader.join(LONG_S)
        assert got == [None]
