"""One image's landmarks for all images that its camera took of the same face.

Enters: a person's files and a condition without annotation. Leaves: the annotation of the same camera and expression
with nothing worn, once it is known that the head has not moved since. The rig does not move, and one session's thirty
lights follow each other at once; but between the sessions S001 to S006 people stood up to put something on.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.faces.alignment import align
from train.kface.annotation import MAX_BYTES, Annotation, fitted, parse_annotation
from train.kface.codes import ANNOTATED_ACCESSORY, ANNOTATED_LIGHTS, Condition
from train.kface.crops import ANNOTATED, read_image
from train.kface.failures import Unusable
from train.kface.person import MAX_IMAGE_BYTES, Files

MARGIN: Final = 24
"""Crop pixels around the aligned crop in which a head that has moved is looked for."""

LOWER_FACE: Final = (slice(68, 112), slice(20, 92))
"""Rows and columns of an aligned crop that neither glasses nor caps cover: tip of the nose, mouth, cheeks."""

MAX_SHIFT: Final = 4.0
"""Crop pixels, a ninth of the distance of the eyes. ArcFace crops lose little to half of that."""

MIN_LIKENESS: Final = 0.5
"""Correlation, -1 to 1, of nose and mouth between the two images."""

MIN_CONTRAST: Final = 2.0
"""Standard deviation, grey levels, without which nothing can be compared."""


def donor(files: Files, condition: Condition) -> Condition | None:
    """The annotated condition whose landmarks serve ``condition``: of the same expression and camera, nothing worn, the
    brightest light that has them; None where there is none."""
    for light in ANNOTATED_LIGHTS:
        candidate = condition._replace(accessory=ANNOTATED_ACCESSORY, light=light)
        if files.trouble(f"{candidate.stem}.txt") is None and files.trouble(f"{candidate.stem}.jpg") is None:
            return candidate
    return None


class Landmarks:
    """Annotations of one person's images, their own or lent ones; what was checked once is remembered."""

    def __init__(self, files: Files, *, resolution: str, reuse: bool) -> None:
        self._files = files
        self._resolution = resolution
        self._reuse = reuse
        self._moved: dict[tuple[int, int, int], str | None] = {}

    def of(self, condition: Condition, width: int, height: int) -> Annotation:
        """In pixels of an image of this size.

        Raises:
            Unusable: none, a damaged one, or a lent one that does not fit any more.
        """
        if self._files.trouble(f"{condition.stem}.txt") is None:
            return self._own(condition, width, height)
        lender = donor(self._files, condition) if self._reuse else None
        if lender is None:
            raise Unusable("annotation missing")
        annotation = self._own(lender, width, height)
        if condition.accessory != lender.accessory:
            self._check(condition, lender, annotation)
        return annotation

    def _own(self, condition: Condition, width: int, height: int) -> Annotation:
        content = self._files.read(f"{condition.stem}.txt", MAX_BYTES)
        return fitted(parse_annotation(content, condition.camera), width, height)

    def _check(self, condition: Condition, lender: Condition, annotation: Annotation) -> None:
        """Once for each accessory, expression and camera, in the light of the lender where that was taken."""
        key = (condition.accessory, condition.expression, condition.camera)
        if key not in self._moved:
            same_light = condition._replace(light=lender.light)
            there = self._files.trouble(f"{same_light.stem}.jpg") is None
            self._moved[key] = self._verdict(lender, same_light if there else condition, annotation)
        if (verdict := self._moved[key]) is not None:
            raise Unusable(verdict)

    def _verdict(self, lender: Condition, worn: Condition, annotation: Annotation) -> str | None:
        try:
            before, after = (self._image(each) for each in (lender, worn))
        except Unusable as err:
            return f"landmarks cannot be lent (of the two images to compare one is unusable: {err})"
        shift, likeness = moved(before, after, annotation.five_52)
        if likeness < MIN_LIKENESS:
            return f"landmarks cannot be lent (nose and mouth are too unlike those of {lender.stem}: {likeness:.2f})"
        if shift > MAX_SHIFT:
            return f"head has moved since its landmarks were taken (by {shift:.1f} pixels since {lender.stem})"
        return None

    def _image(self, condition: Condition) -> NDArray[np.uint8]:
        name = f"{condition.stem}.jpg"
        return read_image(self._files.read(name, MAX_IMAGE_BYTES), name, self._resolution)


def moved(
    before_HW3: NDArray[np.uint8], after_HW3: NDArray[np.uint8], five_52: NDArray[np.float64]
) -> tuple[float, float]:
    """How far nose and mouth have moved between two images of one camera, and how alike they are.

    Args:
        before_HW3: uint8 RGB, in which the points lie.
        after_HW3: of the same size.
        five_52: in ArcFace's order, pixels.

    Returns:
        Shift in pixels of the aligned crop, and correlation from -1 to 1; 0 and -1 where there is nothing to see.
    """
    before, after = (
        cv2.cvtColor(align(each, five_52, ANNOTATED, margin_px=MARGIN), cv2.COLOR_RGB2GRAY)
        for each in (before_HW3, after_HW3)
    )
    rows, columns = LOWER_FACE
    pattern = before[rows.start + MARGIN : rows.stop + MARGIN, columns.start + MARGIN : columns.stop + MARGIN]
    around = after[rows.start : rows.stop + 2 * MARGIN, columns.start : columns.stop + 2 * MARGIN]
    if min(pattern.std(), around.std()) < MIN_CONTRAST:
        return 0.0, -1.0
    scores = cv2.matchTemplate(around, pattern, cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, y) = cv2.minMaxLoc(scores)
    return float(np.hypot(x - MARGIN, y - MARGIN)), float(best)
