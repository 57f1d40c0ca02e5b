"""One thread that can fail: its exception crosses to whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Worker:
    """Runs ``body`` in a daemon thread; ``failed`` is told of an exception in that thread, once.

    This is the thread boundary, so the one place that catches everything: ``failed`` decides what becomes of it.
    """

    def __init__(self, name: str, body: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self._body = body
        self._failed = failed
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._body()
        except BaseException as error:  # noqa: BLE001 - crosses the thread boundary and is raised there
            self._failed(error)
