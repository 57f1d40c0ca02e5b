"""Boxes and the parts of pictures that they stand for: scaled, cut out, compared.

Enters: images and xyxy boxes. Leaves: images, boxes and overlaps. Knows no detector.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.records import Faces

# N, M boxes; 4 = x1, y1, x2, y2 pixels, inclusive-exclusive


def iou(a_N4: NDArray[np.float32], b_M4: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, M) intersection over union of xyxy boxes; empty boxes overlap nothing."""
    low_NM2 = np.maximum(a_N4[:, None, :2], b_M4[None, :, :2])
    high_NM2 = np.minimum(a_N4[:, None, 2:], b_M4[None, :, 2:])
    inter_NM = np.prod(np.clip(high_NM2 - low_NM2, 0, None), axis=2)
    area_N = np.prod(np.clip(a_N4[:, 2:] - a_N4[:, :2], 0, None), axis=1)
    area_M = np.prod(np.clip(b_M4[:, 2:] - b_M4[:, :2], 0, None), axis=1)
    union_NM = area_N[:, None] + area_M[None] - inter_NM
    shares: NDArray[np.float32] = np.divide(inter_NM, union_NM, out=np.zeros_like(union_NM), where=union_NM > 0)
    return shares


def without_overlaps(faces: Faces, limit: float = 0.3) -> Faces:
    """Of boxes that overlap by more than ``limit`` (intersection over union) the best one; best first."""
    order = np.argsort(-faces.scores_N, kind="stable")
    kept: list[int] = []
    for row in order:
        if not kept or iou(faces.boxes_N4[row][None], faces.boxes_N4[kept]).max() <= limit:
            kept.append(int(row))
    return Faces(boxes_N4=faces.boxes_N4[kept], scores_N=faces.scores_N[kept])


def scaled(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Contiguous copy of the image at ``scale``; area averaging down, bilinear up. At least 1x1."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return np.ascontiguousarray(image)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), dtype=np.uint8)


def around(box_4: NDArray[Any], reach: float, width: int, height: int) -> tuple[int, int, int, int]:
    """The box grown by ``reach`` of its side on each side, cut at the picture's edges: left, top, right, bottom."""
    side = max(float(box_4[2] - box_4[0]), float(box_4[3] - box_4[1]), 4.0)
    left, top = max(0, int(box_4[0] - reach * side)), max(0, int(box_4[1] - reach * side))
    right, bottom = min(width, int(box_4[2] + reach * side)), min(height, int(box_4[3] + reach * side))
    return left, top, max(right, left), max(bottom, top)


def cut_out(
    image: NDArray[np.uint8], box_4: NDArray[Any], *, reach: float, face_px: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A square of ``(1 + 2 reach)`` box widths around a box, scaled so that the box is ``face_px`` wide; beyond the
    image's edge its last pixels go on. Also the matrix (2, 3) from image to square."""
    width = max(float(box_4[2] - box_4[0]), 4.0)
    scale, side = face_px / width, round(face_px * (1 + 2 * reach))
    centre_x, centre_y = float(box_4[0] + box_4[2]) / 2, float(box_4[1] + box_4[3]) / 2
    left, top, right, bottom = around(box_4, reach + 0.1, image.shape[1], image.shape[0])
    if right - left < 1 or bottom - top < 1:
        left, top, right, bottom = 0, 0, image.shape[1], image.shape[0]
    part = image[top:bottom, left:right]
    if scale < 1:  # average first: bilinear sampling alone would alias
        part = scaled(part, scale)
    shrink = part.shape[1] / (right - left), part.shape[0] / (bottom - top)
    matrix_23 = np.array([[scale, 0, side / 2 - scale * centre_x], [0, scale, side / 2 - scale * centre_y]])
    from_part = np.array(
        [
            [scale / shrink[0], 0, matrix_23[0, 2] + scale * left],
            [0, scale / shrink[1], matrix_23[1, 2] + scale * top],
        ]
    )
    square = cv2.warpAffine(part, from_part, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(square, dtype=np.uint8), matrix_23


def uncut(found: Faces, matrix_23: NDArray[np.float64]) -> Faces:
    """Faces found in a ``cut_out`` square, in pixels of the image that it was cut from."""
    shift = np.array([*matrix_23[:, 2], *matrix_23[:, 2]], dtype=np.float32)
    return Faces(boxes_N4=(found.boxes_N4 - shift) / np.float32(matrix_23[0, 0]), scores_N=found.scores_N)
