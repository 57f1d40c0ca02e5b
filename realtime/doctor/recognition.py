"""What finds and compares faces here: runtimes, the one that is used and why, detector, model files.

Enters: settings. Leaves: findings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import numpy as np

from engines.engine import Engine, describe_runtimes
from engines.manifest import Manifest
from realtime.doctor.report import Finding
from realtime.errors import EngineError, RealtimeError
from realtime.faces.embedding import open_embedder
from realtime.records import ArrayPixels, Frame
from realtime.settings import Settings

MEASURED_RUNS: Final = 5
"""The median of five runs is steady to a tenth; one run holds the first's surprises."""

DETECTORS: Final = {
    "hog": "dlib's HOG: quick, frontal faces",
    "cnn": "dlib's CNN: turned and half-covered faces too, slower",
    "yunet": "YuNet",
}


def runtimes() -> Iterator[Finding]:
    """Every runtime in every arithmetic, fastest first, and why one is not available."""
    for info in describe_runtimes():
        value = f"{info.version}, works here" if info.available else f"not used: {info.reason}"
        yield Finding(topic="recognition", name=info.name, value=value)


def embedding(settings: Settings) -> tuple[list[Finding], Manifest | None]:
    """Open the model as the program would and run it; its findings, and its manifest where it can be used."""
    chosen = settings.embed
    started_s = time.monotonic()
    try:
        engine = open_embedder(chosen)
    except EngineError as err:
        return [Finding(topic="recognition", name="model", value="not usable", state="problem", advice=str(err))], None
    try:
        opened_s = time.monotonic() - started_s
        took_ms = _milliseconds_a_face(engine)
        threads = "1 thread" if chosen.threads == 1 else f"{chosen.threads} threads"
        value = f"{took_ms:.1f} ms a face on {threads}, loaded in {opened_s:.2f} s"
        findings = [
            Finding(topic="recognition", name="used", value=engine.choice),
            Finding(topic="recognition", name="speed", value=value),
            *_promises(engine.manifest),
        ]
        return findings, engine.manifest
    finally:
        engine.close()


def _promises(manifest: Manifest) -> Iterator[Finding]:
    value = f"{manifest.name}: {manifest.dimensions} numbers a face, alignment {manifest.template}, {manifest.licence}"
    yield Finding(topic="recognition", name="model", value=value)
    if manifest.threshold_fmr is None:
        yield Finding(
            topic="recognition",
            name="threshold",
            value=f"{manifest.threshold:g}, never measured",
            state="note",
            advice="Measure it on labelled photos before names are trusted: realtime calibrate --help",
        )
        return
    value = f"{manifest.threshold:g}, at a false match rate of {manifest.threshold_fmr:g} a comparison"
    yield Finding(topic="recognition", name="threshold", value=value)


def _milliseconds_a_face(engine: Engine) -> float:
    size = engine.manifest.input_size
    face_1SS3 = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    took_s = []
    for _ in range(MEASURED_RUNS + 1):
        started_s = time.perf_counter()
        engine.run(face_1SS3)
        took_s.append(time.perf_counter() - started_s)
    return float(np.median(took_s[1:])) * 1000


def detector(settings: Settings) -> Iterator[Finding]:
    """Open the detector that the settings name, and look at one empty 720p frame with it."""
    from realtime.faces.detection import detect, open_detector, scale_for

    frame = Frame(source="doctor", index=0, time_s=0.0, pixels=ArrayPixels(np.zeros((720, 1280, 3), dtype=np.uint8)))
    kind, wanted_px = settings.detect.kind, settings.detect.min_face_px
    try:
        found = open_detector(settings.detect)
        scale = scale_for(found, wanted_px, frame.width, frame.height)
        detect(found, frame, scale)  # the first look pays for what is made once
        started_s = time.perf_counter()
        detect(found, frame, scale)
    except (RealtimeError, EngineError) as err:
        yield Finding(
            topic="recognition", name="detector", value=f"{kind}, not usable", state="problem", advice=str(err)
        )
        return
    took_ms = (time.perf_counter() - started_s) * 1000
    value = f"{DETECTORS[kind]}; faces from {wanted_px} pixels at 720p; {took_ms:.0f} ms a look"
    yield Finding(topic="recognition", name="detector", value=value)


def landmarks(settings: Settings) -> Iterator[Finding]:
    """The file of dlib's shape predictor, and whose data it was trained on."""
    from realtime.faces.landmarks import Landmarker

    points = settings.align.landmarks
    try:
        Landmarker(points)
    except (RealtimeError, EngineError) as err:
        yield Finding(topic="recognition", name="landmarks", value="not usable", state="problem", advice=str(err))
        return
    if points == "68":
        advice = "The 68-point model was trained on data for non-commercial use only; --set align.landmarks=5 is free."
        yield Finding(topic="recognition", name="landmarks", value="dlib, 68 points", state="note", advice=advice)
        return
    yield Finding(topic="recognition", name="landmarks", value="dlib, 5 points")
