"""How fast things go: frames a second and latency over the last seconds, and totals. Any thread may ask."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

WINDOW_S: Final = 2.0
"""Rates are means over so many seconds: shorter flickers, longer hides a stall."""


class Meter:
    """Frames of one source as they are shown."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, float]] = deque()
        self.frames = 0

    def count(self, latency_ms: float) -> None:
        """One more frame has been shown."""
        now = time.monotonic()
        with self._lock:
            self.frames += 1
            self._recent.append((now, latency_ms))
            while self._recent[0][0] < now - WINDOW_S:
                self._recent.popleft()

    def rates(self) -> tuple[float, float]:
        """Frames a second and mean latency in milliseconds over the window."""
        now = time.monotonic()
        with self._lock:
            recent = [item for item in self._recent if item[0] >= now - WINDOW_S]
        if len(recent) < 2:
            return 0.0, recent[0][1] if recent else 0.0
        return (len(recent) - 1) / max(now - recent[0][0], 1e-6), sum(item[1] for item in recent) / len(recent)
