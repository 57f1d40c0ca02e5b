"""The picture that a reference keeps, so that another model can embed it later.

Enters: a picture and a face's points. Leaves: a PNG of the face, aligned for its model, with a margin around it, and
the points in it. The middle is the crop that was embedded; the margin is what other templates see beyond it, so that
a gallery of one model moves to a model with another template without the photos.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.faces.alignment import align, alignment_matrix, template_named
from realtime.records import RGB_HW3

# P = 5 or 68 points; S side of the template, M margin, both pixels
MARGIN: Final = 0.25
"""Of the template's side, at each side. From dlib_chip_150, arcface_112 needs .22 above the forehead, eyes_112 .10."""

MAX_SIDE: Final = 1024
"""Pixels. Of a crop that is read back; the known templates give 168 and 226."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceCrop:
    """One face as a PNG."""

    png: bytes
    points_P2: NDArray[np.float32]
    """dlib's 5 or 68 points, pixels of the PNG."""
    template: str
    """Alignment template of the middle."""
    margin_px: int
    """Pixels around the middle, at each side."""

    def __post_init__(self) -> None:
        if self.points_P2.shape not in ((5, 2), (68, 2)) or not np.isfinite(self.points_P2).all():
            raise ValueError(f"points must be finite (5, 2) or (68, 2), but got {self.points_P2.shape}")
        if not 0 <= self.margin_px < MAX_SIDE // 2:
            raise ValueError(f"margin is {self.margin_px} pixels; 0 to {MAX_SIDE // 2 - 1} are allowed")

    @classmethod
    def of(cls, rgb_HW3: RGB_HW3, points_P2: NDArray[Any], template: str) -> ReferenceCrop:
        """Cut from the picture in which the points were found."""
        margin = round(MARGIN * template_named(template).size)
        wide = align(rgb_HW3, points_P2, template, margin_px=margin)
        return cls(png=_png(wide), points_P2=_moved(points_P2, template, margin), template=template, margin_px=margin)

    @classmethod
    def of_aligned(cls, crop_SS3: RGB_HW3, points_P2: NDArray[Any], template: str) -> ReferenceCrop:
        """Where the picture is gone and only the aligned crop is left; ``points_P2`` are still the picture's."""
        return cls(png=_png(crop_SS3), points_P2=_moved(points_P2, template, 0), template=template, margin_px=0)

    def pixels(self) -> RGB_HW3:
        """(S + 2M, S + 2M, 3) uint8 RGB.

        Raises:
            ValueError: not a PNG, not square, larger than ``MAX_SIDE``, or smaller than its margins.
        """
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.png), formats=["PNG"]) as image:
                width, height = image.size
                if width != height or not 2 * self.margin_px < width <= MAX_SIDE:
                    raise ValueError(f"{width}x{height} pixels are no crop")
                return np.array(image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError, EOFError, struct.error, zlib.error) as err:
            raise ValueError("the crop's PNG cannot be decoded") from err

    def aligned_to(self, template: str) -> RGB_HW3:
        """The face in any template: cut out of the middle where it is this crop's own, else aligned anew.

        Raises:
            ValueError: as ``pixels``; or the template is not known.
        """
        wide, margin = self.pixels(), self.margin_px
        if template == self.template and len(wide) - 2 * margin == template_named(template).size:
            return np.ascontiguousarray(wide[margin : len(wide) - margin, margin : len(wide) - margin])
        return align(wide, self.points_P2, template)


def _moved(points_P2: NDArray[Any], template: str, margin_px: int) -> NDArray[np.float32]:
    """Points of the picture in pixels of the crop."""
    matrix_23 = alignment_matrix(points_P2, template_named(template))
    moved_P2: NDArray[np.float32] = (points_P2 @ matrix_23[:, :2].T + matrix_23[:, 2] + margin_px).astype(np.float32)
    return moved_P2


def _png(rgb_HW3: RGB_HW3) -> bytes:
    encoded, png = cv2.imencode(".png", cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2BGR))
    assert encoded
    return png.tobytes()
