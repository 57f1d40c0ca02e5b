"""How much one view of a face is worth.

Enters: box, points and aligned crop. Leaves: size, sharpness, yaw, and one weight for means over views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.faces.alignment import five_points
from realtime.records import RGB_HW3

NOSE_DEPTH: Final = 0.3
"""Base of the nose before the plane of the outer eye corners, in distances between those corners (an adult's face)."""

GOOD_SIZE_PX: Final = 100.0
"""Width of a face box from which on more pixels add nothing: the crop is 112 or 150 pixels with margins."""

HALF_SHARPNESS: Final = 60.0
"""Sharpness at which a view counts half: the median of frames of a moving face; photos have some hundreds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Of one view of a face."""

    size_px: float
    """Width of the face's box, frame pixels."""
    sharpness: float
    """Variance of the Laplacian of the aligned grey crop; 0 is flat."""
    yaw_deg: float
    """Turn to the side, estimated from nose and eye corners; 0 is frontal, positive to the image's right."""
    weight: float
    """0..1, for weighted means of embeddings."""


def measure(box: tuple[float, float, float, float], points_P2: NDArray[Any], crop_SS3: RGB_HW3) -> Quality:
    """Quality of one aligned face; ``box`` and ``points_P2`` in pixels of the frame it came from."""
    size = max(0.0, box[2] - box[0])
    grey = cv2.cvtColor(crop_SS3, cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    yaw = yaw_degrees(points_P2)
    weight = (
        min(1.0, size / GOOD_SIZE_PX)
        * (sharpness / (sharpness + HALF_SHARPNESS))
        * max(0.0, math.cos(math.radians(yaw))) ** 2
    )
    return Quality(size_px=size, sharpness=sharpness, yaw_deg=yaw, weight=max(weight, 1e-3))


def yaw_degrees(points_P2: NDArray[Any]) -> float:
    """Turn of the head to the side, degrees: the nose moves by ``NOSE_DEPTH * tan(yaw)`` of the eye distance."""
    right_outer, _, left_outer, _, nose = five_points(points_P2).astype(np.float64)
    axis = right_outer - left_outer
    length = float(np.hypot(*axis))
    if length <= 0:
        return 90.0
    offset = float((nose - (right_outer + left_outer) / 2) @ axis) / length**2
    return math.degrees(math.atan(offset / NOSE_DEPTH))
