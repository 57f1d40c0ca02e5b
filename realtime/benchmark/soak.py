"""The program as it runs for days, in minutes: a looped file as a live camera, and what memory does meanwhile.

Enters: a ``Job`` and a duration. Leaves: samples of resident memory and their growth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from engines.benchmark.usage import resident_mib
from realtime.benchmark.loops import Job, open_pipeline
from realtime.errors import RealtimeError

WARM_SHARE: Final = 0.2
"""Of the samples, at the start: buffers and caches fill, nothing is concluded from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    minutes: float
    frames: int
    """Frames that were shown."""
    drops: int
    named: int
    """Frames with a name: the whole pipeline was at work."""
    samples: tuple[tuple[float, float], ...]
    """(seconds since the start, resident MiB)."""

    @property
    def settled(self) -> tuple[tuple[float, float], ...]:
        return self.samples[int(len(self.samples) * WARM_SHARE) :]

    @property
    def growth_mb(self) -> float:
        """Median of the last fifth of the settled samples over that of their first fifth."""
        values = [mb for _, mb in self.settled]
        part = max(1, len(values) // 5)
        return median(values[-part:]) - median(values[:part])

    @property
    def growth_mb_per_hour(self) -> float:
        """Median slope over all pairs of settled samples (Theil-Sen): one jump does not make a leak."""
        slopes = [
            (later_mb - mb) / (later_s - second)
            for k, (second, mb) in enumerate(self.settled)
            for later_s, later_mb in self.settled[k + 1 :]
        ]
        return 3600 * median(slopes) if slopes else 0.0


def soak(
    job: Job, minutes: float, *, every_s: float = 5.0, progress: Callable[[float, float], None] = lambda done, mb: None
) -> Soak:
    """Run the job's clip as a looped live source.

    Args:
        every_s: seconds between two samples.
        progress: told the share done and the resident memory in MiB at each sample.

    Raises:
        RealtimeError: this system does not tell a process its memory, or the pipeline failed.
    """
    if resident_mib() is None:
        raise RealtimeError("this system does not tell how much memory a process holds; run the soak on Linux")
    live = replace(job, overrides=(*job.overrides, "capture.as_live=true", "capture.loop=true"))
    samples: list[tuple[float, float]] = []
    frames = named = drops = 0
    with open_pipeline(live) as pipeline:
        start_s = time.monotonic()
        next_s = every_s
        with pipeline:
            for result in pipeline.results():
                now_s = time.monotonic() - start_s
                if result is not None:
                    frames += 1
                    named += any(sighting.name is not None for sighting in result.sightings)
                if now_s >= next_s:
                    next_s += every_s
                    samples.append((now_s, resident_mib() or 0.0))
                    progress(min(1.0, now_s / (60 * minutes)), samples[-1][1])
                if now_s >= 60 * minutes:
                    break
            drops = sum(status.drops for status in pipeline.statuses())
    return Soak(minutes=minutes, frames=frames, drops=drops, named=named, samples=tuple(samples))
