"""Drawn heads for synthetic K-FACE trees: a head of 3D points, seen by each of the rig's cameras.

Nobody's face. Each person has colours, proportions and a pattern of spots of their own, so that a small network can
tell them apart; the seven points of an annotation lie where they are drawn. Written without the code under test.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# all lengths in pixels of the Middle resolution; x to the image's right, y down, z to the camera of yaw 0
SIZES = {"High": (864, 576), "Middle": (346, 230), "Low": (173, 115)}

POSES = {
    **{number: (90 - 15 * (number - 1), 0) for number in range(1, 14)},
    **{14: (45, 30), 15: (15, 30), 16: (0, 30), 17: (-15, 30), 18: (-45, 30), 19: (30, -15), 20: (-30, -15)},
}
"""Camera -> yaw, pitch in degrees."""

LUX = {1: 1000, 2: 400, 3: 200, 4: 150, 5: 100, 6: 40, 7: 0, 8: 400, 9: 200, 10: 100, 11: 40}
LUX |= {12: 400, 13: 200, 14: 100, 15: 40} | {light: (400, 200, 100)[(light - 16) % 3] for light in range(16, 31)}

SIDES = dict.fromkeys(range(8, 12), (0, 0.4)) | dict.fromkeys(range(12, 16), (0, -0.3))
SIDES |= {16 + 3 * row + n: (side, 0) for row, side in enumerate((0.7, 0.4, 0, -0.4, -0.7)) for n in range(3)}
"""Light -> how much brighter the image's right side and the top are."""

HEAD = np.array(
    [(0, 20.4, 13), (-18.75, 0, 0), (18.75, 0, 0), (-15.5, 41.5, 0), (15.5, 41.5, 0), (-44, 14, -58), (44, 14, -58)]
)
"""Nose tip, right eye, left eye, right and left mouth corner, right and left ear; right is the image's left."""


@dataclass(frozen=True)
class Person:
    seed: int

    @property
    def random(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def place(self) -> tuple[float, float, float]:
        """Of the middle between the eyes, and the head's roll in radians."""
        x, y, roll = np.random.default_rng(self.seed + 1).uniform(-1, 1, 3)
        return 173 + 6 * x, 92 + 5 * y, 0.07 * roll


def project(points_N3: NDArray[np.float64], person: Person, camera: int) -> NDArray[np.float64]:
    """(N, 2) pixels of the Middle resolution. From above, what is in front of the eyes moves down."""
    yaw, pitch = np.radians(POSES[camera])
    x_N, y_N, z_N = points_N3.T
    across_N = x_N * np.cos(yaw) - z_N * np.sin(yaw)
    ahead_N = x_N * np.sin(yaw) + z_N * np.cos(yaw)
    down_N = y_N * np.cos(pitch) + ahead_N * np.sin(pitch)
    left, top, roll = person.place()
    turn = np.array([(np.cos(roll), -np.sin(roll)), (np.sin(roll), np.cos(roll))])
    return np.stack([across_N, down_N], axis=1) @ turn.T + (left, top)


def landmarks(person: Person, camera: int) -> NDArray[np.float64]:
    """(7, 2) in the order of an annotation."""
    stretch = np.array([1, person.random.uniform(0.92, 1.08), 1])
    return project(HEAD * stretch, person, camera)


def face_box(points_72: NDArray[np.float64], camera: int) -> tuple[float, float, float]:
    """x, y, side: the middle of the eyes across, half way from eyes to nose down, as KIST describes it."""
    yaw = np.radians(POSES[camera][0])
    side = 136 - 25 * abs(np.sin(yaw)) ** 2
    x = points_72[1:3, 0].mean() + 23.5 * np.sin(yaw)
    y = (points_72[1:3, 1].mean() + points_72[0, 1]) / 2
    return float(x - side / 2), float(y - side / 2), float(side)


def draw(
    person: Person, accessory: int, light: int, expression: int, camera: int, resolution: str, shift: float = 0
) -> NDArray[np.uint8]:
    """uint8 RGB of the resolution's size; ``shift`` moves the head to the right, Middle pixels."""
    width, height = SIZES[resolution]
    scale = width / SIZES["Middle"][0]
    random = person.random
    skin = random.uniform((150, 110, 80), (245, 200, 170))
    wall, hair = random.uniform(90, 210, 3), random.uniform(10, 90, 3)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = wall

    def at(points_N3: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.round((project(points_N3, person, camera) + np.array((shift, 0))) * scale * 8).astype(np.int32)

    def ball(x: float, y: float, z: float, across: float, down: float, colour: NDArray[np.float64]) -> None:
        centre = at(np.array([(x, y, z)]))[0]
        axes = (max(1, round(across * scale * 8)), max(1, round(down * scale * 8)))
        cv2.ellipse(image, centre.tolist(), axes, 0, 0, 360, colour.tolist(), -1, cv2.LINE_AA, 3)

    ball(0, 8, -40, 52, 66, hair)
    for point in HEAD[5:]:
        ball(*point, 8, 14, skin * 0.9)
    ball(0, 16, -22, 44 + 6 * random.uniform(-1, 1), 58, skin)
    _spots(person, ball, skin)
    face = landmarks(person, camera) + np.array((shift, 0))
    seven = np.round(face * scale * 8).astype(np.int32)
    _features(image, seven, skin, expression, scale)
    _wear(image, seven, accessory, scale)
    return _lit(image, light, person.seed * 1000 + light * 21 + camera)


def _spots(person: Person, ball, skin: NDArray[np.float64]) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(person.seed + 2)
    for _ in range(9):
        x, y = random.uniform((-32, -28), (32, 56))
        tint = np.clip(skin * random.uniform(0.45, 1.25, 3), 0, 255)
        ball(x, y, -12 * (x / 32) ** 2, random.uniform(3, 9), random.uniform(3, 9), tint)


def _features(
    image: NDArray[np.uint8], seven: NDArray[np.int32], skin: NDArray[np.float64], expression: int, scale: float
) -> None:
    nose, right, left, mouth_right, mouth_left = seven[:5]
    for eye in (right, left):
        cv2.circle(image, eye.tolist(), round(6 * scale * 8), (245, 245, 245), -1, cv2.LINE_AA, 3)
        cv2.circle(image, eye.tolist(), round(3.2 * scale * 8), (40, 25, 20), -1, cv2.LINE_AA, 3)
    cv2.circle(image, nose.tolist(), round(4.5 * scale * 8), (skin * 0.7).tolist(), -1, cv2.LINE_AA, 3)
    bend = {1: 0, 2: 7, 3: -6}[expression] * scale * 8
    middle = (mouth_right + mouth_left) / 2 + (0, bend)
    lips = np.round([mouth_right, middle, mouth_left]).astype(np.int32)
    cv2.polylines(image, [lips], False, (170, 50, 60), max(1, round(4 * scale)), cv2.LINE_AA, 3)


def _wear(image: NDArray[np.uint8], seven: NDArray[np.int32], accessory: int, scale: float) -> None:
    eyes = seven[1:3]
    if accessory in (2, 3, 4, 6):
        thick = {2: 1, 3: 3, 4: -1, 6: 3}[accessory]
        for eye in eyes:
            radius = round(10 * scale * 8)
            cv2.circle(
                image,
                eye.tolist(),
                radius,
                (20, 20, 25),
                thick if thick < 0 else max(1, round(thick * scale)),
                cv2.LINE_AA,
                3,
            )
    if accessory in (5, 6):
        top = eyes.mean(axis=0) - (0, 16 * scale * 8)
        corner = np.round(top - (50 * scale * 8, 60 * scale * 8)).astype(int)
        opposite = np.round(top + np.array((50 * scale * 8, 0))).astype(int)
        cv2.rectangle(image, corner.tolist(), opposite.tolist(), (30, 40, 120), -1, cv2.LINE_AA, 3)


def _lit(image: NDArray[np.uint8], light: int, seed: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    right, top = SIDES.get(light, (0, 0))
    gain = 0.12 + 0.88 * np.log1p(LUX[light]) / np.log1p(1000)
    slope_W = 1 + right * np.linspace(-1, 1, width)
    slope_H = 1 + top * np.linspace(1, -1, height)
    noise = np.random.default_rng(seed).normal(0, 2.5, (height, width, 1))
    return np.clip(image * (gain * slope_H[:, None, None] * slope_W[None, :, None]) + noise, 0, 255).astype(np.uint8)
