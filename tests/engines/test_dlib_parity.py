"""The same answers as the dlib wheel, on one real face in many forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.dlib.detector import MAX_SIZES, CnnDetector
from engines.engine import Engine, open_model
from engines.store import default_model

EXACT = [("onnxruntime", "fp32"), ("openvino", "fp32")]

TOLERANCE = 1e-5
"""Largest difference of any value of an embedding; values are of the order of 0.1."""


def dlib_boxes(detector: Any, image_HW3: NDArray[np.uint8]) -> tuple[list[list[float]], list[float]]:
    """Inclusive-exclusive boxes and scores."""
    found = detector(np.ascontiguousarray(image_HW3), 0)
    boxes = [[d.rect.left(), d.rect.top(), d.rect.right() + 1, d.rect.bottom() + 1] for d in found]
    return boxes, [d.confidence for d in found]


@pytest.fixture(scope="module")
def dlib_embeddings(resnet_path: Path, chips: NDArray[np.uint8]) -> NDArray[np.float64]:
    model = dlib.face_recognition_model_v1(str(resnet_path))
    return np.array([np.array(d) for d in model.compute_face_descriptor(list(chips))])


@pytest.fixture(scope="module")
def dlib_detector(mmod_path: Path) -> Any:
    return dlib.cnn_face_detection_model_v1(str(mmod_path))


@pytest.fixture(scope="module", params=[(480, 360), (301, 417), (640, 331), (84, 147), (122, 256), (29, 29)], ids=str)
def photo_and_answer(
    request: pytest.FixtureRequest, astronaut: NDArray[np.uint8], dlib_detector: Any
) -> tuple[NDArray[np.uint8], list[list[float]], list[float]]:
    """Landscape, portrait, odd sizes, frames in which the pyramid's levels overlap, one smaller than the window."""
    image = cv2.resize(astronaut[20:320, 60:360], request.param)
    return image, *dlib_boxes(dlib_detector, image)


def plain(runtime: str, precision: str) -> Engine:
    """The form that dlib has: not mirrored, not of unit length."""
    return open_model(default_model(unit_length=False, mirrored=False), runtime=runtime, precision=precision)


@pytest.mark.parametrize(("runtime", "precision"), EXACT)
def test_embeddings_are_dlibs(
    runtime: str, precision: str, chips: NDArray[np.uint8], dlib_embeddings: NDArray[np.float64]
) -> None:
    engine = plain(runtime, precision)
    assert np.abs(engine.run(chips) - dlib_embeddings).max() < TOLERANCE
    one_by_one = np.concatenate([engine.run(chip[None]) for chip in chips])
    assert np.abs(one_by_one - dlib_embeddings).max() < TOLERANCE


def test_bf16_is_near(chips: NDArray[np.uint8], dlib_embeddings: NDArray[np.float64]) -> None:
    """Length of the difference: 0.015 at most over 792 LFW chips; nothing beside a threshold of 0.6."""
    engine = plain("auto", "auto")
    distances = np.linalg.norm(engine.run(chips) - dlib_embeddings, axis=1)
    assert distances.max() < 0.03


@pytest.mark.parametrize(("runtime", "precision"), EXACT)
def test_boxes_are_dlibs(
    runtime: str, precision: str, photo_and_answer: tuple[NDArray[np.uint8], list[list[float]], list[float]]
) -> None:
    image, boxes, scores = photo_and_answer
    found, confidences = CnnDetector(runtime=runtime, precision=precision).detect(image)
    assert found.tolist() == boxes
    assert np.allclose(confidences, scores, atol=2e-4)


def test_several_faces_are_dlibs(astronaut: NDArray[np.uint8], dlib_detector: Any) -> None:
    """Four sizes in one frame, two of them near enough to be suppressed by a wrong overlap rule."""
    image = np.full((420, 640, 3), 90, dtype=np.uint8)
    face = astronaut[40:190, 140:290]
    for side, x, y in ((150, 10, 10), (200, 150, 30), (240, 380, 150), (140, 90, 260)):
        image[y : y + side, x : x + side] = cv2.resize(face, (side, side))
    boxes, scores = dlib_boxes(dlib_detector, image)
    assert len(boxes) >= 3
    found, confidences = CnnDetector(runtime="onnxruntime").detect(image)
    assert found.tolist() == boxes
    assert np.allclose(confidences, scores, atol=2e-4)


def test_the_fast_detector_finds_the_same_face(astronaut: NDArray[np.uint8]) -> None:
    boxes, scores = CnnDetector().detect(astronaut)
    assert len(boxes) == len(scores) == 1
    assert scores[0] == pytest.approx(1.06, abs=0.02)
    assert np.abs(boxes[0] - (168, 69, 264, 165)).max() <= 20


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (300, 3), (8, 8), (28, 2)])
def test_frames_too_small_for_the_network_hold_no_face(size: tuple[int, int]) -> None:
    boxes, scores = CnnDetector(runtime="onnxruntime").detect(np.zeros((*size, 3), dtype=np.uint8))
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)
    assert boxes.dtype == scores.dtype == np.float32


@pytest.mark.parametrize(
    "frame",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)],
)
def test_other_frames_are_refused(frame: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"uint8 of shape \(H, W, 3\) is needed"):
        CnnDetector(runtime="onnxruntime").detect(frame)


def test_a_view_gives_what_its_copy_gives(astronaut: NDArray[np.uint8]) -> None:
    detector = CnnDetector(runtime="onnxruntime")
    view = astronaut[:300, 360:60:-1]
    view.flags.writeable = False
    boxes, scores = detector.detect(view)
    again, same = detector.detect(view.copy())
    assert len(boxes) == 1
    assert np.array_equal(boxes, again)
    assert np.array_equal(scores, same)


def test_a_higher_score_is_asked_for(astronaut: NDArray[np.uint8]) -> None:
    detector = CnnDetector(runtime="onnxruntime")
    assert len(detector.detect(astronaut, min_score=1.0)[0]) == 1
    assert len(detector.detect(astronaut, min_score=1.1)[0]) == 0


def test_only_some_sizes_stay_loaded_and_old_ones_come_back(astronaut: NDArray[np.uint8]) -> None:
    detector = CnnDetector(runtime="onnxruntime")
    first = detector.detect(astronaut[:200, 100:300])
    for extra in range(1, MAX_SIZES + 2):
        detector.detect(astronaut[: 200 + extra, 100:300])
    assert len(detector._sized) == MAX_SIZES
    again = detector.detect(astronaut[:200, 100:300])
    assert np.array_equal(first[0], again[0])
    detector.close()
    detector.close()
    assert np.array_equal(detector.detect(astronaut[:200, 100:300])[0], first[0])
