"""How long calls take on a device.

Enters: a call and the device that it works on. Leaves: the seconds of each of many calls, or calls a second. A GPU
works on its own: it is timed with its own events, or waited for before a clock is read.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

WARM_UPS: Final = 3
"""Calls before any is timed: kernels are compiled and chosen in them."""

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Times:
    """Of some calls, in the order in which they were made."""

    seconds_N: NDArray[np.float64]

    @property
    def p50_ms(self) -> float:
        return self.percentile_ms(50)

    @property
    def p95_ms(self) -> float:
        return self.percentile_ms(95)

    @property
    def p99_ms(self) -> float:
        """With fewer than 100 calls, the slowest."""
        return self.percentile_ms(99)

    def percentile_ms(self, percent: float) -> float:
        return 1e3 * float(np.percentile(self.seconds_N, percent, method="inverted_cdf"))

    def per_s(self, items: int) -> float:
        """Items a second where each call does ``items``, at the median."""
        return items / float(np.median(self.seconds_N))


def device_of(name: str = "auto") -> torch.device:
    """``cuda`` where torch sees a GPU, else ``cpu``; or the one that is named."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The GPU's name as its driver tells it, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_memory() -> None:
    """Give back what nobody holds any more, so that the next contestant has the whole device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def device_times(call: Call, device: torch.device, *, seconds: float = 0.5, least: int = 10) -> Times:
    """What the device itself takes for each call, the host's part left out where it is shorter.

    The calls are given to the device without waiting between them; on a processor this is the time of the call.

    Args:
        call: works on the current stream of ``device``.
        device: that is timed.
        seconds: of measuring.
        least: calls, however long they take.
    """
    if device.type != "cuda":
        return host_times(call, device, seconds=seconds, least=least)
    for _ in range(WARM_UPS):
        call()
    wait_for(device)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(least + 1)]  # type: ignore[no-untyped-call]
        marks[0].record()
        for mark in marks[1:]:
            call()
            mark.record()
        marks[-1].synchronize()
        times += [before.elapsed_time(after) / 1e3 for before, after in pairwise(marks)]
    return Times(np.array(times))


def host_times(call: Call, device: torch.device, *, seconds: float = 0.5, least: int = 10) -> Times:
    """What the caller waits for each call, until its results are there."""
    for _ in range(WARM_UPS):
        call()
    wait_for(device)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return Times(np.array(times))


def matmul_flop_s(device: torch.device, dtype: torch.dtype, *, side: int | None = None) -> float:
    """Multiplications and additions a second in square matrix products of random numbers, at the median.

    Args:
        device: to measure.
        dtype: of the matrices; float32 without TF32.
        side: of the matrices; 8192 on a GPU, 512 on a processor if not given.
    """
    side = side or (8192 if device.type == "cuda" else 512)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    times = device_times(lambda: torch.mm(a, b, out=out), device, seconds=0.3)
    return 2.0 * side**3 / float(np.median(times.seconds_N))


def copy_bytes_s(device: torch.device, *, size: int | None = None) -> float:
    """Bytes a second of a copy within the device, read and written bytes both counted.

    Args:
        device: to measure.
        size: of what is copied, bytes; 4 GiB on a GPU, 64 MiB on a processor if not given.
    """
    size = size or ((4 << 30) if device.type == "cuda" else (64 << 20))
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = device_times(lambda: target.copy_(source), device, seconds=0.3)
    return 2.0 * size / float(np.median(times.seconds_N))
