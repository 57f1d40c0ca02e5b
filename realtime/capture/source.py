"""The contract of everything that frames come from, and the one place that opens them.

Enters: what a person typed after ``--source``. Leaves: a ``Source`` that gives frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from realtime.records import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What is known of a source once it is open."""

    kind: str
    """``webcam``, ``video file``, ``stream``, ``images`` or ``demo``."""
    width: int
    """Of a frame as it is given out, so after rotation; pixels."""
    height: int
    fps: float | None
    """Nominal frames a second; None where the source has no rate (a folder of photos)."""
    frames: int | None = None
    """About how many frames will come: for a progress bar only, containers lie. None for live sources."""
    codec: str = ""
    rotation: int = 0
    """Degrees by which frames were turned to stand upright."""
    audio: bool = False


class Source(Protocol):
    """Where frames come from. Opened by ``open_source``; read by one thread; closed by whoever opened it."""

    @property
    def name(self) -> str:
        """Short, unique among the sources of a run, safe to print: no password in it."""

    @property
    def live(self) -> bool:
        """True: only the newest frame matters. False: every frame is processed, in order."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def status(self) -> str:
        """Empty while all is well; else one sentence, as "reconnecting in 4 s: no frame for 5 s"."""

    def read(self) -> Frame | None:
        """The next frame, blocking; None at the end. ``index`` counts from 0, ``time_s`` starts at 0.

        Raises:
            SourceError: nothing more can come, and why.
        """

    def close(self) -> None:
        """Stop and free; wakes a blocked ``read`` soon (it returns None); may be called twice, from any thread."""
