"""Network cameras and streams: an address in, the newest frames out, through PyAV.

A stream that fails at its first connection is a ``SourceError`` at once, so that a wrong password is seen by the person
who typed it. One that worked is connected again until it is closed, with growing waits; ``status`` says so meanwhile.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Final

from realtime.capture.addresses import redact, stream_name
from realtime.capture.backoff import Backoff
from realtime.capture.connection import Arrival, Connection
from realtime.capture.decoding import Timeline
from realtime.capture.failures import Failure
from realtime.capture.source import SourceInfo
from realtime.errors import SourceError, SourceLost
from realtime.records import Frame
from realtime.settings import CaptureSettings

logger = logging.getLogger(__name__)

STABLE_S: Final = 10.0
"""A connection that lived so long was a good one: the waits after it start from the shortest."""


class LiveClock:
    """Times of a live stream's frames: the camera's stamps for their evenness, the wall clock for the truth."""

    MAX_APART_S = 2.0
    """Stamps further from the wall clock than this are wrong, or the stream began anew."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._anchor: tuple[float, float] | None = None
        self._last_s = -1.0

    def at(self, pts_s: float | None, decoded_s: float) -> float:
        """Seconds since the first frame, always growing."""
        if self._began_s is None:
            self._began_s = decoded_s
        wall_s = decoded_s - self._began_s
        time_s = wall_s
        if pts_s is not None:
            if self._anchor is None or abs(self._anchor[1] + pts_s - self._anchor[0] - wall_s) > self.MAX_APART_S:
                self._anchor = (pts_s, max(wall_s, self._last_s + 0.001) if self._last_s >= 0 else 0.0)
            time_s = self._anchor[1] + pts_s - self._anchor[0]
        self._last_s = max(time_s, self._last_s + 0.001) if self._last_s >= 0 else 0.0
        return self._last_s

    def new_connection(self) -> None:
        """The camera's stamps start anywhere again."""
        self._anchor = None


class StreamSource:
    """A ``Source``; see ``realtime.capture.source.Source`` for what each method promises."""

    def __init__(self, url: str, settings: CaptureSettings, name: str | None = None) -> None:
        """Connects and waits for the first picture.

        Raises:
            SourceError: none came, and none will; the sentence says why, without the password.
            SourceLost: none came now; the camera may be off or starting.
        """
        self._url = url
        self._settings = settings
        self._name = name or stream_name(url)
        self._where = redact(url)
        self._backoff = Backoff(settings.reconnect_max_s)
        self._clock = LiveClock()
        self._closed = threading.Event()
        self._next_index = 0
        self._lost: Failure | None = None
        self._retry_at_s = 0.0
        self._connection = Connection(url, settings)
        self._connected_s = time.monotonic()
        first = self._connection.next()
        if not isinstance(first, Arrival):
            self._connection.abandon()
            kind = SourceError if first is None or first.lasting else SourceLost
            raise kind(f"{self._where}: {first.text if first else 'closed'}")
        self._first: Arrival | None = first
        self._first_index = 0
        facts = self._connection.facts
        self._live = facts.live
        self._timeline = Timeline(facts.fps)
        picture = first.picture
        self._info = SourceInfo(
            kind="stream" if facts.live else "video file",
            width=picture.pixels.width,
            height=picture.pixels.height,
            fps=facts.fps,
            frames=facts.frames if not facts.live else None,
            codec=facts.codec,
            rotation=picture.turn,
            audio=facts.audio,
        )

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
        lost = self._lost
        if lost is None:
            return ""
        wait_s = math.ceil(self._retry_at_s - time.monotonic())
        return f"reconnecting in {wait_s} s: {lost.text}" if wait_s > 0 else f"reconnecting now: {lost.text}"

    def read(self) -> Frame | None:
        while not self._closed.is_set():
            got = self._first or self._connection.next()
            self._first = None
            if got is None:
                return None
            if isinstance(got, Arrival):
                return self._frame(got)
            if got.end:
                return None
            if not self._live:
                raise SourceLost(f"{self._where}: {got.text}; only a part was read")
            self._reconnect(got)
        return None

    def close(self) -> None:
        self._closed.set()
        self._connection.abandon()

    def _frame(self, arrival: Arrival) -> Frame:
        if self._lost is not None:
            logger.info("%s: connected again", self._name)
            self._lost = None
        pts_s = arrival.picture.pts_s if self._connection.facts.stamped else None
        time_s = self._clock.at(pts_s, arrival.decoded_s) if self._live else self._timeline.at(pts_s)
        index = self._first_index + arrival.ordinal
        self._next_index = index + 1
        return Frame(
            source=self._name,
            index=index,
            time_s=time_s,
            pixels=arrival.picture.pixels,
            captured_at_s=arrival.decoded_s,
        )

    def _reconnect(self, failure: Failure) -> None:
        """Waits, then starts the next connection; the caller waits for its pictures."""
        self._connection.abandon()
        if self._lost is None and time.monotonic() - self._connected_s > STABLE_S:
            self._backoff.reset()
        wait_s = self._backoff.next_s()
        self._retry_at_s = time.monotonic() + wait_s
        self._lost = failure
        logger.warning("%s: %s; reconnecting in %.0f s", self._name, failure.text, wait_s)
        if self._closed.wait(wait_s):
            return
        self._clock.new_connection()
        self._first_index = self._next_index
        self._connected_s = time.monotonic()
        self._connection = Connection(self._url, self._settings)
        if self._closed.is_set():
            self._connection.abandon()
