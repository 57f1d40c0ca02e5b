"""Cameras on this machine, through OpenCV.

Enters: a camera's number. Leaves: its newest frames. A camera that is unplugged is tried again with growing waits until
the source is closed; ``status`` says so meanwhile.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import cv2

from realtime.capture.backoff import Backoff
from realtime.capture.pixels import BgrPixels
from realtime.capture.source import SourceInfo
from realtime.errors import SourceError, SourceLost
from realtime.records import Frame
from realtime.settings import CaptureSettings

logger = logging.getLogger(__name__)

BACKENDS: Final = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_DSHOW}
"""One a system: OpenCV's search through all of its backends is slow and noisy."""

EMPTY_READS: Final = 10
"""Reads in a row without a picture after which the camera is gone: a single one happens when it changes exposure."""

EMPTY_PAUSE_S: Final = 0.05

SEARCHED: Final = 4
"""Numbers tried for "found" where the system does not list its cameras."""


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool: ...
    def read(self) -> tuple[bool, Any]: ...
    def get(self, propId: int) -> float: ...
    def release(self) -> None: ...


OpenCapture = Callable[[int, int, Sequence[int]], Capture]


@dataclass(frozen=True, slots=True)
class System:
    """The seam to the machine: how a camera is opened, and which there are."""

    open_capture: OpenCapture
    found: Callable[[], list[int]]
    explain: Callable[[int], str]


class WebcamSource:
    """A ``Source``; see ``realtime.capture.source.Source`` for what each method promises."""

    def __init__(
        self, number: int, settings: CaptureSettings, name: str | None = None, *, system: System | None = None
    ) -> None:
        """Opens the camera and takes the first picture.

        Raises:
            SourceError: there is no such camera, it is in use, or gives no picture.
        """
        self._number = number
        self._settings = settings
        self._name = name or f"camera {number}"
        self._system = system or this_system()
        self._reading = threading.Lock()
        self._closed = threading.Event()
        self._backoff = Backoff(settings.reconnect_max_s)
        self._index = 0
        self._began_s: float | None = None
        self._last_s = 0.0
        self._lost = ""
        self._retry_at_s = 0.0
        self._capture: Capture | None = None
        self._first: BgrPixels | None = None
        first = self._take()
        assert first is not None
        self._first = first
        self._info = SourceInfo(kind="webcam", width=first.width, height=first.height, fps=_rate(self._capture))

    @property
    def name(self) -> str:
        return self._name

    @property
    def live(self) -> bool:
        return True

    @property
    def info(self) -> SourceInfo:
        return self._info

    @property
    def status(self) -> str:
        if not self._lost:
            return ""
        wait_s = math.ceil(self._retry_at_s - time.monotonic())
        return f"reconnecting in {wait_s} s: {self._lost}" if wait_s > 0 else f"reconnecting now: {self._lost}"

    def read(self) -> Frame | None:
        while not self._closed.is_set():
            try:
                pixels = self._take()
            except SourceError as err:
                self._wait_after(str(err))
                continue
            return self._frame(pixels) if pixels is not None else None
        self._release()
        return None

    def close(self) -> None:
        self._closed.set()
        if self._reading.acquire(blocking=False):  # else the reader releases the camera as soon as it wakes
            try:
                self._release()
            finally:
                self._reading.release()

    def _take(self) -> BgrPixels | None:
        """The next picture, from a camera opened again where it must be; None when closed."""
        with self._reading:
            if self._closed.is_set():
                return None
            first, self._first = self._first, None
            if first is not None:
                return first
            if self._capture is None:
                self._capture = self._open()
            try:
                return self._grab()
            except SourceLost:
                self._release()
                raise

    def _frame(self, pixels: BgrPixels) -> Frame:
        if self._lost:
            logger.info("%s: is back", self._name)
            self._lost = ""
            self._backoff.reset()
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        self._last_s = max(now_s - self._began_s, self._last_s + 1e-6) if self._index else 0.0
        frame = Frame(source=self._name, index=self._index, time_s=self._last_s, pixels=pixels, captured_at_s=now_s)
        self._index += 1
        return frame

    def _wait_after(self, reason: str) -> None:
        wait_s = self._backoff.next_s()
        self._retry_at_s = time.monotonic() + wait_s
        self._lost = reason
        logger.warning("%s; trying again in %.0f s", reason, wait_s)
        self._closed.wait(wait_s)

    def _open(self) -> Capture:
        backend = BACKENDS.get(sys.platform, cv2.CAP_ANY)
        with _opencv_silent():
            capture = self._system.open_capture(self._number, backend, _asked(self._settings))
        if capture.isOpened():
            return capture
        capture.release()
        found = self._system.found()
        if self._number in found:
            raise SourceError(f"camera {self._number}: {self._system.explain(self._number)}")
        listed = (
            f"found: {', '.join(map(str, found))}"
            if found
            else "none was found; connect one, or give a file or an address"
        )
        raise SourceError(f"no camera {self._number} ({listed})")

    def _grab(self) -> BgrPixels:
        assert self._capture is not None
        for _ in range(EMPTY_READS):
            with _opencv_silent():
                ok, image = self._capture.read()
            if ok and image is not None and image.size:
                return BgrPixels(image)
            if self._closed.wait(EMPTY_PAUSE_S):
                break
        raise SourceLost(f"camera {self._number} gives no picture; was it unplugged, or is another program using it?")

    def _release(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()


def this_system() -> System:
    """OpenCV on this machine."""
    return System(open_capture=_open_capture, found=_found, explain=_explain)


def _open_capture(number: int, backend: int, asked: Sequence[int]) -> Capture:
    return cv2.VideoCapture(number, backend, list(asked))


def _asked(settings: CaptureSettings) -> list[int]:
    """OpenCV's property and value pairs; it takes whole numbers here."""
    wanted = (
        (cv2.CAP_PROP_FRAME_WIDTH, settings.width),
        (cv2.CAP_PROP_FRAME_HEIGHT, settings.height),
        (cv2.CAP_PROP_FPS, settings.fps),
    )
    return [int(part) for key, value in wanted if value is not None for part in (key, round(value))]


def _rate(capture: Capture | None) -> float | None:
    rate = capture.get(cv2.CAP_PROP_FPS) if capture is not None else 0.0
    return rate if 0 < rate <= 1000 else None


def _found() -> list[int]:
    if sys.platform == "linux":
        names = (re.fullmatch(r"video([0-9]+)", path.name) for path in Path("/dev").glob("video*"))
        return sorted(int(match[1]) for match in names if match)
    return [number for number in range(SEARCHED) if _opens(number)]


def _opens(number: int) -> bool:
    with _opencv_silent():
        capture = _open_capture(number, BACKENDS.get(sys.platform, cv2.CAP_ANY), ())
    opened = capture.isOpened()
    capture.release()
    return opened


def _explain(number: int) -> str:
    device = f"/dev/video{number}"
    if sys.platform == "linux" and not os.access(device, os.R_OK | os.W_OK):
        return f"you may not use {device}; add yourself to the group that owns it (usually video) and log in again"
    return "is there but cannot be opened; another program is using it, or it is not a camera that gives video"


@contextmanager
def _opencv_silent() -> Iterator[None]:
    """OpenCV prints its own view of a missing camera to stderr; ours is one sentence."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
