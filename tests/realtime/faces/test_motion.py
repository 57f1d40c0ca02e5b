"""Whether a box still holds the same picture; the flow itself is tested with the tracker."""

from __future__ import annotations

import cv2
import numpy as np

from realtime.faces.motion import likeness
from realtime.faces.tracking import ALIKE
from realtime.records import RGB_HW3
from tests.realtime.pictures import astronaut_at, face_box, stranger_at


def grey(rgb_HW3: RGB_HW3) -> np.ndarray:
    return np.asarray(cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2GRAY))


def test_a_face_that_moved_and_changed_its_light_is_alike() -> None:
    before = grey(astronaut_at((300, 180), 1.0))
    after = grey(astronaut_at((306, 183), 1.03))
    darker = (after * 0.6 + 5).astype(np.uint8)
    boxes = face_box((300, 180), 1.0), face_box((306, 183), 1.03)
    assert likeness(before, boxes[0], after, boxes[1]) > 0.95
    assert likeness(before, boxes[0], darker, boxes[1]) > 0.95


def test_another_face_in_its_place_is_not() -> None:
    before = grey(astronaut_at((300, 180), 1.0))
    box_4 = face_box((300, 180), 1.0)
    for which in range(3):
        assert likeness(before, box_4, grey(stranger_at((300, 180), 1.0, which)), box_4) < ALIKE


def test_boxes_outside_of_the_picture_and_flat_ones_are_like_nothing() -> None:
    picture = grey(astronaut_at((300, 180), 1.0))
    inside = face_box((300, 180), 1.0)
    for odd in ((-200, -200, -100, -100), (5000, 5000, 5100, 5100), (10, 10, 10, 10)):
        value = likeness(picture, inside, picture, np.array(odd, np.float32))
        assert np.isfinite(value)
        assert value < ALIKE
    flat = np.full_like(picture, 90)
    assert likeness(picture, inside, flat, inside) < ALIKE
