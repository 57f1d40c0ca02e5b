"""What is decided about a frame before faces are followed in it: its small grey copy, scene cuts, where to detect.

Enters: frames of one source in order. Leaves: ``Prepared`` frames. It depends on pictures and order alone, never on
time, so a file gives the same plan every time, and detections can start in a pool before the tracker gets there.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.faces.boxes import scaled
from realtime.faces.detection import in_frame_of
from realtime.records import Faces, Frame
from realtime.settings import DetectSettings

SMALL_HEIGHT: Final = 360
"""Flow and scene changes are looked for in a copy of this height: a face of 60 pixels at 720p is 30 wide in it."""

THUMB: Final = (64, 36)
"""Scene changes are seen in thumbnails of this size, pixels."""

CUT_CORRELATION: Final = 0.45
"""Thumbnails that correlate less show two scenes: hard cuts give 0.0 - 0.25, a camera that swings round 0.7 and more.
A lamp or an exposure step hardly changes it."""

CUT_DIFFERENCE: Final = 6.0
"""Mean difference, grey levels of 255, below which two pictures are one scene however little they correlate: noise on
a dark or empty picture correlates with nothing."""

Look = Literal["fine", "coarse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A frame with what the tracker needs beside it."""

    frame: Frame
    small_grey: NDArray[np.uint8]
    small_scale: float
    """Small pixels per frame pixel."""
    cut: bool
    """The scene is another one than in the frame before."""
    detection: Future[Faces] | None
    """Faces of the whole frame, found or on their way; None where flow is enough."""


class Scout:
    """Prepares the frames of one source; one thread.

    Args:
        settings: the ``detect`` section.
        find: starts a detection: ``find(frame, smallest face in frame pixels)``.
    """

    def __init__(
        self, settings: DetectSettings, find: Callable[[Frame, float], Future[Faces]], *, every_frame: bool = False
    ) -> None:
        self._settings = settings
        self._find = find
        self._every_frame = every_frame
        self._thumb: NDArray[np.float32] | None = None
        self._size: tuple[int, int] | None = None
        self._next_look = 0
        self._next_fine_s = 0.0

    def prepare(self, frame: Frame) -> Prepared:
        scale = min(1.0, SMALL_HEIGHT / min(frame.width, frame.height))
        small = scaled(frame.grey, scale)
        cut = self._is_cut(small) | self._is_resized(frame)
        look = self._look(frame, cut)
        detection = None
        if look is not None:
            least = self._settings.min_face_px if look == "fine" else self._settings.coarse_face_px
            detection = self._find(frame, in_frame_of(min(frame.width, frame.height), least))
        return Prepared(
            frame=frame,
            small_grey=small,
            small_scale=small.shape[1] / frame.width,
            cut=cut,
            detection=detection,
        )

    def _look(self, frame: Frame, cut: bool) -> Look | None:
        """A new scene is searched finely; then a coarse look every few frames, a fine one every few seconds."""
        if self._every_frame:
            return "fine"
        if cut or frame.time_s >= self._next_fine_s:
            self._next_fine_s = frame.time_s + self._settings.fine_every_s
            self._next_look = frame.index + self._settings.every
            return "fine"
        if frame.index >= self._next_look:
            self._next_look = frame.index + self._settings.every
            return "coarse"
        return None

    def _is_resized(self, frame: Frame) -> bool:
        """A stream that changed its resolution: boxes of the frames before mean nothing in this one."""
        before, self._size = self._size, (frame.width, frame.height)
        return before is not None and before != self._size

    def _is_cut(self, small: NDArray[np.uint8]) -> bool:
        thumb = cv2.resize(small, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._thumb = self._thumb, thumb
        if before is None:
            return False
        return float(np.abs(thumb - before).mean()) > CUT_DIFFERENCE and _correlation(thumb, before) < CUT_CORRELATION


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Pearson's, 0 where one of the pictures is flat."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
