"""What the tests of show/ draw on: a real face, sightings, results, and a video with sound."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from realtime.records import ArrayPixels, Frame, Result, Sighting, SourceStatus, State

FACE = (170.0, 70.0, 280.0, 190.0)
"""Of the astronaut's portrait, 512 x 512."""


def portrait() -> Any:
    """The public-domain astronaut, (512, 512, 3) uint8 RGB."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return cv2.cvtColor(cv2.imread(str(Path(spec.origin).parent / "data" / "astronaut.png")), cv2.COLOR_BGR2RGB)


def seen(
    track: int = 1,
    box: tuple[float, float, float, float] = FACE,
    state: State = "unknown",
    name: str | None = None,
    **more: Any,
) -> Sighting:
    values = {"distance": 0.12, "second_distance": 0.4, "detector_score": 1.5, **more}
    return Sighting(track=track, box=box, state="named" if name is not None else state, name=name, **values)


def result(index: int, *faces: Sighting, source: str = "door", fps: float = 30.0, **more: Any) -> Result:
    pixels = ArrayPixels(np.zeros((4, 4, 3), np.uint8))
    frame = Frame(source=source, index=index, time_s=index / fps, pixels=pixels)
    return Result(frame=frame, sightings=faces, latency_ms=more.get("latency_ms", 12.34))


def running(**more: Any) -> SourceStatus:
    return SourceStatus(**{"source": "door", "state": "running", "fps": 29.6, "latency_ms": 41.0, "drops": 3, **more})


def film(path: Path, *, codec: str = "aac", seconds: int = 2, rate: int = 48000) -> Path:
    """A file with 25 grey pictures a second and a tone in ``codec``."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = out.add_stream(codec, rate=rate, layout="stereo")
        audio.codec_context.open()
        for number in range(25 * seconds):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        tone = (np.sin(np.arange(rate * seconds) / rate * 2 * np.pi * 440) * 8000).astype(np.int16)
        sound: Any = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], format="s16", layout="stereo")
        sound.rate, sound.pts = rate, 0
        size = audio.codec_context.frame_size or 1024
        pieces = av.AudioResampler(format=audio.format, layout="stereo", rate=rate, frame_size=size)
        for piece in [*pieces.resample(sound), *pieces.resample(None)]:
            out.mux(audio.encode(piece))
        out.mux(audio.encode(None))
    return path
