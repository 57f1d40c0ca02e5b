"""Detectors on a real face, at sizes from nothing to 8K, and the arithmetic of boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from engines.store import default_model
from realtime.errors import RealtimeError
from realtime.faces.boxes import around, cut_out, iou, scaled, without_overlaps
from realtime.faces.detection import (
    MAX_PIXELS,
    CnnDetector,
    Detector,
    HogDetector,
    YunetDetector,
    detect,
    detect_in_region,
    in_frame_of,
    open_detector,
    scale_for,
)
from realtime.records import RGB_HW3, Faces, Frame
from realtime.settings import DetectSettings
from tests.paths import SHARED, needs_shared
from tests.realtime.pictures import FACE_BOX, astronaut_at, face_box, frame_of, hog, wall

FACE_4 = np.array(FACE_BOX, dtype=np.float32)


@pytest.fixture(scope="module")
def cnn() -> CnnDetector:
    return CnnDetector(DetectSettings(kind="cnn"))


def best_iou(found: Faces, box_4: NDArray[np.float32]) -> float:
    return float(iou(found.boxes_N4, box_4[None]).max(initial=0))


class TestHog:
    @pytest.mark.parametrize("scale", [0.85, 1.0, 1.4, 2.0])
    def test_finds_the_face_in_the_frames_own_pixels(self, astronaut: RGB_HW3, scale: float) -> None:
        found = detect(hog(), frame_of(astronaut), scale)
        assert float(iou(found.boxes_N4[:1], FACE_4[None])[0, 0]) > 0.6  # the best one is the face
        assert found.scores_N[0] > 0.5
        assert list(found.scores_N) == sorted(found.scores_N, reverse=True)

    @pytest.mark.parametrize(("width", "scale"), [(40, 0.44), (90, 1.0), (200, 2.2)])
    def test_the_smallest_face_wanted_is_found(self, width: int, scale: float) -> None:
        frame = frame_of(astronaut_at((320, 180), scale))
        found = detect(hog(), frame, scale_for(hog(), width * 0.9, frame.width, frame.height))
        assert best_iou(found, face_box((320, 180), scale)) > 0.5

    def test_an_empty_wall_has_no_face(self) -> None:
        assert len(detect(hog(), frame_of(wall()), 1.5)) == 0

    def test_a_clone_answers_the_same_and_unpacks_nothing(
        self, astronaut: RGB_HW3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def again() -> Any:
            raise AssertionError("dlib's detector was unpacked again, which takes 0.4 s")

        first = hog()
        monkeypatch.setattr(dlib, "get_frontal_face_detector", again)
        clone = first.clone()
        ours, theirs = (detect(detector, frame_of(astronaut), 1.0) for detector in (first, clone))
        assert (ours.boxes_N4 == theirs.boxes_N4).all()
        assert (ours.scores_N == theirs.scores_N).all()
        assert clone._detector is not first._detector

    def test_a_clone_keeps_to_one_look_where_its_original_does(self) -> None:
        assert HogDetector(DetectSettings(), again=False).clone()._second_look is False

    def test_min_score_leaves_the_weak_out(self, astronaut: RGB_HW3) -> None:
        strict = HogDetector(DetectSettings(min_score=1.0), again=False, detector=hog()._detector)
        assert len(detect(strict, frame_of(astronaut), 1.0)) == 1
        stricter = HogDetector(DetectSettings(min_score=5.0), again=False, detector=hog()._detector)
        assert len(detect(stricter, frame_of(astronaut), 1.0)) == 0

    def test_a_second_look_finds_faces_at_the_limit(self) -> None:
        """A face three quarters as wide as the smallest one wanted scores just too little at first."""
        once = HogDetector(DetectSettings(), again=False, detector=hog()._detector)
        counts = {True: 0, False: 0}
        for width in (27, 28, 32, 40):
            for at in ((300.0, 170.0), (401.5, 171.3), (222.2, 140.7)):
                frame, truth_4 = frame_of(astronaut_at(at, width / 91)), face_box(at, width / 91)
                scale = 73 / 36  # its smallest box is 36 pixels of the frame
                for again, detector in ((True, hog()), (False, once)):
                    counts[again] += best_iou(detect(detector, frame, scale), truth_4) > 0.4
        assert counts[True] == 12
        assert counts[False] <= 9

    def test_no_two_boxes_lie_on_one_face(self, astronaut: RGB_HW3) -> None:
        for scale in (0.6, 0.8, 1.1, 1.7):
            boxes = detect(hog(), frame_of(astronaut), scale).boxes_N4
            assert (iou(boxes, boxes) - np.eye(len(boxes)) <= 0.5).all()


class TestRegion:
    @pytest.mark.parametrize("scale", [0.4, 1.0, 2.0])
    @pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, -0.2), (-0.3, 0.15)])
    @pytest.mark.parametrize("growth", [0.85, 1.0, 1.2])
    def test_a_face_is_found_again_around_where_it_was(
        self, scale: float, shift: tuple[float, float], growth: float
    ) -> None:
        frame, truth_4 = frame_of(astronaut_at((330, 170), scale)), face_box((330, 170), scale)
        side = float(truth_4[2] - truth_4[0])
        guess_4 = face_box((330 + shift[0] * side, 170 + shift[1] * side), scale * growth)
        found = detect_in_region(hog(), frame, guess_4)
        assert best_iou(found, truth_4) > 0.6

    def test_one_whose_box_reaches_over_the_edge_too(self) -> None:
        frame, truth_4 = frame_of(astronaut_at((40, 50), 1.0)), face_box((40, 50), 1.0)
        assert truth_4[0] < 0
        assert best_iou(detect_in_region(hog(), frame, truth_4), truth_4) > 0.6

    @pytest.mark.parametrize(
        "box", [(0, 0, 0, 0), (-900, -900, -800, -800), (5000, 40, 5100, 140), (600, 300, 700, 400), (10, 10, 12, 300)]
    )
    def test_a_box_anywhere_gives_an_answer(self, box: tuple[float, ...]) -> None:
        found = detect_in_region(hog(), frame_of(wall()), np.array(box, np.float32))
        assert len(found) == 0

    @given(st.floats(20, 300), st.floats(100, 540), st.floats(100, 260), st.floats(30, 120))
    def test_the_square_shows_the_box_at_the_size_asked(self, width: float, x: float, y: float, face_px: float) -> None:
        """The matrix says where a pixel of the image went: a bright spot at the box's centre is found there."""
        image = np.zeros((360, 640), np.uint8)
        cv2.circle(image, (round(x), round(y)), max(2, round(width / 20)), 255, -1)
        box_4 = np.array([round(x) - width / 2, round(y) - width / 2, round(x) + width / 2, round(y) + width / 2])
        square, matrix_23 = cut_out(image, box_4, reach=0.5, face_px=face_px)
        assert square.shape == (round(face_px * 2),) * 2
        assert matrix_23[0, 0] == pytest.approx(face_px / width)
        moments = cv2.moments(square.astype(np.float32))
        expected = matrix_23 @ [round(x), round(y), 1]
        # the picture is averaged before it is turned into the square: half a pixel of it may be lost
        assert (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]) == pytest.approx(expected, abs=1.5)


class TestAnySize:
    @pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (2, 2), (79, 81)])
    @pytest.mark.parametrize("kind", ["hog", "cnn"])
    def test_tiny_frames_have_no_face_and_do_no_harm(self, size: tuple[int, int], kind: str, cnn: CnnDetector) -> None:
        detector: Detector = hog() if kind == "hog" else cnn
        frame = frame_of(np.full((*size, 3), 127, np.uint8))
        scale = scale_for(detector, in_frame_of(min(size), 60), frame.width, frame.height)
        assert len(detect(detector, frame, min(scale, 4.0))) == 0
        assert len(detect_in_region(detector, frame, np.array([0, 0, 40, 40], np.float32))) == 0

    def test_8k_is_searched_in_a_picture_that_fits(self) -> None:
        scale = scale_for(hog(), 20, 7680, 4320)
        assert round(7680 * scale) * round(4320 * scale) <= MAX_PIXELS * 1.01
        assert scale_for(hog(), 360, 7680, 4320) == pytest.approx(hog().smallest_px / 360)

    @given(st.floats(0.1, 5000), st.integers(1, 10000), st.integers(1, 10000))
    def test_the_scale_is_positive_and_bounded(self, least_px: float, width: int, height: int) -> None:
        scale = scale_for(hog(), least_px, width, height)
        assert scale > 0
        assert width * height * scale**2 <= MAX_PIXELS * 1.001

    def test_smallest_faces_are_meant_at_720_lines(self) -> None:
        assert in_frame_of(720, 60) == 60
        assert in_frame_of(2160, 60) == 180

    def test_scaling_by_one_keeps_the_pixels(self) -> None:
        image = np.arange(12, dtype=np.uint8).reshape(3, 4)[:, ::2]
        same = scaled(image, 1.0)
        assert (same == image).all()
        assert same.flags["C_CONTIGUOUS"]
        assert scaled(image, 0.01).shape == (1, 1)

    @given(st.tuples(*[st.floats(-1e4, 1e4)] * 4), st.floats(0, 3), st.integers(1, 5000), st.integers(1, 5000))
    def test_a_grown_box_stays_in_the_picture(
        self, box: tuple[float, ...], reach: float, width: int, height: int
    ) -> None:
        left, top, right, bottom = around(np.array(box), reach, width, height)
        assert left >= 0
        assert top >= 0
        assert left <= right
        assert top <= bottom
        assert right == left or right <= width
        assert bottom == top or bottom <= height


class TestCnn:
    def test_finds_a_real_face(self, cnn: CnnDetector, astronaut: RGB_HW3) -> None:
        found = detect(cnn, frame_of(astronaut), 0.85)
        assert float(iou(found.boxes_N4[:1], FACE_4[None])[0, 0]) > 0.45

    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_the_precision_is_the_networks(self, cnn: CnnDetector, astronaut: RGB_HW3, precision: str) -> None:
        other = CnnDetector(DetectSettings(kind="cnn", precision=precision))  # type: ignore[arg-type]
        assert f" {precision}, " in other._network.runtime
        assert " int8, " not in cnn._network.runtime  # of auto
        found, expected = (detect(each, frame_of(astronaut), 0.85) for each in (other, cnn))
        assert float(iou(found.boxes_N4[:1], expected.boxes_N4[:1])[0, 0]) > 0.5
        assert found.scores_N[0] == pytest.approx(expected.scores_N[0], abs=0.1)

    def test_serves_all_threads_itself(self, cnn: CnnDetector) -> None:
        assert cnn.clone() is cnn

    def test_min_score_leaves_the_weak_out(self, astronaut: RGB_HW3) -> None:
        strict = CnnDetector(DetectSettings(kind="cnn", min_score=50.0))
        assert len(detect(strict, frame_of(astronaut), 0.85)) == 0


class TestYunet:
    def opened(self, model: Path | None) -> YunetDetector:
        return YunetDetector(DetectSettings(kind="yunet", model=None if model is None else str(model)))

    def test_without_a_file_says_how_to_name_one(self) -> None:
        with pytest.raises(RealtimeError, match=r"add --set detect\.model="):
            self.opened(None)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RealtimeError, match=r"none\.onnx: no such file"):
            self.opened(tmp_path / "none.onnx")

    @pytest.mark.parametrize("content", [b"", b"this is no network", b"\x08\x07\x12\x04abcd"])
    def test_a_file_of_something_else_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "yunet.onnx"
        path.write_bytes(content)
        with pytest.raises(RealtimeError, match=r"yunet\.onnx: OpenCV cannot read it as a YuNet network"):
            self.opened(path)

    def test_a_network_for_something_else_is_refused_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "descriptor.onnx"
        path.write_bytes(default_model().content)
        with pytest.raises(RealtimeError, match=r"descriptor\.onnx: OpenCV cannot read it as a YuNet network"):
            self.opened(path)


@pytest.fixture(scope="module")
def yunet() -> YunetDetector:
    model = SHARED / "models" / "face_detection_yunet_2026may.onnx"
    return YunetDetector(DetectSettings(kind="yunet", model=str(model)))


class TestRealYunet:
    pytestmark = needs_shared

    @pytest.mark.parametrize("scale", [0.5, 1.0])
    def test_finds_the_face_in_a_box_like_hogs(self, yunet: YunetDetector, astronaut: RGB_HW3, scale: float) -> None:
        for detector in (yunet, yunet.clone()):
            found = detect(detector, frame_of(astronaut), scale)
            assert len(found) == 1
            assert best_iou(found, FACE_4) > 0.6
            width, height = found.boxes_N4[0, 2:] - found.boxes_N4[0, :2]
            assert width == pytest.approx(height, rel=1e-4)

    @pytest.mark.parametrize("size", [(1, 1), (3, 500), (37, 2)])
    def test_tiny_frames_do_no_harm(self, yunet: YunetDetector, size: tuple[int, int]) -> None:
        assert len(yunet.find(np.zeros((*size, 3), np.uint8))) == 0


def test_each_kind_opens_its_own() -> None:
    assert isinstance(open_detector(DetectSettings()), HogDetector)
    assert isinstance(open_detector(DetectSettings(kind="cnn")), CnnDetector)
    photos = open_detector(DetectSettings(), photos=True)
    assert isinstance(photos, HogDetector)
    assert photos._second_look is False
    with pytest.raises(RealtimeError, match="yunet"):
        open_detector(DetectSettings(kind="yunet"), photos=True)


def test_a_detection_leaves_the_frame_as_it_was() -> None:
    frame: Frame = frame_of(astronaut_at((320, 180), 1.0))
    before = frame.rgb.copy()
    detect(hog(), frame, 1.0)
    detect_in_region(hog(), frame, face_box((320, 180), 1.0))
    assert (frame.rgb == before).all()


coordinates = st.floats(0, 100, width=32)
box_lists = hnp.arrays(np.float32, st.tuples(st.integers(0, 8), st.just(4)), elements=coordinates).map(
    lambda b: np.concatenate([np.minimum(b[:, :2], b[:, 2:]), np.maximum(b[:, :2], b[:, 2:])], axis=1)
)


class TestOverlap:
    @given(box_lists, box_lists)
    def test_iou_is_symmetric_and_between_0_and_1(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
        shares = iou(a, b)
        assert shares.shape == (len(a), len(b))
        assert (shares >= 0).all()
        assert (shares <= 1 + 1e-5).all()
        assert shares == pytest.approx(iou(b, a).T, abs=1e-6)

    @given(box_lists)
    def test_a_box_overlaps_itself_wholly_unless_it_is_empty(self, a: NDArray[np.float32]) -> None:
        areas = (a[:, 2] - a[:, 0]).astype(np.float64) * (a[:, 3] - a[:, 1])
        diagonal = np.diag(iou(a, a))
        assert diagonal[areas > 1e-3] == pytest.approx(1)
        assert (diagonal[areas == 0] == 0).all()

    def test_iou_by_hand(self) -> None:
        a, b = np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 1, 3, 3], [5, 5, 6, 6], [2, 0, 4, 2]], np.float32)
        assert iou(a, b)[0].tolist() == pytest.approx([1 / 7, 0, 0])

    @given(box_lists, st.integers(0, 99), st.floats(0.05, 0.95))
    def test_without_overlaps_keeps_the_best_and_nothing_that_overlaps(
        self, boxes: NDArray[np.float32], seed: int, limit: float
    ) -> None:
        faces = Faces.of(boxes, np.random.default_rng(seed).uniform(-1, 2, len(boxes)))
        kept = without_overlaps(faces, limit)
        assert list(kept.scores_N) == sorted(kept.scores_N, reverse=True)
        apart = iou(kept.boxes_N4, kept.boxes_N4)
        np.fill_diagonal(apart, 0)
        assert (apart <= limit).all()
        for box_4, score in zip(faces.boxes_N4, faces.scores_N, strict=True):  # whatever is gone had a better neighbour
            if score in kept.scores_N:
                continue
            assert (iou(box_4[None], kept.boxes_N4[kept.scores_N >= score]) > limit).any()
