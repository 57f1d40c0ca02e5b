"""Photos: faces found, aligned, judged and embedded with the real parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.errors import RealtimeError
from realtime.faces.analysis import FaceAnalyser, clip_box, open_analyser
from realtime.faces.boxes import iou
from realtime.records import RGB_HW3
from realtime.settings import load_settings
from tests.realtime.pictures import FACE_BOX, astronaut_at, stranger_at, wall


def squared(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - b) ** 2).sum())


def test_a_portrait_has_one_view(photo_analyser: FaceAnalyser, astronaut: RGB_HW3) -> None:
    (view,) = photo_analyser.views(astronaut)
    overlap = iou(np.array([view.box], np.float32), np.array([FACE_BOX], np.float32))
    assert float(overlap[0, 0]) > 0.7
    assert view.detector_score > 0.5
    assert view.points_P2.shape == (5, 2)
    side = photo_analyser.manifest.input_size
    assert view.crop_SS3.shape == (side, side, 3)
    assert view.crop_SS3.dtype == np.uint8
    assert view.quality.size_px == pytest.approx(view.box[2] - view.box[0])
    assert abs(view.quality.yaw_deg) < 15


def test_no_face_is_an_empty_list(photo_analyser: FaceAnalyser) -> None:
    assert photo_analyser.views(wall()) == []
    assert photo_analyser.embed([]).shape == (0, photo_analyser.manifest.dimensions)


def test_several_faces_come_largest_first(photo_analyser: FaceAnalyser) -> None:
    picture = stranger_at((480, 180), 0.7, on=astronaut_at((180, 180), 1.2))
    views = photo_analyser.views(picture)
    assert len(views) == 2
    assert views[0].box[0] < 300 < views[1].box[0]
    assert views[0].quality.size_px > views[1].quality.size_px


def test_one_person_is_near_and_another_far(photo_analyser: FaceAnalyser, astronaut: RGB_HW3) -> None:
    small = astronaut_at((320, 180), 0.8)
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    same, again, mirror, other = photo_analyser.embed(
        [
            photo_analyser.views(picture)[0].crop_SS3
            for picture in (astronaut, small, mirrored, stranger_at((320, 180), 1.0))
        ]
    )
    threshold = photo_analyser.manifest.threshold
    assert float(np.linalg.norm(same)) == pytest.approx(1, abs=1e-2)
    assert squared(same, again) < threshold / 2
    assert squared(same, mirror) < threshold / 2
    assert squared(same, other) > 2 * threshold


@pytest.mark.parametrize("size", [(1, 1), (2, 700), (700, 2)])
def test_a_picture_of_nothing_is_no_trouble(photo_analyser: FaceAnalyser, size: tuple[int, int]) -> None:
    assert photo_analyser.views(np.zeros((*size, 3), np.uint8)) == []


def test_a_face_over_the_edge_keeps_its_box_inside(photo_analyser: FaceAnalyser) -> None:
    (view,) = photo_analyser.views(astronaut_at((30, 60), 1.0))
    assert view.box[0] == 0.0
    assert view.box[2] > 40


def test_opens_from_settings_and_closes_twice() -> None:
    analyser = open_analyser(load_settings(None, ["embed.runtime=onnxruntime", "align.landmarks=5"]))
    assert "onnxruntime" in analyser.engine.runtime
    analyser.close()
    analyser.close()


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(RealtimeError, match="yunet needs a file"):
        open_analyser(load_settings(None, ["detect.kind=yunet"]))


@given(st.tuples(*[st.floats(-1e5, 1e5)] * 4), st.integers(1, 4000), st.integers(1, 4000))
def test_a_clipped_box_is_inside_of_the_frame(
    corners: tuple[float, float, float, float], width: int, height: int
) -> None:
    box = (min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2]))
    x1, y1, x2, y2 = clip_box(np.array(box), width, height)
    assert 0 <= x1 <= x2 <= width
    assert 0 <= y1 <= y2 <= height
