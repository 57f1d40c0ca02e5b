"""Where frames change threads: one compartment a source, newest only or first in first out.

Enters: items of several sources from their threads. Leaves: at most one item of each source at a time, to one reader.
A live source's compartment holds the newest item and counts what it replaces, because a slow stage must see now and not
a second ago; a file's blocks its writer when it is full, because every frame counts.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Exchange(Generic[T]):
    """Any number of writers, one reader.

    Args:
        live: for each source whether only its newest item matters.
        room: items that a compartment of a file holds before its writer waits.
    """

    def __init__(self, live: list[bool], *, room: int = 4) -> None:
        self._live = live
        self._room = room
        self._items: list[deque[T]] = [deque() for _ in live]
        self._ended = [False for _ in live]
        self._closed = False
        self._changed = threading.Condition()
        self.drops = [0 for _ in live]
        """Items of each live source that were replaced unread."""

    def put(self, lane: int, item: T) -> bool:
        """Hand over an item; blocks where a file's compartment is full. False once the exchange is closed."""
        with self._changed:
            items = self._items[lane]
            if self._live[lane]:
                self.drops[lane] += len(items)
                items.clear()
            else:
                self._changed.wait_for(lambda: len(items) < self._room or self._closed)
            if self._closed:
                return False
            items.append(item)
            self._changed.notify_all()
            return True

    def end(self, lane: int) -> None:
        """No more items will come from this source; those that are there are still given out."""
        with self._changed:
            self._ended[lane] = True
            self._changed.notify_all()

    def take(self, timeout_s: float | None = None) -> list[tuple[int, T]] | None:
        """The oldest item of every source that has one, waiting for the first; [] after ``timeout_s``; None at the end
        of all sources or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: any(self._items) or all(self._ended) or self._closed, timeout_s)
            if self._closed or (all(self._ended) and not any(self._items)):
                return None
            taken = [(lane, items.popleft()) for lane, items in enumerate(self._items) if items]
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Wake everybody; nothing more is given out. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
