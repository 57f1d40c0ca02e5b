"""Videos made on the spot, with what real files have wrong with them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

X264 = {"g": "6", "bf": "0", "preset": "ultrafast"}
TIME_BASE = Fraction(1, 90_000)


def scene(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) RGB: upper left quarter red, the rest grey that grows with ``number``."""
    image = np.full((height, width, 3), 60 + number % 100, dtype=np.uint8)
    image[: height // 2, : width // 2] = (230, 30, 30)
    return image


def make_film(
    path: Path,
    *,
    frames: int = 12,
    width: int = 96,
    height: int = 64,
    fps: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times_s: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
    noise: bool = False,
) -> Path:
    """Writes ``frames`` scenes; ``times_s`` gives each its own time, else they are ``fps`` a second."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=fps, options=X264 if options is None else options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        for number in range(frames):
            image = scene(number, width, height)
            if noise:
                image = rng.integers(0, 256, image.shape, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = TIME_BASE
            frame.pts = round((times_s[number] if times_s is not None else number / fps) / TIME_BASE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path: Path, clockwise: int) -> Path:
    """Writes a phone's display matrix into an MP4: players turn its pictures ``clockwise`` degrees."""
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    matrix = struct.pack(">9i", cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: flags, times, track, duration, layer, volume, then the matrix
    data[at : at + 36] = matrix
    path.write_bytes(data)
    return path


def make_sound(path: Path) -> Path:
    """A file with nothing to look at."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        for number in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44_100, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
