"""Where a scene is taken to end, and when a frame is searched for faces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.faces.scenes import Prepared, Scout
from realtime.records import RGB_HW3, Faces, Frame
from realtime.settings import DetectSettings
from tests.realtime.pictures import astronaut, frame_of, now, wall

EVERY_10 = DetectSettings(every=10, fine_every_s=2.0, min_face_px=60, coarse_face_px=140)


class Looks:
    """A scout whose looks are only written down."""

    def __init__(self, settings: DetectSettings | None = None, *, every_frame: bool = False) -> None:
        self.sought: list[tuple[int, float]] = []
        self.scout = Scout(settings or EVERY_10, self._find, every_frame=every_frame)

    def _find(self, frame: Frame, least_px: float) -> Future[Faces]:
        self.sought.append((frame.index, least_px))
        return now(Faces.none())

    def prepare(self, pictures: Iterable[RGB_HW3], *, fps: float = 30.0) -> list[Prepared]:
        return [self.scout.prepare(frame_of(rgb, index, fps=fps)) for index, rgb in enumerate(pictures)]


def cuts(pictures: Sequence[RGB_HW3]) -> list[int]:
    return [prepared.frame.index for prepared in Looks().prepare(pictures) if prepared.cut]


def lit(rgb: RGB_HW3, gain: float, more: float = 0.0) -> RGB_HW3:
    return np.clip(rgb * gain + more, 0, 255).astype(np.uint8)


def noisy(rgb: RGB_HW3, sigma: float, seed: int) -> RGB_HW3:
    return np.clip(rgb + np.random.default_rng(seed).normal(0, sigma, rgb.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def room() -> RGB_HW3:
    """640x360 of a real picture."""
    return np.asarray(cv2.resize(astronaut(), (640, 360), interpolation=cv2.INTER_AREA), dtype=np.uint8)


class TestCut:
    def test_another_picture_is_another_scene(self, room: RGB_HW3) -> None:
        other = wall()
        assert cuts([room, room, other, other, room]) == [2, 4]

    def test_the_first_frame_is_no_cut(self, room: RGB_HW3) -> None:
        assert cuts([room]) == []

    @pytest.mark.parametrize(("gain", "more"), [(0.5, 0), (1.5, 0), (1.0, 60), (0.3, 20)])
    def test_light_is_no_cut(self, room: RGB_HW3, gain: float, more: float) -> None:
        assert cuts([room, lit(room, gain, more), room]) == []

    def test_a_camera_that_swings_round_is_no_cut(self) -> None:
        wide = cv2.resize(astronaut(), (1800, 720), interpolation=cv2.INTER_LINEAR)
        pan = [np.ascontiguousarray(wide[200:560, x : x + 640]) for x in range(0, 1160, 24)]
        assert cuts(pan) == []

    def test_noise_on_a_dark_or_empty_picture_is_no_cut(self, room: RGB_HW3) -> None:
        for level in (0, 128):
            flat = np.full((360, 640, 3), level, np.uint8)
            assert cuts([noisy(flat, 12, seed) for seed in range(6)]) == []

    def test_noise_does_not_hide_a_cut(self, room: RGB_HW3) -> None:
        assert cuts([noisy(room, 10, 1), noisy(room, 10, 2), noisy(wall(), 10, 3)]) == [2]

    def test_going_dark_and_coming_back_starts_anew(self, room: RGB_HW3) -> None:
        """Nothing can be followed through black."""
        black = np.zeros_like(room)
        assert cuts([room, black, black, room]) == [1, 3]

    def test_a_stream_that_changes_its_size_starts_anew(self, room: RGB_HW3) -> None:
        """Also where the small copies of both sizes are alike: boxes are in frame pixels."""
        large = np.asarray(cv2.resize(room, (1280, 720), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        assert cuts([room, large, large, room]) == [1, 3]


class TestLooks:
    def test_the_first_frame_is_searched_finely(self, room: RGB_HW3) -> None:
        looks = Looks()
        (prepared,) = looks.prepare([room])
        assert looks.sought == [(0, 30.0)]  # 60 px at 720p
        assert prepared.detection is not None

    def test_coarse_every_few_frames_and_fine_every_few_seconds(self, room: RGB_HW3) -> None:
        looks = Looks()
        prepared = looks.prepare([room] * 125)
        fine, coarse = 30.0, 70.0
        assert looks.sought == [(index, fine if index in (0, 60, 120) else coarse) for index in range(0, 125, 10)]
        assert [p.frame.index for p in prepared if p.detection is not None] == list(range(0, 125, 10))

    def test_a_cut_is_searched_finely_at_once_and_counts_from_there(self, room: RGB_HW3) -> None:
        looks = Looks()
        looks.prepare([room] * 13 + [wall()] * 12)
        assert looks.sought == [(0, 30.0), (10, 70.0), (13, 30.0), (23, 70.0)]

    def test_frames_that_a_live_source_dropped_do_not_delay_a_look(self, room: RGB_HW3) -> None:
        looks = Looks()
        for index in (0, 4, 9, 13, 17, 24):
            looks.scout.prepare(frame_of(room, index))
        assert [index for index, _ in looks.sought] == [0, 13, 24]

    def test_without_tracking_every_frame_is_searched_finely(self, room: RGB_HW3) -> None:
        looks = Looks(every_frame=True)
        looks.prepare([room] * 5)
        assert looks.sought == [(index, 30.0) for index in range(5)]

    def test_an_upright_frame_counts_by_its_short_side(self, room: RGB_HW3) -> None:
        looks = Looks()
        (prepared,) = looks.prepare([np.ascontiguousarray(np.rot90(room))])
        assert looks.sought == [(0, 30.0)]
        assert prepared.small_grey.shape == (640, 360)


class TestSmall:
    @pytest.mark.parametrize("size", [(720, 1280), (2160, 3840), (361, 643), (100, 50), (1, 1), (3, 500)])
    def test_the_small_copy_has_360_lines_at_most(self, size: tuple[int, int]) -> None:
        image = np.zeros((*size, 3), np.uint8)
        (prepared,) = Looks().prepare([image])
        small: NDArray[np.uint8] = prepared.small_grey
        assert min(small.shape) == min(360, *size)
        assert prepared.small_scale == pytest.approx(small.shape[1] / size[1])
        assert prepared.small_scale == pytest.approx(small.shape[0] / size[0], rel=0.01)
