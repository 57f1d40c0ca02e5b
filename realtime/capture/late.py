"""A camera that is not there yet, among others that are: it joins when it answers.

Enters: what could not be opened just now, though trying again can help. Leaves: a ``Source`` that says so on the wall,
tries with the waits of a lost camera, and then gives the camera's frames.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from realtime.capture.backoff import Backoff
from realtime.capture.source import Source, SourceInfo, open_source
from realtime.errors import SourceLost
from realtime.records import Frame
from realtime.settings import CaptureSettings

log = logging.getLogger(__name__)

UNKNOWN: Final = SourceInfo(kind="stream", width=1280, height=720, fps=None)
"""What is said of a camera that has not answered; nothing depends on it while several sources run."""


class LateSource:
    """A live ``Source`` around one that is opened later."""

    live = True

    def __init__(self, spec: str, settings: CaptureSettings, *, name: str, reason: str) -> None:
        self._spec = spec
        self._settings = settings
        self._name = name
        self._reason = reason
        self._backoff = Backoff(settings.reconnect_max_s)
        self._closed = threading.Event()
        self._opening = threading.Lock()
        self._source: Source | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def info(self) -> SourceInfo:
        return self._source.info if self._source is not None else UNKNOWN

    @property
    def status(self) -> str:
        return self._source.status if self._source is not None else f"waiting for it: {self._reason}"

    def read(self) -> Frame | None:
        """As a ``Source``; a camera whose answer will not change (a wrong password) ends it with that SourceError."""
        while self._source is None:
            if self._closed.wait(self._backoff.next_s()):
                return None
            self._try()
        return self._source.read()

    def _try(self) -> None:
        try:
            source = open_source(self._spec, self._settings, name=self._name)
        except SourceLost as err:
            self._reason = str(err)
            log.warning("%s", err)
            return
        with self._opening:
            self._source = source
            if self._closed.is_set():
                source.close()

    def close(self) -> None:
        with self._opening:
            self._closed.set()
            if self._source is not None:
                self._source.close()
