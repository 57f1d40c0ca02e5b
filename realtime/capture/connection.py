"""One connection to a stream: an address in, decoded pictures out, until it fails in whatever way.

FFmpeg can hang where none of its timeouts reaches (name look-up, a TLS handshake, a driver), and closing a container
while another thread reads from it is a crash. So each connection runs FFmpeg in a daemon thread of its own, which alone
touches the container; whoever waits for pictures can stop waiting at any time and leave the thread to end by itself.
This is the one thread that flow/ does not own: it exists so that flow/'s capture thread can always be stopped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import av
from av.container import InputContainer
from av.error import FFmpegError

from realtime.capture.addresses import scheme_of, stream_name
from realtime.capture.decoding import Decoder, NoVideoError, Picture
from realtime.capture.failures import Failure, ended, explain, silent
from realtime.settings import CaptureSettings

logger = logging.getLogger(__name__)

LIVE_PICTURES: Final = 4
"""Pictures of a live stream that wait to be read; the oldest goes when another comes."""

RECORDED_PICTURES: Final = 8
"""Pictures of a recording that wait; then decoding waits, too."""

GRACE_S: Final = 0.7
"""FFmpeg's own timeout is given so much longer to say what happened, before the watchdog does."""

PICTURELESS_TIMEOUTS: Final = 4.0
"""A stream that sends data may take so many timeouts until its first picture: it waits for a key frame."""


UNSTAMPED: Final = frozenset({"mpjpeg", "mjpeg", "mjpeg_2000", "h264", "hevc", "m4v"})
"""Formats without time stamps, as the multipart JPEG of simple cameras."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What an open stream says about itself."""

    codec: str
    fps: float | None
    frames: int | None
    audio: bool
    live: bool
    stamped: bool
    """Whether its pictures carry times of their own; FFmpeg makes some up where they do not."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A picture, its number in this connection (gaps are pictures that nobody read), and ``time.monotonic()``."""

    picture: Picture
    ordinal: int
    decoded_s: float


class Connection:
    """Starts connecting at once. ``next`` is for one thread; ``abandon`` for any."""

    def __init__(self, url: str, settings: CaptureSettings) -> None:
        self._url = url
        self._settings = settings
        self._changed = threading.Condition()
        self._arrivals: deque[Arrival] = deque()
        self._decoded = 0
        self._facts: StreamFacts | None = None
        self._failure: Failure | None = None
        self._abandoned = False
        self._started_s = self._active_s = time.monotonic()
        threading.Thread(target=self._run, name=f"stream {stream_name(url)}", daemon=True).start()

    @property
    def facts(self) -> StreamFacts:
        """Known once ``next`` gave a picture."""
        assert self._facts is not None
        return self._facts

    def next(self) -> Arrival | Failure | None:
        """The next picture; why there is none; None when abandoned.

        Waits no longer than the timeout of the settings after the stream's last sign of life.
        """
        with self._changed:
            while not self._abandoned:
                if self._arrivals:
                    self._changed.notify_all()
                    if not self.facts.live:
                        self._active_s = time.monotonic()  # decoding waited for the reader, not the reader for it
                    return self._arrivals.popleft()
                if self._failure is not None:
                    return self._failure
                now_s = time.monotonic()
                left_s = self._deadline_s() - now_s
                if left_s <= 0:
                    sends_data = self._active_s > self._started_s and self._active_s + self._settings.timeout_s > now_s
                    return silent(self._settings.timeout_s, sends_data=sends_data and not self._decoded)
                self._changed.wait(left_s)
        return None

    def abandon(self) -> None:
        """Wakes ``next``; the thread closes the connection as soon as FFmpeg returns to it."""
        with self._changed:
            self._abandoned = True
            self._arrivals.clear()
            self._changed.notify_all()

    def _deadline_s(self) -> float:
        timeout_s = self._settings.timeout_s
        if self._facts is None:
            return self._started_s + 2 * timeout_s + GRACE_S
        until_s = self._active_s + timeout_s + GRACE_S
        return until_s if self._decoded else min(until_s, self._started_s + PICTURELESS_TIMEOUTS * timeout_s)

    def _run(self) -> None:
        failure = Failure("the reader of this stream broke down; please report the traceback above", lasting=True)
        try:
            failure = self._read_all()
        finally:
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _read_all(self) -> Failure:
        container = None
        try:
            container = self._open()
            decoder = Decoder(container, label=stream_name(self._url), live=True)
            facts = _facts_of(container, decoder)
            with self._changed:
                self._facts = facts
                self._active_s = time.monotonic()
            for picture in decoder.pictures():
                if not self._hand_over(picture):
                    break
            return ended(live=facts.live)
        except NoVideoError as err:
            return Failure(f"holds {err}; ask for the camera's video stream", lasting=True)
        except (FFmpegError, OSError, ValueError) as err:
            return explain(err, self._url, self._settings.timeout_s, time.monotonic() - self._started_s)
        finally:
            if container is not None:
                container.close()

    def _open(self) -> InputContainer:
        # The second timeout is PyAV's for reading: it takes the GIL at every poll. FFmpeg's own (below) do not.
        timeout_s = self._settings.timeout_s
        return av.open(
            self._url, options=_options(self._url, self._settings), timeout=(timeout_s, None), metadata_errors="replace"
        )

    def _hand_over(self, picture: Picture | None) -> bool:
        """False when nobody wants more."""
        with self._changed:
            self._active_s = time.monotonic()
            if picture is not None:
                arrival = Arrival(picture, self._decoded, self._active_s)
                self._decoded += 1
                if self.facts.live and len(self._arrivals) == LIVE_PICTURES:
                    self._arrivals.popleft()
                elif not self.facts.live:
                    self._changed.wait_for(lambda: len(self._arrivals) < RECORDED_PICTURES or self._abandoned)
                if not self._abandoned:
                    self._arrivals.append(arrival)
                self._changed.notify_all()
            return not self._abandoned


def _options(url: str, settings: CaptureSettings) -> dict[str, str]:
    """FFmpeg's options for ``url``; times are microseconds. See https://ffmpeg.org/ffmpeg-protocols.html."""
    timeout = str(int(settings.timeout_s * 1e6))
    options = {"rw_timeout": timeout, "fpsprobesize": "0"}  # measuring the rate takes 1 s
    scheme = scheme_of(url)
    if scheme in ("rtsp", "rtsps"):
        options |= {
            "timeout": timeout,
            "rtsp_transport": "tcp" if scheme == "rtsps" else settings.transport,
            "allowed_media_types": "video",
            "max_delay": "500000",
            "probesize": "32",  # the SDP names the codec; FFmpeg would wait for eight frames, seconds on a slow camera
        }
    elif scheme in ("http", "https", "udp", "tcp", "srt", "rtp"):
        options["timeout"] = timeout
    return options


def _facts_of(container: InputContainer, decoder: Decoder) -> StreamFacts:
    seekable_file = scheme_of(container.name) in ("http", "https") and bool(
        container.duration and container.duration > 0
    )
    still = container.format.name.endswith("_pipe")
    count = decoder.stream.frames if decoder.stream.frames > 0 else None
    return StreamFacts(
        codec=decoder.codec,
        fps=decoder.fps,
        frames=count,
        audio=bool(container.streams.audio),
        live=not (seekable_file or still),
        stamped=container.format.name not in UNSTAMPED,
    )
