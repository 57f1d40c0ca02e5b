"""Crops: each template against the program that it comes from, and no crash wherever the points lie."""

from __future__ import annotations

import math
import types
from typing import Any

import cv2
import dlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from engines.engine import Engine
from realtime.faces.alignment import (
    ARCFACE_FIVE,
    ARCFACE_FROM_DLIB_5,
    LEFT_EYE_68,
    RIGHT_EYE_68,
    TEMPLATES,
    align,
    alignment_matrix,
    five_points,
    similarity,
    template_named,
)
from realtime.faces.landmarks import Landmarker, dlib_model_path
from realtime.records import RGB_HW3
from tests.realtime.pictures import FACE_BOX

POINTS_5 = np.array([(130, 80), (115, 80), (70, 80), (85, 80), (100, 110)], dtype=np.float64)


@pytest.fixture(scope="module")
def landmarker_68() -> Landmarker:
    return Landmarker("68")


def sized(image: RGB_HW3, scale: float) -> tuple[RGB_HW3, NDArray[np.float32]]:
    """The astronaut at ``scale``, and the face's box in it."""
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    out = cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)
    return np.asarray(out, dtype=np.uint8), np.array(FACE_BOX, dtype=np.float32) * np.float32(scale)


def turned(image: RGB_HW3, degrees: float) -> RGB_HW3:
    """Around the face, so that its box stays about where it was."""
    centre = (FACE_BOX[0] + FACE_BOX[2]) / 2, (FACE_BOX[1] + FACE_BOX[3]) / 2
    matrix_23 = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    return np.asarray(cv2.warpAffine(image, matrix_23, (512, 512)), dtype=np.uint8)


def as_dlib(box_4: NDArray[np.float32], points_P2: NDArray[np.float64]) -> Any:
    left, top, right, bottom = (int(v) for v in np.rint(box_4))
    parts = [dlib.point(int(x), int(y)) for x, y in points_P2]
    return dlib.full_object_detection(dlib.rectangle(left, top, right - 1, bottom - 1), parts)


def mean_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


class TestDlibChip:
    @pytest.mark.parametrize("scale", [0.35, 0.7, 1.0, 1.6, 2.2])
    @pytest.mark.parametrize("degrees", [0.0, 17.0])
    def test_is_dlibs_own_chip(self, astronaut: RGB_HW3, engine: Engine, scale: float, degrees: float) -> None:
        image, box_4 = sized(turned(astronaut, degrees), scale)
        points_P2 = Landmarker().points(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), box_4[None])[0]
        ours = align(image, points_P2, "dlib_chip_150")
        theirs = dlib.get_face_chip(image, as_dlib(box_4, points_P2), 150, 0.25)
        assert ours.shape == theirs.shape == (150, 150, 3)
        assert ours.dtype == np.uint8
        assert mean_difference(ours, theirs) < 1.0
        our_D, their_D = engine.run(np.stack([ours, theirs]))
        assert float(((our_D - their_D) ** 2).sum()) < 1e-3

    def test_68_points_give_the_chip_of_5(self, astronaut: RGB_HW3, engine: Engine, landmarker_68: Landmarker) -> None:
        """dlib itself fits 51 of the 68; we take the five that the other predictor has, so that the two go together."""
        image, box_4 = sized(turned(astronaut, 17.0), 1.0)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        five, many = (landmarker.points(grey, box_4[None])[0] for landmarker in (Landmarker(), landmarker_68))
        theirs = dlib.get_face_chip(image, as_dlib(box_4, many), 150, 0.25)
        from_5, from_68, their = engine.run(
            np.stack([align(image, five, "dlib_chip_150"), align(image, many, "dlib_chip_150"), theirs])
        )
        assert float(((from_68 - from_5) ** 2).sum()) < 0.01
        assert float(((from_68 - their) ** 2).sum()) < 0.02

    def test_a_larger_face_still_embeds_as_dlibs_chip(self, astronaut: RGB_HW3, engine: Engine) -> None:
        """dlib then samples a pyramid in other steps, so pixels differ a little; the person does not."""
        image, box_4 = sized(astronaut, 5.0)
        points_P2 = Landmarker().points(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), box_4[None])[0]
        theirs = dlib.get_face_chip(image, as_dlib(box_4, points_P2), 150, 0.25)
        our_D, their_D = engine.run(np.stack([align(image, points_P2, "dlib_chip_150"), theirs]))
        assert float(((our_D - their_D) ** 2).sum()) < 0.01


class TestEyes:
    @pytest.fixture
    def imutils_aligner(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """imutils 0.5.4 hands numpy integers to cv2, which refuses them: its cv2 gets floats here."""
        from imutils.face_utils import facealigner

        def matrix(centre: Any, angle: float, scale: float) -> Any:
            return cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), float(angle), float(scale))

        patched = types.SimpleNamespace(
            getRotationMatrix2D=matrix, warpAffine=cv2.warpAffine, INTER_CUBIC=cv2.INTER_CUBIC
        )
        monkeypatch.setattr(facealigner, "cv2", patched)
        return facealigner.FaceAligner

    def crops(
        self, aligner: Any, image: RGB_HW3, box_4: NDArray[np.float32], points_P2: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        theirs = aligner(lambda grey, rect: as_dlib(box_4, points_P2), desiredFaceWidth=112)
        return align(image, points_P2, "eyes_112"), theirs.align(image, image[..., 0], None)

    @pytest.mark.parametrize("degrees", [0.0, -20.0])
    @pytest.mark.parametrize("scale", [0.8, 1.3])
    def test_is_imutils_crop_where_eyes_lie_on_whole_pixels(
        self, imutils_aligner: Any, astronaut: RGB_HW3, landmarker_68: Landmarker, scale: float, degrees: float
    ) -> None:
        image, box_4 = sized(turned(astronaut, degrees), scale)
        points_P2 = landmarker_68.points(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), box_4[None])[0]
        for eye in (LEFT_EYE_68, RIGHT_EYE_68):  # imutils cuts eye centres and their middle to whole pixels
            points_P2[eye[0]] -= points_P2[list(eye)].sum(axis=0) % 12
        ours, theirs = self.crops(imutils_aligner, image, box_4, points_P2)
        assert ours.shape == theirs.shape == (112, 112, 3)
        assert mean_difference(ours, theirs) < 0.5

    def test_is_within_a_pixel_of_imutils_crop_anywhere(
        self, imutils_aligner: Any, astronaut: RGB_HW3, landmarker_68: Landmarker
    ) -> None:
        image, box_4 = sized(astronaut, 1.3)
        points_P2 = landmarker_68.points(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), box_4[None])[0]
        ours, theirs = (
            cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
            for crop in self.crops(imutils_aligner, image, box_4, points_P2)
        )
        shift, response = cv2.phaseCorrelate(ours, theirs)
        assert math.hypot(*shift) < 1.2
        assert response > 0.5

    @pytest.mark.parametrize("points", ["5", "68"])
    def test_puts_both_eyes_at_35_percent(self, astronaut: RGB_HW3, landmarker_68: Landmarker, points: str) -> None:
        landmarker = landmarker_68 if points == "68" else Landmarker()
        grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
        points_P2 = landmarker.points(grey, np.array([FACE_BOX], dtype=np.float32))[0]
        matrix_23 = alignment_matrix(points_P2, TEMPLATES["eyes_112"])
        eyes = (LEFT_EYE_68, RIGHT_EYE_68) if points == "68" else ((2, 3), (0, 1))
        for eye, x in zip(eyes, (0.35, 0.65), strict=True):
            centre = points_P2[list(eye)].mean(axis=0)
            assert matrix_23 @ [*centre, 1.0] == pytest.approx([x * 112, 0.35 * 112], abs=1e-9)


class TestArcface:
    def test_the_five_reference_points_are_insightfaces(self) -> None:
        assert ARCFACE_FIVE.tolist() == [
            [38.2946, 51.6963],
            [73.5318, 51.5014],
            [56.0252, 71.7366],
            [41.5493, 92.3655],
            [70.7299, 92.2041],
        ]

    def test_68_points_go_to_the_five_reference_points(self) -> None:
        """A face whose eyes, nose and mouth form the template, turned, scaled and moved: it comes back exactly."""
        turn = 2.3 * np.exp(0.4j)
        placed = (ARCFACE_FIVE @ [1, 1j]) * turn + (300 + 40j)
        points_P2 = np.random.default_rng(0).uniform(0, 500, (68, 2))
        for picks, where in zip((LEFT_EYE_68, RIGHT_EYE_68, (30,), (48,), (54,)), placed, strict=True):
            wobble = np.linspace(-3, 3, len(picks)) * (len(picks) > 1)
            points_P2[list(picks)] = np.stack([where.real + wobble, where.imag - wobble], axis=1)
        matrix_23 = alignment_matrix(points_P2, TEMPLATES["arcface_112"])
        sources = np.stack([placed.real, placed.imag, np.ones(5)])
        assert np.abs((matrix_23 @ sources).T - ARCFACE_FIVE).max() < 1e-9

    def test_dlibs_5_points_go_to_their_place_in_arcfaces_frame(self) -> None:
        placed = (ARCFACE_FROM_DLIB_5 @ [1, 1j]) * (0.7 - 0.2j) + (90 + 10j)
        matrix_23 = alignment_matrix(np.stack([placed.real, placed.imag], axis=1), TEMPLATES["arcface_112"])
        sources = np.stack([placed.real, placed.imag, np.ones(5)])
        assert np.abs((matrix_23 @ sources).T - ARCFACE_FROM_DLIB_5).max() < 1e-9

    def test_5_and_68_points_give_nearly_the_same_crop(self, astronaut: RGB_HW3, landmarker_68: Landmarker) -> None:
        grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
        boxes = np.array([FACE_BOX], dtype=np.float32)
        from_5 = align(astronaut, Landmarker().points(grey, boxes)[0], "arcface_112")
        from_68 = align(astronaut, landmarker_68.points(grey, boxes)[0], "arcface_112")
        shift, _ = cv2.phaseCorrelate(*(crop[..., 1].astype(np.float32) for crop in (from_5, from_68)))
        assert math.hypot(*shift) < 4


coordinate = st.floats(-1000, 1000, allow_nan=False)


class TestSimilarity:
    @given(
        hnp.arrays(np.float64, (5, 2), elements=st.floats(-100, 100)),
        st.floats(0.05, 20),
        st.floats(-math.pi, math.pi),
        coordinate,
        coordinate,
    )
    def test_recovers_any_similarity(
        self, points_P2: NDArray[np.float64], scale: float, turn: float, x: float, y: float
    ) -> None:
        if np.ptp(points_P2, axis=0).max() < 1:
            return
        rotation = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        moved_P2 = points_P2 @ rotation.T + (x, y)
        found = similarity(points_P2, moved_P2)
        assert points_P2 @ found[:, :2].T + found[:, 2] == pytest.approx(moved_P2, abs=1e-6)

    def test_is_the_least_squares_answer(self) -> None:
        """Against the normal equations of the four numbers."""
        random = np.random.default_rng(3)
        from_P2, to_P2 = random.normal(0, 40, (5, 2)), random.normal(0, 40, (5, 2))
        rows = []
        for x, y in from_P2:
            rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        (a, b, shift_x, shift_y), *_ = np.linalg.lstsq(np.array(rows), to_P2.ravel(), rcond=None)
        assert similarity(from_P2, to_P2) == pytest.approx(np.array([[a, -b, shift_x], [b, a, shift_y]]))

    def test_one_point_five_times_is_only_moved(self) -> None:
        found = similarity(np.full((5, 2), 7.0), POINTS_5)
        assert np.isfinite(found).all()
        assert found[:, :2].tolist() == [[1, 0], [0, 1]]


class TestAnywhere:
    @pytest.mark.parametrize("template", TEMPLATES)
    def test_outside_of_the_image_is_black(self, template: str) -> None:
        white = np.full((200, 200, 3), 255, dtype=np.uint8)
        half_out = align(white, POINTS_5 - (100, 0), template)
        assert not half_out[:, :20].any()
        assert (half_out[40:-40, -20:] == 255).all()
        assert not align(white, POINTS_5 + 5000, template).any()
        assert not align(white, POINTS_5 - 5000, template).any()

    @settings(max_examples=60, deadline=None)
    @given(
        st.sampled_from(sorted(TEMPLATES)),
        st.integers(1, 60),
        st.integers(1, 60),
        hnp.arrays(np.float64, (5, 2), elements=st.integers(-3000, 3000)),
        st.integers(0, 40),
    )
    def test_no_points_and_no_image_size_crash(
        self, template: str, height: int, width: int, points_P2: NDArray[np.float64], margin: int
    ) -> None:
        crop = align(np.full((height, width, 3), 200, np.uint8), points_P2, template, margin_px=margin)
        side = TEMPLATES[template].size + 2 * margin
        assert crop.shape == (side, side, 3)
        assert crop.dtype == np.uint8

    @pytest.mark.parametrize("template", TEMPLATES)
    @pytest.mark.parametrize("apart", [0.0, 1e-3, 0.5, 1.0])
    def test_points_on_top_of_each_other_give_a_finite_matrix(self, template: str, apart: float) -> None:
        """A shape predictor may answer so for a box of a few pixels."""
        points_P2 = 50 + (POINTS_5 - 100) / 60 * apart
        assert np.isfinite(alignment_matrix(points_P2, TEMPLATES[template])).all()
        matrix_23 = alignment_matrix(points_P2, TEMPLATES[template])
        assert matrix_23[0, 0] >= 0  # never turned over

    @pytest.mark.parametrize("template", TEMPLATES)
    @pytest.mark.parametrize("times", [8.0, 11.3])
    def test_a_face_far_larger_than_its_crop_is_averaged_not_aliased(self, template: str, times: float) -> None:
        """A chessboard of single pixels is even grey from afar; a sampler that skips pixels sees patterns in it."""
        size = TEMPLATES[template].size
        side = int(size * times * 2)
        board = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
        image = np.repeat(board[:, :, None], 3, axis=2)
        points_P2 = (TEMPLATES["dlib_chip_150"].from_5 / 150 * size) * times + side / 5
        crop = align(image, points_P2, template)[10:-10, 10:-10]
        assert float(crop.std()) < 4
        assert float(crop.mean()) == pytest.approx(127.5, abs=2)

    @pytest.mark.parametrize("scale", [0.9, 2.0, 8.0])
    @pytest.mark.parametrize("template", TEMPLATES)
    def test_the_crop_is_the_same_whatever_the_size_of_the_photo(
        self, astronaut: RGB_HW3, template: str, scale: float
    ) -> None:
        """Points scaled with the picture: averaging a large face down moves nothing."""
        grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
        points_P2 = Landmarker().points(grey, np.array([FACE_BOX], dtype=np.float32))[0]
        part, corner = astronaut[:300, 60:400], np.array([60.0, 0.0])
        large = np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        # pixel centres: the first of the small picture lies (scale - 1) / 2 into the large one
        once = align(part, points_P2 - corner, template)
        again = align(large, (points_P2 - corner) * scale + (scale - 1) / 2, template)
        shift, _ = cv2.phaseCorrelate(*(cv2.cvtColor(c, cv2.COLOR_RGB2GRAY).astype(np.float32) for c in (once, again)))
        assert math.hypot(*shift) < 0.5
        assert mean_difference(once, again) < 4

    def test_a_margin_only_adds_surroundings(self, astronaut: RGB_HW3) -> None:
        grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
        points_P2 = Landmarker().points(grey, np.array([FACE_BOX], dtype=np.float32))[0]
        for template in TEMPLATES:
            wide = align(astronaut, points_P2, template, margin_px=20)
            assert mean_difference(wide[20:-20, 20:-20], align(astronaut, points_P2, template)) < 0.5
            assert wide[:20].any()


@pytest.mark.parametrize("shape", [(4, 2), (5, 3), (67, 2), (0, 2), (10,), (68, 2, 1)])
def test_another_number_of_points_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(5, 2\) or \(68, 2\), but got"):
        align(np.zeros((10, 10, 3), np.uint8), np.zeros(shape), "arcface_112")


def test_an_unknown_template_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'arcface_128' is not known; known are dlib_chip_150, arcface_112, eyes_112"):
        template_named("arcface_128")


def test_five_points_are_found_among_68(astronaut: RGB_HW3, landmarker_68: Landmarker) -> None:
    """Of the same face, from two predictors: a few pixels apart, and in the same order."""
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    boxes = np.array([FACE_BOX], dtype=np.float32)
    five, many = Landmarker().points(grey, boxes)[0], landmarker_68.points(grey, boxes)[0]
    assert five_points(five) is five
    assert np.linalg.norm(five_points(many) - five, axis=1).max() < 8


def test_the_predictors_file_comes_from_the_package() -> None:
    assert dlib_model_path("shape_predictor_5_face_landmarks.dat").is_file()


def test_a_manifest_may_name_the_templates_that_there_are() -> None:
    from engines.manifest import CROPS

    assert {name: template.size for name, template in TEMPLATES.items()} == CROPS
