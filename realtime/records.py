"""The records that pass between the stages. Frozen, checked once at birth; imports nothing of ours.

Images are uint8 RGB (H, W, 3); boxes are xyxy pixels of their frame, inclusive-exclusive; points are xy pixels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

# N faces; H, W pixels; 4 = x1, y1, x2, y2; D embedding
RGB_HW3 = NDArray[np.uint8]
Grey_HW = NDArray[np.uint8]
Boxes_N4 = NDArray[np.float32]
Scores_N = NDArray[np.float32]

State = Literal["named", "unknown", "pending"]
EventKind = Literal["appeared", "named", "renamed", "left"]


class Pixels(Protocol):
    """A decoded picture in whatever form the decoder left it; converted when somebody asks."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def rgb(self) -> RGB_HW3:
        """(H, W, 3) uint8."""

    def grey(self) -> Grey_HW:
        """(H, W) uint8 luma; may be the decoder's own plane, so never written to, and rows may be strided."""


class ArrayPixels:
    """Pixels of an RGB array that already exists (a photo, a webcam frame, a drawn scene)."""

    def __init__(self, rgb_HW3: RGB_HW3) -> None:
        if rgb_HW3.dtype != np.uint8 or rgb_HW3.ndim != 3 or rgb_HW3.shape[2] != 3:
            raise ValueError(f"image must be uint8 (H, W, 3) RGB, but got {rgb_HW3.dtype} {rgb_HW3.shape}")
        self._rgb = rgb_HW3

    @property
    def width(self) -> int:
        return int(self._rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self._rgb.shape[0])

    def rgb(self) -> RGB_HW3:
        return self._rgb

    def grey(self) -> Grey_HW:
        import cv2

        grey: Grey_HW = np.asarray(cv2.cvtColor(self._rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        return grey


class Frame:
    """One picture of one source. ``rgb`` and ``grey`` are made on first use and kept; neither is ever written to."""

    def __init__(
        self, *, source: str, index: int, time_s: float, pixels: Pixels, captured_at_s: float | None = None
    ) -> None:
        if index < 0:
            raise ValueError(f"frame index is {index}; it counts from 0")
        self.source = source
        """Name of the source, safe to print."""
        self.index = index
        """Counts the source's frames from 0; a live source's dropped frames leave gaps."""
        self.time_s = time_s
        """Seconds since the source's first frame, from its own timestamps."""
        self.captured_at_s = time.monotonic() if captured_at_s is None else captured_at_s
        """``time.monotonic()`` when the frame left the decoder: latency is counted from here."""
        self._pixels = pixels

    @property
    def width(self) -> int:
        return self._pixels.width

    @property
    def height(self) -> int:
        return self._pixels.height

    @cached_property
    def rgb(self) -> RGB_HW3:
        return self._pixels.rgb()

    @cached_property
    def grey(self) -> Grey_HW:
        return self._pixels.grey()

    def __repr__(self) -> str:
        return f"Frame({self.source!r}, index={self.index}, time_s={self.time_s:.3f}, {self.width}x{self.height})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """What a detector found in one frame: ``boxes_N4`` xyxy pixels, ``scores_N`` in the detector's own scale."""

    boxes_N4: Boxes_N4
    scores_N: Scores_N

    def __post_init__(self) -> None:
        if self.boxes_N4.ndim != 2 or self.boxes_N4.shape[1:] != (4,):
            raise ValueError(f"boxes must have shape (N, 4), but got {self.boxes_N4.shape}")
        if self.scores_N.shape != self.boxes_N4.shape[:1]:
            raise ValueError(f"{len(self.boxes_N4)} boxes need as many scores, but got shape {self.scores_N.shape}")

    @classmethod
    def of(cls, boxes: Any, scores: Any) -> Faces:
        """From any nested sequences; empty ones give no faces."""
        return cls(
            boxes_N4=np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
            scores_N=np.asarray(scores, dtype=np.float32).reshape(-1),
        )

    @classmethod
    def none(cls) -> Faces:
        return cls.of([], [])

    def __len__(self) -> int:
        return len(self.boxes_N4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One face in one frame, as the outputs get it."""

    track: int
    """Stable while the face is followed in one source; never used again in it."""
    box: tuple[float, float, float, float]
    state: State
    name: str | None
    """The person's name where ``state`` is ``named``, else None."""
    distance: float | None
    """Squared L2 to the nearest person, named or not; None until the face was first compared."""
    second_distance: float | None
    """Squared L2 to the nearest other person; None where the gallery has no second person."""
    detector_score: float
    """Of the track's last detection, in the detector's own scale."""

    def __post_init__(self) -> None:
        if (self.state == "named") != (self.name is not None):
            raise ValueError(f"state {self.state!r} does not go with name {self.name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A frame and who is in it."""

    frame: Frame
    sightings: tuple[Sighting, ...]
    latency_ms: float
    """From the frame leaving the decoder to this record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a person would want to be told of: somebody appeared, got a name, another name, or left."""

    event: EventKind
    source: str
    track: int
    name: str | None
    frame: int
    time_s: float
    distance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """How a source is doing, for the wall and the log."""

    source: str
    state: Literal["starting", "running", "reconnecting", "ended", "failed"]
    message: str = ""
    """One sentence for people, without passwords; empty while running."""
    frames: int = 0
    drops: int = 0
    """Frames of a live source that were replaced unread."""
    fps: float = 0.0
    """Frames a second that were shown, over the last seconds."""
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A subject in the gallery, as lists show it."""

    person_id: int
    name: str
    references: int
    created_at: str = field(default="")
    """ISO 8601, UTC."""
