"""What a run comes to, in a few lines: how much, how fast, who."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime.app.outputs import Outputs
from realtime.app.people_output import counted, say
from realtime.records import Result, SourceStatus


@dataclass(slots=True)
class _Seen:
    frames: int = 0
    first_s: float = 0.0


class Summary:
    """Counts results as they come."""

    def __init__(self) -> None:
        self.frames = 0
        self._started_s: float | None = None
        self._ended_s = 0.0
        self._faces = 0
        self._people: dict[str, _Seen] = defaultdict(_Seen)

    def count(self, result: Result) -> None:
        self._ended_s = time.monotonic()
        if self._started_s is None:
            self._started_s = self._ended_s
        self.frames += 1
        self._faces += bool(result.sightings)
        for name in {face.name for face in result.sightings if face.name is not None}:
            seen = self._people[name]
            if not seen.frames:
                seen.first_s = result.frame.time_s
            seen.frames += 1

    def tell(self, statuses: Sequence[SourceStatus], outputs: Outputs) -> None:
        """Print it; to stderr where standard output carries data."""
        to_stderr = outputs.uses_stdout
        took_s = self._ended_s - (self._started_s or 0.0)
        rate = f", {(self.frames - 1) / took_s:.0f} a second" if self.frames > 1 and took_s > 0 else ""
        drops = sum(status.drops for status in statuses)
        dropped = f", {drops} dropped to stay live" if drops else ""
        say(f"{counted(self.frames, 'frame')}{rate}{dropped}; faces in {self._faces}", err=to_stderr)
        for name, seen in sorted(self._people.items(), key=lambda item: -item[1].frames):
            say(f"{name}: named in {counted(seen.frames, 'frame')}, first at {seen.first_s:.1f} s", err=to_stderr)
        if self.frames and not self._people:
            say("nobody was named", err=to_stderr)
        for file in outputs.files:
            if Path(file).exists():  # a video without a frame is none
                say(f"wrote {file}", err=to_stderr)
