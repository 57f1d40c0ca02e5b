"""A face of K-FACE as a crop of 112x112: aligned by its landmarks, or the tutorial's box.

Enters: an image's bytes and its annotation. Leaves: uint8 RGB (112, 112, 3), or ``Unusable`` with the reason. The
aligned crop is what serving makes for a model of ``arcface_112``; the box is not turned upright and shows a fifth more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from realtime.capture.photo import decode_photo
from realtime.errors import PhotoError
from realtime.faces.alignment import ARCFACE_FIVE, EACH_OF_5, Template, align, similarity
from train.kface.annotation import SIZE_SLACK, Annotation
from train.kface.codes import RESOLUTIONS
from train.kface.failures import Unusable

# S side of a crop; H, W of an image
SIZE: Final = 112

Crop = Literal["landmarks", "box"]

TEMPLATES: Final[dict[Crop, str]] = {"landmarks": "arcface_112", "box": "kface_box"}
"""What the crops of each kind are called in a manifest."""

ANNOTATED: Final = Template(size=SIZE, from_5=ARCFACE_FIVE, from_68=ARCFACE_FIVE, pick_5=EACH_OF_5, pick_68=EACH_OF_5)
"""Of ``arcface_112``, for points in ArcFace's own order instead of dlib's."""

MAX_OUTSIDE: Final = 0.25
"""Share of a crop that may lie outside of its image, and be black; above that the face itself is cut."""


def read_image(content: bytes, name: str, resolution: str) -> NDArray[np.uint8]:
    """Decode an image of the tree.

    Raises:
        Unusable: no image, damaged, or not of the resolution's size.
    """
    try:
        rgb_HW3 = decode_photo(content, Path(name))
    except PhotoError as err:
        raise Unusable(f"image cannot be decoded ({_reason(str(err), name)})") from err
    height, width = rgb_HW3.shape[:2]
    wanted = RESOLUTIONS[resolution]
    if abs(width - wanted[0]) > SIZE_SLACK or abs(height - wanted[1]) > SIZE_SLACK:
        raise Unusable(f"image of another size ({width}x{height}, {resolution} has {wanted[0]}x{wanted[1]})")
    return rgb_HW3


def _reason(message: str, name: str) -> str:
    """Without the file's name and without advice: both stand elsewhere in a report."""
    return message.removeprefix(f"{name}: ").partition(";")[0]


def cropped(rgb_HW3: NDArray[np.uint8], annotation: Annotation, crop: Crop) -> NDArray[np.uint8]:
    """
    Args:
        rgb_HW3: uint8 RGB.
        annotation: in its pixels.

    Returns:
        (112, 112, 3) uint8 RGB.

    Raises:
        Unusable: too much of the face lies outside of the image.
    """
    height, width = rgb_HW3.shape[:2]
    outside = _outside(_corners(annotation, crop), width, height)
    if outside > MAX_OUTSIDE:
        raise Unusable(f"face out of the frame ({outside:.0%} of the crop)")
    return align(rgb_HW3, annotation.five_52, ANNOTATED) if crop == "landmarks" else _box(rgb_HW3, annotation)


def _box(rgb_HW3: NDArray[np.uint8], annotation: Annotation) -> NDArray[np.uint8]:
    """The tutorial's third step: the face box (line 8), resized by Pillow as it does by default (bicubic)."""
    x, y, width, height = (round(value) for value in annotation.boxes["face"])
    part = Image.fromarray(rgb_HW3).crop((x, y, x + width, y + height)).resize((SIZE, SIZE))
    return np.array(part, dtype=np.uint8)


def _corners(annotation: Annotation, crop: Crop) -> NDArray[np.float64]:
    """(4, 2) of the crop, in pixels of the image, clockwise."""
    square_42 = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=np.float64)
    if crop == "box":
        x, y, width, height = annotation.boxes["face"]
        return square_42 * (width, height) + (x, y)
    back_23 = similarity(ARCFACE_FIVE, annotation.five_52)
    return square_42 * SIZE @ back_23[:, :2].T + back_23[:, 2]


def _outside(corners_42: NDArray[np.float64], width: int, height: int) -> float:
    """Share of a quadrilateral that lies outside of an image."""
    frame = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float32)
    quad = corners_42.astype(np.float32)
    whole = abs(cv2.contourArea(quad))
    inside, _ = cv2.intersectConvexConvex(quad, frame)
    return 1.0 - inside / whole if whole > 0 else 1.0
