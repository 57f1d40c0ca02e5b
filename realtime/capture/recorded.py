"""What is already there - a video file, photos - as a source: every frame in order, or played as a camera.

Enters: a function that opens a ``Reel``. Leaves: frames. ``capture.loop`` starts again at the end, ``capture.as_live``
gives each frame out at its own time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from realtime.capture.source import SourceInfo
from realtime.records import Frame, Pixels
from realtime.settings import CaptureSettings

MAX_BEHIND_S: Final = 0.5
"""A reader further behind than this is not owed the time back: playing goes on from now, as a slow camera's would."""


class Reel(Protocol):
    """Pictures from the first to the last, once."""

    @property
    def info(self) -> SourceInfo: ...
    @property
    def step_s(self) -> float:
        """Usual time between two pictures, seconds."""

    def read(self) -> tuple[float, Pixels] | None:
        """Seconds since the first picture, and the picture; None at the end."""

    def close(self) -> None: ...


class RecordedSource:
    """A ``Source`` over reels; see ``realtime.capture.source.Source`` for what each method promises."""

    def __init__(self, name: str, open_reel: Callable[[], Reel], settings: CaptureSettings) -> None:
        """Opens the first reel.

        Raises:
            SourceError: it holds nothing that can be shown; the sentence says why.
        """
        self._name = name
        self._open_reel = open_reel
        self._loop = settings.loop
        self._live = settings.as_live
        self._reel = open_reel()
        info = self._reel.info
        self._info = replace(info, frames=None, audio=False) if self._loop or self._live else info
        self._reading = threading.Lock()
        self._closed = threading.Event()
        self._ended = False
        self._index = 0
        self._reel_starts_s = 0.0
        self._last_s = 0.0
        self._played_from_s: float | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def live(self) -> bool:
        return self._live

    @property
    def info(self) -> SourceInfo:
        return self._info

    @property
    def status(self) -> str:
        return ""

    def read(self) -> Frame | None:
        with self._reading:
            picture = None if self._ended or self._closed.is_set() else self._next()
            if self._closed.is_set():
                self._reel.close()
                picture = None
        if picture is None:
            self._ended = True
            return None
        time_s, pixels = picture
        if self._live and not self._wait_for(time_s):
            return None
        frame = Frame(source=self._name, index=self._index, time_s=time_s, pixels=pixels)
        self._index += 1
        return frame

    def close(self) -> None:
        self._closed.set()
        if self._reading.acquire(blocking=False):  # else a read is under way, on a slow disk perhaps, and closes after
            try:
                self._reel.close()
            finally:
                self._reading.release()

    def _next(self) -> tuple[float, Pixels] | None:
        picture = self._reel.read()
        if picture is None and self._loop:
            self._reel.close()
            self._reel = self._open_reel()
            self._reel_starts_s = self._last_s + self._reel.step_s
            picture = self._reel.read()
        if picture is None:
            return None
        self._last_s = self._reel_starts_s + picture[0]
        return self._last_s, picture[1]

    def _wait_for(self, time_s: float) -> bool:
        """Until it is ``time_s``; False when closed meanwhile."""
        now = time.monotonic()
        if self._played_from_s is None or now - self._played_from_s - time_s > MAX_BEHIND_S:
            self._played_from_s = now - time_s
        return not self._closed.wait(max(0.0, self._played_from_s + time_s - now))
