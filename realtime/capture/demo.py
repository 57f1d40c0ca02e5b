"""The demo: a camera that moves over a portrait on a wall, for a first run without a camera.

Enters: the public-domain astronaut portrait (Eileen Collins, NASA) that scikit-image carries. Leaves: ten seconds of
1280x720 frames, the same ones every time: pan, zoom, changing light, sensor noise, and a second of empty wall.
"""

from __future__ import annotations

import importlib.util
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.capture.source import SourceInfo
from realtime.errors import SourceError
from realtime.records import RGB_HW3, ArrayPixels, Frame
from realtime.settings import CaptureSettings

# H, W pixels; 3 = red, green, blue; 23 = affine matrix

DEMO_NAME: Final = "Eileen Collins"
"""Whom the portrait shows."""

FPS: Final = 30.0
FRAMES: Final = 300
WIDTH: Final = 1280
HEIGHT: Final = 720

EMPTY: Final = range(180, 210)
"""Frames of this second show the wall without the portrait."""

_WALL_WIDTH: Final = 2900
_WALL_HEIGHT: Final = 1500
_PORTRAIT_PX: Final = 640
"""Side of the portrait on the wall: its face is 17 % as wide, about 110 pixels before the camera zooms."""
_FACE_AT: Final = (0.44, 0.27)
"""Where in the portrait the face is, as shares of its side: the camera keeps it in view."""
_PORTRAIT_AT: Final = (900, 360)
"""Top left corner of the portrait on the wall, pixels."""
_EMPTY_AT: Final = (2240.0, 760.0)
"""What the camera looks at while the scene is empty."""
_NOISE: Final = 0.45
"""Share of the stored noise in a frame: a standard deviation of about 3 grey levels, a webcam's in a lit room."""


def demo_photo() -> Path:
    """The portrait file, for a gallery that knows ``DEMO_NAME``. Does not import scikit-image.

    Raises:
        SourceError: scikit-image is not installed, or came without the picture.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SourceError(
            "demo: its portrait comes with scikit-image, which is not installed; "
            "install it with: pip install 'realtime-arcface[demo]'"
        )
    path = Path(spec.origin).parent / "data" / "astronaut.png"
    if not path.is_file():
        raise SourceError(
            "demo: scikit-image is installed without its astronaut.png; "
            "install it again with: pip install --force-reinstall 'realtime-arcface[demo]'"
        )
    return path


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera looks at one moment."""

    x: float
    """Centre on the wall, pixels."""
    y: float
    zoom: float
    roll_deg: float
    light: float
    """Gain: 1 as painted, below 1 darker."""


def view_at(index: int) -> View:
    """The camera of frame ``index`` (0 <= index < FRAMES); a pure function, so that any frame can be drawn alone."""
    time_s = index / FPS
    light = 0.95 + 0.25 * math.sin(2 * math.pi * time_s / 4.5)
    if index in EMPTY:
        return View(_EMPTY_AT[0] + 60 * math.sin(time_s), _EMPTY_AT[1], 1.1, 0.0, light)
    turn = 2 * math.pi * time_s
    face_x = _PORTRAIT_AT[0] + _FACE_AT[0] * _PORTRAIT_PX
    face_y = _PORTRAIT_AT[1] + _FACE_AT[1] * _PORTRAIT_PX
    zoom = 1.35 - 0.5 * math.cos(turn / 6)
    return View(
        x=face_x + 230 / zoom * math.sin(turn / 5),
        y=face_y + (90 + 50 * math.sin(turn / 3.5)) / zoom,
        zoom=zoom,
        roll_deg=3.0 * math.sin(turn / 4),
        light=light,
    )


class DemoSource:
    """``--source demo``. Every frame in order, as a file; with ``capture.as_live`` at 30 frames a second, as a camera.

    Raises:
        SourceError: on opening, where the portrait is not installed or cannot be read.
    """

    def __init__(self, settings: CaptureSettings, *, name: str = "demo") -> None:
        self._name = name
        self._live = settings.as_live
        self._loop = settings.loop
        self._wall = _wall(_read_portrait(demo_photo()))
        self._noise = _noise()
        self._next = 0
        self._started_at_s: float | None = None
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        return self._name

    @property
    def live(self) -> bool:
        return self._live

    @property
    def info(self) -> SourceInfo:
        frames = None if self._live or self._loop else FRAMES
        return SourceInfo(kind="demo", width=WIDTH, height=HEIGHT, fps=FPS, frames=frames)

    @property
    def status(self) -> str:
        return ""

    def read(self) -> Frame | None:
        """The next frame, None at the end; as a camera, the one of this moment: missed ones leave gaps in ``index``."""
        index = self._due() if self._live else self._next
        if self._closed.is_set() or (index >= FRAMES and not self._loop):
            return None
        self._next = index + 1
        pixels = ArrayPixels(self._draw(index % FRAMES))
        return Frame(source=self._name, index=index, time_s=index / FPS, pixels=pixels)

    def close(self) -> None:
        """Wakes a waiting ``read``, which then returns None; may be called twice, from any thread."""
        self._closed.set()

    def _due(self) -> int:
        """Wait for the moment of the next frame; the index of the newest one that a camera would have taken by then."""
        now_s = time.monotonic()
        if self._started_at_s is None:
            self._started_at_s = now_s
        newest = max(self._next, int((now_s - self._started_at_s) * FPS))
        self._closed.wait(max(0.0, self._started_at_s + newest / FPS - now_s))
        return newest

    def _draw(self, index: int) -> RGB_HW3:
        view = view_at(index)
        matrix_23 = cv2.getRotationMatrix2D((view.x, view.y), view.roll_deg, view.zoom)
        matrix_23[0, 2] += WIDTH / 2 - view.x
        matrix_23[1, 2] += HEIGHT / 2 - view.y
        seen = cv2.warpAffine(
            self._wall, matrix_23, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        # one stored field of noise, read at another place for each frame: fresh to the eye, and free
        y, x = index * 37 % _NOISE_SLACK, index * 53 % _NOISE_SLACK
        noise = self._noise[y : y + HEIGHT, x : x + WIDTH]
        drawn: RGB_HW3 = np.asarray(cv2.addWeighted(seen, view.light, noise, _NOISE, -128 * _NOISE), dtype=np.uint8)
        return drawn


_NOISE_SLACK: Final = 97
"""The noise field is this much larger than a frame, so that it can be read at many places; pixels."""


def _read_portrait(path: Path) -> RGB_HW3:
    portrait = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
    if portrait is None:
        raise SourceError(
            "demo: scikit-image's astronaut.png is damaged; "
            "install it again with: pip install --force-reinstall 'realtime-arcface[demo]'"
        )
    rgb: RGB_HW3 = np.asarray(cv2.cvtColor(portrait, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    return rgb


def _wall(portrait_HW3: RGB_HW3) -> RGB_HW3:
    """A plastered wall, brighter towards the middle, with the framed portrait on it."""
    random = np.random.default_rng(1)
    ys_H1, xs_1W = np.linspace(-1, 1, _WALL_HEIGHT)[:, None], np.linspace(-1, 1, _WALL_WIDTH)[None]
    shade_HW = 1 - 0.35 * (0.5 * ys_H1**2 + xs_1W**2)
    coarse = random.normal(0, 1, (_WALL_HEIGHT // 20, _WALL_WIDTH // 20)).astype(np.float32)
    shade_HW += 0.02 * cv2.resize(coarse, (_WALL_WIDTH, _WALL_HEIGHT), interpolation=cv2.INTER_CUBIC)
    wall_HW3: RGB_HW3 = np.clip(shade_HW[..., None] * np.array([150, 160, 165]), 0, 255).astype(np.uint8)
    x, y = _PORTRAIT_AT
    for border, colour in ((26, (70, 52, 38)), (16, (236, 233, 224))):
        wall_HW3[y - border : y + _PORTRAIT_PX + border, x - border : x + _PORTRAIT_PX + border] = colour
    size = (_PORTRAIT_PX, _PORTRAIT_PX)
    wall_HW3[y : y + _PORTRAIT_PX, x : x + _PORTRAIT_PX] = cv2.resize(portrait_HW3, size, interpolation=cv2.INTER_CUBIC)
    return wall_HW3


def _noise() -> NDArray[np.uint8]:
    """A field around 128 with a standard deviation of 7 grey levels, the same in every run."""
    random = np.random.default_rng(2)
    field_HW3 = 128 + 7 * random.standard_normal((HEIGHT + _NOISE_SLACK, WIDTH + _NOISE_SLACK, 3), dtype=np.float32)
    noise: NDArray[np.uint8] = np.clip(np.rint(field_HW3), 0, 255).astype(np.uint8)
    return noise
