"""Cameras that a clock plays: frames become due at 25 a second, and whoever is late finds only the newest.

Enters: an analyser and decoded frames. Leaves: how many frames were seen and how many were replaced unread, and how
long each took from its arrival to its names. One thread does everything, as one process on one GPU would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from engines.proofs.clock import Times
from realtime.device.analyser import DeviceAnalyser

FPS: Final = 25.0

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
"""Frames that go together; what is ready beyond the largest of these waits for the next turn."""

HELD: Final = 0.01
"""Share of frames that may be replaced unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What so many streams came to."""

    streams: int
    seen: int
    drops: int
    latencies: Times
    """From a frame's arrival to its names."""
    shares: dict[str, float]
    """Of the device's time by stage, the largest first."""
    busy: float
    """Share of the time in which a batch was under way."""

    @property
    def dropped(self) -> float:
        return self.drops / max(self.seen + self.drops, 1)

    @property
    def held(self) -> bool:
        return self.seen > 0 and self.dropped <= HELD

    @property
    def limit(self) -> str:
        """The stage with the largest share."""
        return next(iter(self.shares), "")


def play(
    analyser: DeviceAnalyser,
    frames: Sequence[torch.Tensor],
    streams: int,
    seconds: float,
    *,
    batches: Sequence[int] = BATCHES,
    fps: float = FPS,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Load:
    """
    Args:
        analyser: warm for all ``batches``.
        frames: (H, W, 3) uint8, on the device or in pinned memory; each stream starts with another one.
        streams: cameras; their frames arrive evenly spread.
        seconds: of playing.
        batches: sizes that go together, rising from 1.
        fps: of each camera.
        clock: of seconds.
        sleep: until a frame is due.
    """
    analyser.stages.clear()
    phase_N = np.arange(streams) / (streams * fps)
    last_N = np.full(streams, -1)
    offset_N = np.arange(streams) * max(1, len(frames) // streams)
    latencies: list[float] = []
    drops, busy = 0, 0.0
    start = clock()
    while (now := clock() - start) < seconds:
        newest_N = np.floor((now - phase_N) * fps).astype(int)
        ready = np.flatnonzero(newest_N > last_N)
        if not len(ready):
            sleep(max(0.0, float(((last_N + 1) / fps + phase_N).min()) - now))
            continue
        ready = ready[np.argsort(last_N[ready] / fps + phase_N[ready], kind="stable")]  # the longest unseen first
        chosen = ready[: max(size for size in batches if size <= len(ready))]
        arrived = newest_N[chosen] / fps + phase_N[chosen]
        drops += int((newest_N[chosen] - last_N[chosen] - 1).sum())
        last_N[chosen] = newest_N[chosen]
        analyser.analyse([frames[int(number) % len(frames)] for number in offset_N[chosen] + newest_N[chosen]])
        done = clock() - start
        busy += done - now
        latencies += [done - each for each in arrived]
    return Load(
        streams=streams,
        seen=len(latencies),
        drops=drops,
        latencies=Times(np.array(latencies or [0.0])),
        shares=analyser.stages.shares,
        busy=busy / max(clock() - start, 1e-9),
    )
