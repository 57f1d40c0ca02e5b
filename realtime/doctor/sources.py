"""Cameras that are there, and what a source really delivers.

Enters: what a person typed after ``--source``. Leaves: findings, with the rate and the jitter of three seconds.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from realtime.capture.source import Source, open_source, redact
from realtime.doctor.report import Finding
from realtime.errors import EngineError, RealtimeError
from realtime.settings import CaptureSettings

MEASURED_S: Final = 3.0
"""Long enough for 90 frames of a camera; short enough to wait for."""

DARK: Final = 8.0
"""Mean grey level below which a picture shows nothing: a closed lid, a camera in a drawer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out of a source."""

    frames: int
    opened_s: float
    """From asking to the first frame."""
    seconds: float
    """From the first frame to the last."""
    intervals_s: tuple[float, ...]
    """Between the arrivals of neighbouring frames."""
    size: tuple[int, int]
    brightness: float
    """Mean grey level of the last frame, 0..255."""

    @property
    def fps(self) -> float:
        return (self.frames - 1) / self.seconds if self.seconds > 0 else 0.0


def cameras(devices: Path = Path("/sys/class/video4linux")) -> Iterator[Finding]:
    """Cameras that Linux lists; other systems have no list. None is opened: another program may be using it."""
    if not devices.is_dir():
        value = "none listed by this system"
        advice = "Where there is a webcam, try it: realtime doctor --source 0"
        yield Finding(topic="cameras", name="webcams", value=value, state="note", advice=advice)
        return
    for device in sorted(devices.iterdir(), key=lambda path: (len(path.name), path.name)):
        try:
            name = (device / "name").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = "unnamed"
        index = device.name.removeprefix("video")
        yield Finding(topic="cameras", name=f"/dev/{device.name}", value=f"{name} (realtime --source {index})")


def examine_source(spec: str, settings: CaptureSettings, *, measured_s: float = MEASURED_S) -> Iterator[Finding]:
    """Open it, read for ``measured_s`` seconds, say what came. Failure is a finding with the source's own sentence."""
    started_s = time.monotonic()
    try:
        source = open_source(spec, settings)
    except (RealtimeError, EngineError) as err:
        yield _failed(redact(spec), str(err))
        return
    try:
        measured = measure(source, started_s, measured_s, patience_s=2 * settings.timeout_s + measured_s)
    except (RealtimeError, EngineError) as err:
        yield _failed(source.name, str(err))
        return
    finally:
        source.close()
    if measured is None:
        sentence = source.status or "no frame came"
        yield _failed(source.name, f"{source.name}: {sentence}")
        return
    yield from _properties(source, measured)


def measure(source: Source, started_s: float, measured_s: float, *, patience_s: float) -> Measured | None:
    """Read frames for ``measured_s`` seconds from the first on; None where none came within ``patience_s``."""
    # a source that hangs is closed from outside, which wakes its read
    watchdog = threading.Timer(patience_s, source.close)
    watchdog.daemon = True
    watchdog.start()
    try:
        frame = source.read()
        if frame is None:
            return None
        arrivals_s = [time.monotonic()]
        last = frame
        while arrivals_s[-1] - arrivals_s[0] < measured_s and (frame := source.read()) is not None:
            arrivals_s.append(time.monotonic())
            last = frame
    finally:
        watchdog.cancel()
    return Measured(
        frames=len(arrivals_s),
        opened_s=arrivals_s[0] - started_s,
        seconds=arrivals_s[-1] - arrivals_s[0],
        intervals_s=tuple(b - a for a, b in itertools.pairwise(arrivals_s)),
        size=(last.width, last.height),
        brightness=float(last.grey.mean()),
    )


def _properties(source: Source, measured: Measured) -> Iterator[Finding]:
    info, name = source.info, source.name
    parts = [info.kind, f"{measured.size[0]}x{measured.size[1]}"]
    parts += [info.codec] if info.codec else []
    parts += [f"{info.fps:g} frames a second"] if info.fps else []
    parts += [f"about {info.frames} frames"] if info.frames else []
    parts += [f"turned by {info.rotation} degrees"] if info.rotation else []
    parts += ["with sound"] if info.audio else []
    yield Finding(topic="source", name=name, value=", ".join(parts))
    yield Finding(topic="source", name="first frame", value=f"after {measured.opened_s:.2f} s")
    if source.live:
        yield from _live_rate(measured, info.fps)
    elif measured.frames > 1:
        times = f", {measured.fps / info.fps:.1f} times its own pace" if info.fps else ""
        yield Finding(topic="source", name="decoding", value=f"{measured.fps:.0f} frames a second{times}")
    if measured.brightness < DARK:
        advice = "The picture is black: open the camera's cover, or put a light on."
        yield Finding(topic="source", name="picture", value="black", state="note", advice=advice)


def _live_rate(measured: Measured, promised_fps: float | None) -> Iterator[Finding]:
    if measured.frames < 3:
        advice = "Too few to name anybody: check the network, the cable, or who else reads this camera."
        value = f"{measured.frames} in {measured.seconds:.1f} s"
        yield Finding(topic="source", name="frames", value=value, state="problem", advice=advice)
        return
    slow = promised_fps is not None and measured.fps < 0.7 * promised_fps
    yield Finding(
        topic="source",
        name="arriving",
        value=f"{measured.fps:.1f} frames a second",
        state="note" if slow else "ok",
        advice=f"{promised_fps:g} were promised; cameras slow down in poor light, networks when full." if slow else "",
    )
    middle_ms = statistics.median(measured.intervals_s) * 1000
    spread_ms = statistics.pstdev(measured.intervals_s) * 1000
    longest_ms = max(measured.intervals_s) * 1000
    value = f"{middle_ms:.0f} ms apart, jitter {spread_ms:.1f} ms, longest wait {longest_ms:.0f} ms"
    yield Finding(topic="source", name="regularity", value=value)


def _failed(name: str, sentence: str) -> Finding:
    return Finding(topic="source", name=name, value="not usable", state="problem", advice=sentence)
