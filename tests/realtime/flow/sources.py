"""Sources in memory, for tests of the pipeline: their frames, their pace and their troubles are known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from realtime.capture.source import SourceInfo
from realtime.records import RGB_HW3, ArrayPixels, Frame
from tests.realtime.pictures import FPS


class ArraySource:
    """Gives pictures one after the other.

    Args:
        pictures: the frames; ``error`` is raised after the last one, if there is one.
        live: whether only the newest counts.
        gate: called before each frame with its index, in the reading thread; may wait.
        endless: begins again at the end, until closed.
    """

    def __init__(
        self,
        pictures: Sequence[RGB_HW3],
        *,
        name: str = "film",
        live: bool = False,
        error: BaseException | None = None,
        gate: Callable[[int], None] = lambda index: None,
        endless: bool = False,
        fps: float = FPS,
    ) -> None:
        self.name, self.live, self.status = name, live, ""
        self.given = 0
        self.closed = threading.Event()
        self.ended = threading.Event()
        self._pictures, self._error, self._gate, self._endless, self._fps = pictures, error, gate, endless, fps

    @property
    def info(self) -> SourceInfo:
        height, width = self._pictures[0].shape[:2] if len(self._pictures) else (360, 640)
        return SourceInfo(kind="test", width=width, height=height, fps=self._fps)

    def read(self) -> Frame | None:
        index = self.given
        if not self.closed.is_set() and (self._endless or index < len(self._pictures)):
            self._gate(index)
        if self.closed.is_set():
            return None
        if index >= len(self._pictures) and not self._endless:
            self.ended.set()
            if self._error is not None:
                raise self._error
            return None
        self.given += 1
        pixels = ArrayPixels(self._pictures[index % len(self._pictures)])
        return Frame(source=self.name, index=index, time_s=index / self._fps, pixels=pixels)

    def close(self) -> None:
        self.closed.set()

    def at_its_pace(self, index: int) -> None:
        """A gate: waits a frame's time, as a camera does."""
        self.closed.wait(1 / self._fps)
