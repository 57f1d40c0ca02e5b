"""What a view is worth: turns, blur and size count as a person would say."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from realtime.faces.alignment import align
from realtime.faces.landmarks import Landmarker
from realtime.faces.quality import NOSE_DEPTH, measure, yaw_degrees
from realtime.records import RGB_HW3
from tests.realtime.pictures import FACE_BOX


def points(nose_x: float, *, roll_deg: float = 0.0, scale: float = 1.0) -> NDArray[np.float64]:
    """dlib's 5 of a face whose nose lies ``nose_x`` eye distances to the image's right of the middle."""
    eyes = [(50, 0), (20, 0), (-50, 0), (-20, 0)]
    flat = np.array([*eyes, (100 * nose_x, 50)], dtype=np.float64) * scale
    roll = math.radians(roll_deg)
    return flat @ np.array([[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]]) + 300


@pytest.fixture(scope="module")
def crop(astronaut: RGB_HW3) -> RGB_HW3:
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    return align(astronaut, Landmarker().points(grey, np.array([FACE_BOX], np.float32))[0], "dlib_chip_150")


class TestYaw:
    def test_a_face_that_looks_straight_has_none(self) -> None:
        assert yaw_degrees(points(0.0)) == pytest.approx(0.0, abs=1e-9)

    @given(st.floats(0.01, 0.9))
    def test_its_sign_is_the_images_direction(self, nose_x: float) -> None:
        assert yaw_degrees(points(nose_x)) > 0
        assert yaw_degrees(points(-nose_x)) == pytest.approx(-yaw_degrees(points(nose_x)))

    @given(st.floats(-0.8, 0.8), st.floats(0.01, 0.5))
    def test_it_grows_as_the_nose_moves(self, nose_x: float, more: float) -> None:
        assert yaw_degrees(points(nose_x)) < yaw_degrees(points(nose_x + more))

    @given(st.floats(-0.8, 0.8), st.floats(-60, 60), st.floats(0.2, 5))
    def test_a_tilted_or_larger_head_is_turned_as_far(self, nose_x: float, roll: float, scale: float) -> None:
        turned = yaw_degrees(points(nose_x, roll_deg=roll, scale=scale))
        assert turned == pytest.approx(yaw_degrees(points(nose_x)), abs=1e-6)

    @pytest.mark.parametrize("degrees", [-40, 10, 25])
    def test_the_nose_of_a_head_turned_by_so_much_gives_it_back(self, degrees: float) -> None:
        """A model head: eye corners in a plane of width 1, the nose NOSE_DEPTH before it, seen from far away."""
        turn = math.radians(degrees)
        nose_x = NOSE_DEPTH * math.sin(turn) / math.cos(turn)  # eyes shrink by cos
        assert yaw_degrees(points(nose_x)) == pytest.approx(degrees)

    def test_eyes_on_one_spot_are_a_profile(self) -> None:
        assert yaw_degrees(np.full((5, 2), 3.0)) == 90.0

    def test_68_points_say_the_same(self) -> None:
        many = np.zeros((68, 2))
        many[[45, 42, 36, 39, 33]] = points(0.2)
        assert yaw_degrees(many) == yaw_degrees(points(0.2))


class TestMeasure:
    def test_sharpness_falls_with_blur(self, crop: RGB_HW3) -> None:
        blurs = [np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), np.uint8) for sigma in (0.5, 1.0, 2.0, 4.0)]
        seen = [measure(FACE_BOX, points(0), blurred) for blurred in (crop, *blurs)]
        assert [q.sharpness for q in seen] == sorted((q.sharpness for q in seen), reverse=True)
        assert seen[0].sharpness > 10 * seen[-1].sharpness
        assert [q.weight for q in seen] == sorted((q.weight for q in seen), reverse=True)

    def test_weight_falls_with_turn_and_with_distance(self, crop: RGB_HW3) -> None:
        turns = [measure(FACE_BOX, points(x), crop).weight for x in (0.0, 0.1, -0.2, 0.4)]
        assert turns == sorted(turns, reverse=True)
        sizes = [measure((0, 0, side, side), points(0), crop).weight for side in (400, 99, 50, 20)]
        assert sizes == sorted(sizes, reverse=True)

    def test_a_flat_crop_has_no_sharpness_and_a_little_weight(self) -> None:
        flat = measure(FACE_BOX, points(0), np.full((112, 112, 3), 90, np.uint8))
        assert flat.sharpness == 0
        assert 0 < flat.weight < 0.01
        assert flat.size_px == pytest.approx(FACE_BOX[2] - FACE_BOX[0])

    @given(
        st.tuples(*[st.floats(-5000, 5000)] * 4),
        hnp.arrays(np.float64, (5, 2), elements=st.integers(-2000, 2000)),
        st.integers(0, 255),
    )
    def test_the_weight_is_always_above_0_and_at_most_1(
        self, box: tuple[float, float, float, float], points_P2: NDArray[np.float64], noise: int
    ) -> None:
        crop = np.random.default_rng(noise).integers(0, noise + 1, (16, 16, 3)).astype(np.uint8)
        quality = measure(box, points_P2, crop)
        assert 0 < quality.weight <= 1
        assert -90 <= quality.yaw_deg <= 90
        assert quality.size_px >= 0
