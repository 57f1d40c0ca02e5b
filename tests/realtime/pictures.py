"""Pictures for tests of faces/, people/ and flow/: one real face, other real faces, and frames that move over them.

The astronaut (Eileen Collins, NASA) and the small grey faces (LFW's, 25x25) come with scikit-image.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.faces.detection import Detector, HogDetector, detect, scale_for
from realtime.faces.scenes import Scout
from realtime.faces.tracking import Followed, Tracker
from realtime.records import RGB_HW3, ArrayPixels, Faces, Frame
from realtime.settings import DetectSettings, TrackSettings

FACE_BOX: Final = (178.0, 81.0, 269.0, 170.0)
"""The astronaut's face as HOG boxes it (mean over scales), xyxy pixels."""

FACE_CENTRE: Final = (223.5, 125.5)

FPS: Final = 30.0

WIDTH: Final = 640
HEIGHT: Final = 360


def _data(file: str) -> Path:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data" / file


@functools.cache
def astronaut() -> RGB_HW3:
    """(512, 512, 3) RGB; read only."""
    image = cv2.imread(str(_data("astronaut.png")))
    assert image is not None
    rgb = np.ascontiguousarray(image[:, :, ::-1])
    rgb.setflags(write=False)
    return rgb


STRANGERS: Final = (80, 3, 24)
"""Rows of the small grey faces that HOG is sure of and that are unlike the astronaut (squared L2 .36, .34, .35)."""

STRANGER_BOX: Final = (68.0, 78.0, 159.0, 169.0)


@functools.cache
def stranger(which: int = 0) -> RGB_HW3:
    """(240, 240, 3) RGB, grey: somebody else's face of the astronaut's size at ``STRANGER_BOX``; read only."""
    face = (np.load(_data("lfw_subset.npy"))[STRANGERS[which]] * 255).astype(np.uint8)
    large = cv2.resize(face, (120, 120), interpolation=cv2.INTER_CUBIC)
    grey = cv2.copyMakeBorder(large, 60, 60, 60, 60, cv2.BORDER_REPLICATE)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    rgb.setflags(write=False)
    return rgb


@functools.cache
def wall(seed: int = 0) -> RGB_HW3:
    """A frame of soft texture without a face: flow needs something to hold on to; read only."""
    random = np.random.default_rng(seed)
    coarse = random.normal(120, 25, (HEIGHT // 8, WIDTH // 8)).astype(np.float32)
    soft = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    rgb = np.repeat(np.clip(soft, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    rgb.setflags(write=False)
    return rgb


def paste(
    picture: RGB_HW3, centre: tuple[float, float], at: tuple[float, float], scale: float, *, on: RGB_HW3 | None = None
) -> RGB_HW3:
    """A frame with ``picture`` on it, so that its point ``centre`` lies at ``at``."""
    matrix_23 = np.array(
        [[scale, 0, at[0] - scale * centre[0]], [0, scale, at[1] - scale * centre[1]]], dtype=np.float64
    )
    base = (wall() if on is None else on).copy()
    cv2.warpAffine(
        picture,
        matrix_23,
        (base.shape[1], base.shape[0]),
        dst=base,
        flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_TRANSPARENT,
    )
    return base


def astronaut_at(at: tuple[float, float], scale: float, *, on: RGB_HW3 | None = None) -> RGB_HW3:
    """A frame with the astronaut's face centred at ``at``, about ``90 * scale`` pixels wide."""
    return paste(astronaut(), FACE_CENTRE, at, scale, on=on)


def stranger_at(at: tuple[float, float], scale: float, which: int = 0, *, on: RGB_HW3 | None = None) -> RGB_HW3:
    centre = ((STRANGER_BOX[0] + STRANGER_BOX[2]) / 2, (STRANGER_BOX[1] + STRANGER_BOX[3]) / 2)
    return paste(stranger(which), centre, at, scale, on=on)


def face_box(at: tuple[float, float], scale: float) -> NDArray[np.float32]:
    """Where ``astronaut_at`` puts the face, xyxy."""
    half_2 = np.array([FACE_BOX[2] - FACE_BOX[0], FACE_BOX[3] - FACE_BOX[1]]) / 2 * scale
    return np.concatenate([np.array(at) - half_2, np.array(at) + half_2]).astype(np.float32)


def frame_of(rgb_HW3: RGB_HW3, index: int = 0, *, source: str = "test", fps: float = FPS) -> Frame:
    return Frame(source=source, index=index, time_s=index / fps, pixels=ArrayPixels(rgb_HW3))


@functools.cache
def hog() -> HogDetector:
    """Unpacked once: 0.4 s."""
    return HogDetector(DetectSettings())


def now(faces: Faces) -> Future[Faces]:
    """A detection that is done."""
    done: Future[Faces] = Future()
    done.set_result(faces)
    return done


def follow(
    pictures: Iterable[RGB_HW3],
    *,
    detect_settings: DetectSettings | None = None,
    track_settings: TrackSettings | None = None,
    detector: Detector | None = None,
    watch: Callable[[Frame, float], None] = lambda frame, least_px: None,
) -> list[Followed]:
    """Scout and tracker of a file, in one thread; ``watch`` is told of every look at a whole frame."""
    used = hog() if detector is None else detector

    def find(frame: Frame, least_px: float) -> Future[Faces]:
        watch(frame, least_px)
        return now(detect(used, frame, scale_for(used, least_px, frame.width, frame.height)))

    scout = Scout(detect_settings or DetectSettings(), find)
    tracker = Tracker(track_settings or TrackSettings(), lambda: used)
    return [tracker.step(scout.prepare(frame_of(rgb, index))) for index, rgb in enumerate(pictures)]
