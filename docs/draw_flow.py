"""Draws docs/flow.png, the picture in the README: what happens to a frame, and in which thread.

    python docs/draw_flow.py [FILE]

The pictures in it are made by the program itself from the public-domain portrait that scikit-image ships (extra
``demo``): the detector's box, its five points, the aligned crop, the overlay.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from realtime.faces.analysis import View, open_analyser
from realtime.records import RGB_HW3, Sighting, SourceStatus
from realtime.settings import Settings, ShowSettings
from realtime.show import typefaces
from realtime.show.overlay import Overlay

SIZE: Final = (1990, 900)
PAPER, CARD, RULE = (250, 250, 248), (255, 255, 255), (206, 208, 212)
INK, FAINT, ACCENT = (28, 32, 38), (104, 110, 120), (0, 122, 90)
TOP, CARD_WIDTH, CARD_HEIGHT, GAP = 100, 326, 592, 60
"""Pixels, of the columns."""
PICTURE: Final = (286, 214)
FONT: Final = Path(typefaces.__file__).parent / "fonts" / typefaces.SHIPPED[0]


@dataclass(frozen=True)
class Stage:
    """One column: a thread, what it does, a picture of it, and what it hands on."""

    name: str
    thread: str
    lines: Sequence[str]
    hands_on: str


STAGES: Final = (
    Stage(
        "capture",
        "a thread for each source",
        (
            "webcam, video file, RTSP,",
            "HTTP, photos, demo",
            "",
            "live: only the newest frame",
            "file: every frame, in order",
        ),
        "frame",
    ),
    Stage(
        "detect",
        "a small pool",
        (
            "HOG, or dlib's CNN as an",
            "engine, or YuNet",
            "",
            "the whole frame now and then,",
            "at once after a scene cut",
        ),
        "boxes",
    ),
    Stage(
        "follow",
        "a thread for each source",
        (
            "optical flow moves every face",
            "from frame to frame",
            "",
            "is it still the same face?",
            "if not, its name falls",
        ),
        "tracks",
    ),
    Stage(
        "recognise",
        "one thread for all sources",
        (
            "align: points on a template",
            "embed: all faces in one batch",
            "match: best and second person",
            "identity: named, unknown or",
            "pending, over the whole track",
        ),
        "names",
    ),
    Stage(
        "show",
        "the main thread",
        (
            "boxes and names in a window",
            "or an annotated video",
            "frame lines, event lines",
            "",
            "never waits for recognition",
        ),
        "",
    ),
)


def main(target: Path) -> None:
    """Draw everything into ``target``."""
    portrait = scene()
    view = first_face(portrait)
    canvas = Image.new("RGB", SIZE, PAPER)
    pen = ImageDraw.Draw(canvas)
    write(pen, (GAP, 30), "Frames go in, names come out", 34, INK)
    for number, (stage, picture) in enumerate(zip(STAGES, pictures(portrait, view), strict=True)):
        left = GAP + number * (CARD_WIDTH + GAP)
        card(canvas, pen, left, stage, picture)
        if stage.hands_on:
            middle = TOP + 130 + PICTURE[1] // 2
            arrow(pen, (left + CARD_WIDTH + 5, middle), (left + CARD_WIDTH + GAP - 5, middle))
            centred(pen, left + CARD_WIDTH + GAP // 2, middle - 32, stage.hands_on, 17, ACCENT)
    below(pen)
    canvas.quantize(256).save(target, optimize=True)


def scene() -> RGB_HW3:
    """The portrait's upper middle as a 4:3 picture."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("scikit-image is missing, which has the portrait: pip install -e .[demo]")
    bgr: Any = cv2.imread(str(Path(spec.origin).parent / "data" / "astronaut.png"))
    rgb: Any = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(rgb[:240, 70:390])


def first_face(rgb_HW3: RGB_HW3) -> View:
    analyser = open_analyser(Settings())
    try:
        return analyser.views(rgb_HW3)[0]
    finally:
        analyser.close()


def pictures(rgb_HW3: RGB_HW3, view: View) -> list[RGB_HW3]:
    """What each stage sees of the same frame."""
    grey: Any = cv2.cvtColor(cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    x1, y1, x2, y2 = map(round, view.box)
    detected = grey.copy()
    cv2.rectangle(detected, (x1, y1), (x2, y2), (0, 200, 140), 2)
    followed: Any = rgb_HW3.copy()
    for step in (30, 20, 10):  # where the box was in the frames before
        faded = cv2.rectangle(
            followed.copy(), (x1 - 2 * step, y1 + step), (x2 - 2 * step, y2 + step), (255, 200, 60), 2
        )
        followed = cv2.addWeighted(followed, step / 40, faded, 1 - step / 40, 0)
    cv2.rectangle(followed, (x1, y1), (x2, y2), (255, 200, 60), 2)
    for x, y in view.points_P2:
        cv2.circle(followed, (round(float(x)), round(float(y))), 2, (255, 255, 255), -1, cv2.LINE_AA)
    crop = np.full((240, 320, 3), 238, np.uint8)
    crop[10:230, 50:270] = cv2.resize(view.crop_SS3, (220, 220), interpolation=cv2.INTER_AREA)
    face = Sighting(
        track=1,
        box=view.box,
        state="named",
        name="Eileen Collins",
        distance=0.1,
        second_distance=None,
        detector_score=view.detector_score,
    )
    status = SourceStatus(source="demo", state="running", fps=30, latency_ms=25)
    named: Any = cv2.resize(rgb_HW3, PICTURE, interpolation=cv2.INTER_AREA)
    scale = (PICTURE[0] / rgb_HW3.shape[1], PICTURE[1] / rgb_HW3.shape[0])
    Overlay(ShowSettings()).paint(named, [face], status, scale=scale)
    return [rgb_HW3, detected, np.asarray(followed, np.uint8), crop, named]


def card(canvas: Image.Image, pen: ImageDraw.ImageDraw, left: int, stage: Stage, picture: RGB_HW3) -> None:
    pen.rounded_rectangle((left, TOP, left + CARD_WIDTH, TOP + CARD_HEIGHT), 14, fill=CARD, outline=RULE, width=2)
    write(pen, (left + 20, TOP + 16), stage.name, 32, INK)
    write(pen, (left + 20, TOP + 66), stage.thread, 20, ACCENT)
    small = Image.fromarray(picture).resize(PICTURE, Image.Resampling.LANCZOS)
    canvas.paste(small, (left + 20, TOP + 116))
    pen.rectangle((left + 19, TOP + 115, left + 20 + PICTURE[0], TOP + 116 + PICTURE[1]), outline=RULE)
    y = TOP + 116 + PICTURE[1] + 26
    for line in stage.lines:
        write(pen, (left + 20, y), line, 20, INK)
        y += 36 if line else 16


def below(pen: ImageDraw.ImageDraw) -> None:
    """Gallery and engine, which the recogniser asks."""
    top, bottom = TOP + CARD_HEIGHT + 54, SIZE[1] - 40
    right = GAP + 3 * (CARD_WIDTH + GAP)
    left = right - CARD_WIDTH - GAP
    for x, name, first, second in (
        (left, "gallery", "people and their references", "in one SQLite file"),
        (right, "engine", "ONNX Runtime or OpenVINO", "runs the model's file"),
    ):
        pen.rounded_rectangle((x, top, x + CARD_WIDTH, bottom), 14, fill=CARD, outline=RULE, width=2)
        write(pen, (x + 20, top + 10), name, 24, INK)
        write(pen, (x + 20, top + 46), first, 18, FAINT)
        write(pen, (x + 20, top + 70), second, 18, FAINT)
    corner, foot = right - GAP // 2, TOP + CARD_HEIGHT + 5
    path = [(left + CARD_WIDTH + 1, top + 50), (corner, top + 50), (corner, top - 22), (right + 50, top - 22)]
    pen.line(path, ACCENT, 3, joint="curve")
    arrow(pen, (right + 50, top - 22), (right + 50, foot))
    arrow(pen, (right + CARD_WIDTH // 2, top - 2), (right + CARD_WIDTH // 2, foot))


def arrow(pen: ImageDraw.ImageDraw, start: tuple[int, int], end: tuple[int, int]) -> None:
    pen.line([start, end], ACCENT, 3)
    x, y = end
    dx, dy = np.sign(end[0] - start[0]), np.sign(end[1] - start[1])
    pen.polygon(
        [(x, y), (x - 10 * dx - 7 * dy, y - 10 * dy - 7 * dx), (x - 10 * dx + 7 * dy, y - 10 * dy + 7 * dx)], ACCENT
    )


def write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, ink: tuple[int, int, int]) -> None:
    pen.text(at, text, ink, ImageFont.truetype(str(FONT), size))


def centred(pen: ImageDraw.ImageDraw, x: int, y: int, text: str, size: int, ink: tuple[int, int, int]) -> None:
    font = ImageFont.truetype(str(FONT), size)
    pen.text((x - font.getlength(text) / 2, y), text, ink, font)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "flow.png")
