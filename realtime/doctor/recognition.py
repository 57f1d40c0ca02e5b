"""What finds and compares faces here: runtimes, the one that is used and why, detector, model files.

Enters: settings. Leaves: findings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import numpy as np

from engines.engine import Engine, LoadedEngine, RuntimeInfo, describe_runtimes
from engines.manifest import Manifest
from engines.models import DEFAULT, known_models
from engines.plans import plans_dir
from engines.runtimes import GPU, ROWS
from engines.store import stored_names
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
    """Every runtime in every arithmetic, fastest first, and why one is not available; a reason is given once."""
    by_reason: dict[str, list[RuntimeInfo]] = {}
    on_request = {row.title for row in ROWS if not row.auto}
    for info in describe_runtimes():
        if info.available:
            value = f"{info.version}, works here{' when asked for' if info.name in on_request else ''}"
            yield Finding(topic="recognition", name=info.name, value=value)
        else:
            by_reason.setdefault(info.reason, []).append(info)
    for reason, infos in by_reason.items():
        names = list(dict.fromkeys(info.name.split()[0] for info in infos))
        if len(infos) == 1:
            yield Finding(topic="recognition", name=infos[0].name, value=f"not used: {reason}")
        elif set(names) <= GPU:
            yield Finding(topic="recognition", name="GPU runtimes", value=f"not used: {reason} ({', '.join(names)})")
        else:
            yield Finding(topic="recognition", name=", ".join(names), value=f"not used: {reason}")


def engine_files() -> Finding:
    """What was built for this machine and is kept."""
    sizes = [path.stat().st_size for path in plans_dir().glob("*/*.plan")]
    if not sizes:
        return Finding(topic="recognition", name="engine files", value="none are built")
    count = "1 file" if len(sizes) == 1 else f"{len(sizes)} files"
    value = f"{count}, {sum(sizes) / 1e6:.0f} MB, in {plans_dir()}; what is deleted is built again"
    return Finding(topic="recognition", name="engine files", value=value)


def models() -> Iterator[Finding]:
    """Which models a name stands for here, and which could be had."""
    try:
        known = known_models()
    except EngineError as err:
        yield Finding(topic="recognition", name="models", value="not known", state="problem", advice=str(err))
        return
    here = list(dict.fromkeys((DEFAULT, *stored_names())))
    yield Finding(topic="recognition", name="models", value=f"here: {', '.join(here)}")
    if others := [name for name in known if name not in here]:
        value = f"{', '.join(others)}; `python -m engines list` says how to get them"
        yield Finding(topic="recognition", name="other models", value=value)


def embedding(settings: Settings) -> tuple[list[Finding], Manifest | None]:
    """Open the model as the program would and run it; its findings, and its manifest where it can be used."""
    chosen = settings.embed
    started_s = time.monotonic()
    try:
        engine = open_embedder(chosen, wait=False)
    except (EngineError, RealtimeError) as err:
        return [Finding(topic="recognition", name="model", value="not usable", state="problem", advice=str(err))], None
    try:
        opened_s = time.monotonic() - started_s
        took_ms = _milliseconds_a_face(engine)
        threads = "1 thread" if chosen.threads == 1 else f"{chosen.threads} threads"
        value = f"{took_ms:.1f} ms a face on {threads}, loaded in {opened_s:.2f} s"
        findings = [
            Finding(topic="recognition", name="used", value=engine.choice),
            *_better(engine),
            Finding(topic="recognition", name="speed", value=value),
            *_promises(engine.manifest),
        ]
        return findings, engine.manifest
    finally:
        engine.close()


def _better(engine: LoadedEngine) -> Iterator[Finding]:
    if engine.better is not None:
        yield Finding(
            topic="recognition",
            name="better",
            value=f"{engine.better.short}, not built yet",
            state="note",
            advice="`realtime` builds it at the next run: beside it with a camera, first with a file.",
        )


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
