"""Running the command as a person does: in this process where only its words and files matter, else as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import cv2
import numpy as np

from tests.realtime.pictures import astronaut

FPS = 25
WIDTH, HEIGHT = 640, 360


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def sentence(self) -> str:
        """The one sentence that says what is wrong, without its ``realtime: ``; fails where there is none, or more."""
        assert "Traceback" not in self.err
        said = [line for line in self.err.splitlines() if line.startswith("realtime: ") and "no window" not in line]
        assert len(said) == 1, self.err
        assert self.err.rstrip().endswith(said[0])
        return said[0].removeprefix("realtime: ")


Realtime = Callable[..., Ran]


@dataclass
class Running:
    """A command that goes on; ``err`` is the file that its standard error goes to."""

    process: subprocess.Popen[bytes]
    err: Path

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self, signal_number: int | None = None) -> Ran:
        """Send the signal, wait, and tell what was said that nobody has read yet."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        out, _ = self.process.communicate(timeout=60)
        return Ran(self.process.returncode, (out or b"").decode(), self.err.read_text())


def start(
    folder: Path, *arguments: object, python: str | None = None, display: str | None = None, **more: Any
) -> Running:
    """``realtime ARGS`` as a process on ``display`` or none; ``python``: a program to run in its place."""
    command = [sys.executable, "-c", python or "from realtime.app import main; main()", *map(str, arguments)]
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    if display is not None:
        environment["DISPLAY"] = display
    err = folder / "stderr.txt"
    with err.open("wb") as errors:
        more = {"stdout": subprocess.PIPE, **more}
        process = subprocess.Popen(command, stderr=errors, env=environment, **more)
    return Running(process, err)


def eventually(what: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """The first true value of ``what``; a busy machine gets time."""
    until_s = time.monotonic() + within_s
    while not (value := what()):
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.02)
    return value


def whole_lines(path: Path) -> list[Any]:
    """The records of a JSON lines file, every one of them whole."""
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def pictures(path: Path) -> list[Any]:
    """(H, W, 3) RGB pictures of a video."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [round(float(frame.time or 0.0), 3) for frame in container.decode(video=0)]


def make_portrait_film(path: Path, *, frames: int = 40, sound: bool = False) -> Path:
    """A camera that moves slowly over the astronaut's portrait, 640 x 360."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "10"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio: Any = out.add_stream("aac", rate=44_100, layout="mono") if sound else None
        for number, view_HW3 in enumerate(_views(frames)):
            frame = av.VideoFrame.from_ndarray(view_HW3, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for number in range(frames * 44_100 // FPS // 1024 if sound else 0):
            tone = (np.sin(np.arange(1024) / 9) * 0.2).astype(np.float32)
            piece: Any = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            piece.sample_rate, piece.pts = 44_100, number * 1024
            out.mux(audio.encode(piece))
        if sound:
            out.mux(audio.encode(None))
    return path


def _views(frames: int) -> Iterator[np.ndarray[Any, Any]]:
    portrait = astronaut()
    for number in range(frames):
        matrix = np.array([[0.8, 0, 60 + 1.5 * number], [0, 0.8, 10 + 0.3 * number]])
        view: Any = cv2.warpAffine(portrait, matrix, (WIDTH, HEIGHT), borderValue=(90, 95, 100))
        yield view
