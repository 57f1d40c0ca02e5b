"""What dlib's networks cost here: the dlib wheel beside each runtime, in one run.

Enters: how many faces and rounds. Leaves: one row a contestant. Rounds are interleaved (everyone once, then everyone
again), so that a busy neighbour slows all alike, and medians are taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.dlib_detector import CnnDetector
from engines.dlib_graphs import CHIP
from engines.engine import open_model
from engines.models import CNN_DETECTOR, DEFAULT, find_weights, known_model
from engines.runtimes import describe_runtimes
from engines.store import default_model

FRAME: Final = (480, 640)
"""Height and width of the detector's frame, pixels."""

REFERENCE: Final = "dlib wheel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contestant at one task."""

    task: str
    """``embed 1``, ``embed 8`` (milliseconds a face), ``detect 640x480`` (milliseconds a frame)."""
    engine: str
    threads: int
    median_ms: float
    speed_up: float
    """How many times faster than the dlib wheel in this run."""
    rounds: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Contestant:
    task: str
    engine: str
    threads: int
    items: int
    once: Callable[[], object]


def bench_engines(*, faces: int = 8, repeats: int = 5, threads: int | None = None) -> list[Row]:
    """Time every runtime that works here against the dlib wheel.

    Args:
        faces: of the larger batch; 1 is always measured too.
        repeats: rounds, after one that warms up.
        threads: of the runtimes, at most 2 if not given; the wheel has always one.

    Raises:
        ModelFileError: dlib's weights are not installed.
        ValueError: ``faces``, ``repeats`` or ``threads`` below 1.
    """
    if faces < 1 or repeats < 1:
        raise ValueError(f"faces is {faces} and repeats {repeats}; both must be at least 1")
    threads = min(2, os.cpu_count() or 1) if threads is None else threads
    noise = np.random.default_rng(0)
    chips_NHWC = noise.integers(0, 256, (faces, CHIP, CHIP, 3), dtype=np.uint8)
    frame_HW3 = noise.integers(0, 256, (*FRAME, 3), dtype=np.uint8)
    contestants = [
        *_embedders(chips_NHWC[:1], threads),
        *(_embedders(chips_NHWC, threads) if faces > 1 else ()),
        *_detectors(frame_HW3, threads),
    ]
    return _rows(contestants, _time(contestants, repeats), repeats)


def format_rows(rows: list[Row]) -> str:
    """A table for people."""
    head = ("task", "engine", "threads", "median ms", "speed-up")
    cells = [(r.task, r.engine, str(r.threads), f"{r.median_ms:.2f}", f"{r.speed_up:.1f}x") for r in rows]
    widths = [max(len(line[i]) for line in (head, *cells)) for i in range(len(head))]
    lines = []
    for line in (head, *cells):
        texts = (
            cell.rjust(w) if i > 1 else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join(texts).rstrip())
    return "\n".join(lines)


def _embedders(chips_NHWC: NDArray[np.uint8], threads: int) -> list[_Contestant]:
    """dlib's own form (neither mirrored nor unit length), and last the form that the product uses."""
    import dlib

    task = f"embed {len(chips_NHWC)}"
    network = dlib.face_recognition_model_v1(str(known_model(DEFAULT).weights_path()))
    chips = list(chips_NHWC)
    found = [_Contestant(task, REFERENCE, 1, len(chips), lambda: network.compute_face_descriptor(chips))]
    plain, product = default_model(unit_length=False, mirrored=False), default_model()
    forms = [(plain, pair, "") for pair in _pairs()] + [(product, _pairs()[0], ", mirrored")]
    for model, (runtime, precision), note in forms:
        engine = open_model(model, runtime=runtime, precision=precision, threads=threads)
        name = f"{runtime} {precision}{note}"
        found.append(_Contestant(task, name, threads, len(chips), lambda run=engine.run: run(chips_NHWC)))  # type: ignore[misc]
    return found


def _detectors(frame_HW3: NDArray[np.uint8], threads: int) -> list[_Contestant]:
    import dlib

    task = f"detect {frame_HW3.shape[1]}x{frame_HW3.shape[0]}"
    wheel = dlib.cnn_face_detection_model_v1(str(find_weights(*CNN_DETECTOR)))
    found = [_Contestant(task, REFERENCE, 1, 1, lambda: wheel(frame_HW3, 0))]
    for runtime, precision in _pairs():
        detector = CnnDetector(runtime=runtime, precision=precision, threads=threads)
        name = f"{runtime} {precision}"
        found.append(_Contestant(task, name, threads, 1, lambda run=detector.detect: run(frame_HW3)))  # type: ignore[misc]
    return found


def _pairs() -> list[tuple[str, str]]:
    """Runtime and precision of everything that works here, fastest first."""
    names = [info.name.split() for info in describe_runtimes() if info.available]
    return [(runtime, precision) for runtime, precision in names]


def _time(contestants: list[_Contestant], repeats: int) -> list[list[float]]:
    """Seconds of each round, a list a contestant."""
    taken: list[list[float]] = [[] for _ in contestants]
    for contestant in contestants:
        contestant.once()
    for _ in range(repeats):
        for contestant, seconds in zip(contestants, taken, strict=True):
            start = time.perf_counter()
            contestant.once()
            seconds.append(time.perf_counter() - start)
    return taken


def _rows(contestants: list[_Contestant], taken: list[list[float]], repeats: int) -> list[Row]:
    medians = [1e3 * float(np.median(seconds)) / c.items for c, seconds in zip(contestants, taken, strict=True)]
    wheel = {c.task: ms for c, ms in zip(contestants, medians, strict=True) if c.engine == REFERENCE}
    return [
        Row(
            task=c.task,
            engine=c.engine,
            threads=c.threads,
            median_ms=round(ms, 3),
            speed_up=round(wheel[c.task] / ms, 2),
            rounds=repeats,
        )
        for c, ms in zip(contestants, medians, strict=True)
    ]
