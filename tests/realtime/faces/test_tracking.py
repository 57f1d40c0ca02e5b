"""One number stays with one face while it moves, and with no other face."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.faces.boxes import iou
from realtime.faces.detection import detect, scale_for
from realtime.faces.motion import flow_boxes
from realtime.faces.scenes import Prepared
from realtime.faces.tracking import TENTATIVE_GAP_FRAMES, TENTATIVE_LOOKS, Followed, TrackedFace, Tracker
from realtime.records import RGB_HW3, Faces
from realtime.settings import DetectSettings, TrackSettings
from tests.paths import SHARED, needs_shared
from tests.realtime.pictures import (
    astronaut_at,
    face_box,
    follow,
    frame_of,
    hog,
    now,
    stranger_at,
    wall,
)


def overlap(face: TrackedFace, box_4: NDArray[np.float32]) -> float:
    return float(iou(face.box_4[None], box_4[None])[0, 0])


def path(index: int) -> tuple[tuple[float, float], float]:
    """A head that wanders and comes nearer: up to 7 pixels and 2 % a frame."""
    turn = index / 60 * 2 * np.pi
    return (320 + 70 * float(np.sin(turn)), 180 + 30 * float(np.sin(2 * turn))), 0.95 + 0.2 * float(np.cos(turn))


@functools.cache
def wandering() -> tuple[tuple[RGB_HW3, ...], tuple[Followed, ...]]:
    pictures = tuple(astronaut_at(*path(index)) for index in range(60))
    return pictures, tuple(follow(pictures))


class TestOneFace:
    def test_keeps_its_number_and_its_place(self) -> None:
        looks: list[int] = []
        pictures, _ = wandering()
        seen = follow(
            pictures, detect_settings=DetectSettings(every=10), watch=lambda frame, least_px: looks.append(frame.index)
        )
        assert looks == [0, 10, 20, 30, 40, 50]
        for index, followed in enumerate(seen):
            (face,) = followed.faces
            assert face.track == 1
            assert overlap(face, face_box(*path(index))) > 0.5
            assert not face.tentative
            assert face.doubt == 0
        assert [f.frame.index for f in seen if f.faces[0].detected] == looks

    def test_the_same_frames_give_the_same_boxes(self) -> None:
        pictures, first = wandering()
        for once, again in zip(first, follow(pictures), strict=True):
            assert [face.track for face in once.faces] == [face.track for face in again.faces]
            assert (once.faces[0].box_4 == again.faces[0].box_4).all()

    def test_that_grows_is_followed_in_size(self) -> None:
        """Flow alone, after the first look: the box grows with the face."""
        sizes = np.linspace(0.8, 1.5, 30)
        seen = follow([astronaut_at((320, 180), s) for s in sizes], detect_settings=DetectSettings(every=1000))
        for size, followed in zip(sizes, seen, strict=True):
            assert overlap(followed.faces[0], face_box((320, 180), size)) > 0.6

    def test_that_leaves_the_picture_ends(self) -> None:
        seen = follow([astronaut_at((500 + 7 * index, 180), 1.0) for index in range(60)])
        assert [face.track for face in seen[0].faces] == [1]
        assert seen[-1].faces == ()
        gone = next(index for index, followed in enumerate(seen) if not followed.faces)
        assert 500 + 7 * gone > 590  # not while it was half in view
        assert all(not followed.faces for followed in seen[gone:])

    def test_that_vanishes_without_a_cut_ends_soon(self) -> None:
        """The wall behind it does not move with anything: no box is left on it for good."""
        shown = [astronaut_at((320, 180), 0.5)] * 15
        seen = follow(shown + [wall()] * 45)
        assert seen[14].faces
        lost = seen[15].faces
        assert not lost or lost[0].doubt > seen[14].faces[0].doubt or lost[0].missed == 0
        assert seen[-1].faces == ()

    def test_one_that_comes_back_later_has_a_new_number(self) -> None:
        face, empty = astronaut_at((320, 180), 0.5), wall()
        seen = follow([face] * 5 + [empty] * 45 + [face] * 20)
        assert seen[49].faces == ()
        (face,) = seen[-1].faces
        assert face.track > 1


class TestAnotherFace:
    def test_after_a_cut_has_a_new_number(self) -> None:
        first = [astronaut_at((200, 180), 1.0)] * 5
        second = [stranger_at((210, 185), 1.0, on=wall(9))] * 5
        seen = follow(first + second)
        assert seen[5].cut
        assert [f.track for f in seen[4].faces] == [1]
        assert [f.track for f in seen[5].faces] == [2]
        assert seen[5].faces[0].detected

    def test_at_the_same_place_raises_doubt_or_has_a_new_number(self) -> None:
        """Nothing but the face changes, from one frame to the next."""
        for which in range(3):
            before, after = astronaut_at((320, 180), 0.6), stranger_at((320, 180), 0.6, which)
            seen = follow([before] * 12 + [after] * 12)
            (old,) = seen[11].faces
            for face in seen[13].faces:
                assert face.track != old.track or face.doubt > old.doubt

    def test_two_faces_have_two_numbers_and_do_not_swap(self) -> None:
        def both(index: int) -> RGB_HW3:
            return stranger_at((460 - index, 190), 0.7, on=astronaut_at((180 + index, 180), 0.8))

        seen = follow([both(index) for index in range(40)])
        first = {"left": 0, "right": 0}
        for index, followed in enumerate(seen):
            assert len(followed.faces) == 2
            left, right = sorted(followed.faces, key=lambda face: float(face.box_4[0]))
            first = first if index else {"left": left.track, "right": right.track}
            assert (left.track, right.track) == (first["left"], first["right"])
            assert overlap(left, face_box((180 + index, 180), 0.8)) > 0.5
            assert overlap(right, face_box((460 - index, 190), 0.7)) > 0.4


class TestRealFaces:
    pytestmark = needs_shared

    def test_one_face_pasted_over_another_is_doubted(self) -> None:
        """Ordered pairs of three people of one collage, in the same place of the same background."""
        photo = cv2.imread(str(SHARED / "group_photos" / "bald_guys.jpg"))
        assert photo is not None
        rgb = np.ascontiguousarray(photo[:, :, ::-1])
        frame = frame_of(rgb)
        boxes = detect(hog(), frame, scale_for(hog(), 40, frame.width, frame.height)).boxes_N4[[0, 1, 3]]
        faces = [self.cut(rgb, box_4) for box_4 in boxes]
        unnoticed = []
        for one in range(3):
            for other in range(3):
                if one == other:
                    continue
                seen = follow([self.on_wall(faces[one])] * 11 + [self.on_wall(faces[other])] * 11)
                assert len(seen[10].faces) == 1
                old = seen[10].faces[0]
                if any(face.track == old.track and face.doubt == old.doubt for face in seen[12].faces):
                    unnoticed.append((one, other))
        assert not unnoticed

    @staticmethod
    def cut(rgb: RGB_HW3, box_4: NDArray[np.float32]) -> RGB_HW3:
        left, top, right, bottom = (int(v) for v in box_4)
        more = (right - left) // 4
        part = rgb[max(0, top - more) : bottom + more, max(0, left - more) : right + more]
        return np.asarray(cv2.resize(part, (120, 120), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    @staticmethod
    def on_wall(face: RGB_HW3) -> RGB_HW3:
        out = wall().copy()
        out[120:240, 260:380] = face
        return out


@dataclass
class FakeDetector:
    """Says what it is told, wherever it is asked: scores of the region that a tracker looks at again."""

    again: list[float | None] = field(default_factory=list)
    """One answer a look, in order; None finds nothing; used up: nothing."""
    asked: int = 0
    smallest_px = 73.0
    colour = False
    sure_score = 0.25

    def find(self, image: NDArray[np.uint8]) -> Faces:
        self.asked += 1
        score = self.again.pop(0) if self.again else None
        if score is None:
            return Faces.none()
        middle, half = image.shape[0] / 2, self.smallest_px * 1.3 / 2
        return Faces.of([(middle - half, middle - half, middle + half, middle + half)], [score])

    def clone(self) -> FakeDetector:
        return self


STILL = wall()
SMALL = np.ascontiguousarray(STILL[..., 0])


def prepared(index: int, detection: Faces | None = None, *, cut: bool = False) -> Prepared:
    """A still picture: flow moves nothing."""
    found: Future[Faces] | None = None if detection is None else now(detection)
    return Prepared(frame=frame_of(STILL, index), small_grey=SMALL, small_scale=1.0, cut=cut, detection=found)


def tracker(detector: FakeDetector | None = None, **settings: Any) -> Tracker:
    used = FakeDetector() if detector is None else detector
    return Tracker(TrackSettings(**settings), lambda: used)


BOX = (200.0, 100.0, 260.0, 160.0)
FACE = Faces.of([BOX], [1.0])


class TestAssociation:
    def test_a_detection_where_the_track_is_confirms_it(self) -> None:
        ours = tracker()
        ours.step(prepared(0, FACE))
        (face,) = ours.step(prepared(1, Faces.of([(204, 100, 264, 160)], [0.7]))).faces
        assert (face.track, face.doubt, face.detected, face.missed) == (1, 0, True, 0)
        assert face.score == pytest.approx(0.7)
        assert face.box_4[0] == pytest.approx(202.4, abs=0.1)  # between the two, nearer to the detection

    def test_one_that_jumped_is_taken_as_it_is_and_doubted(self) -> None:
        ours = tracker()
        ours.step(prepared(0, FACE))
        (face,) = ours.step(prepared(1, Faces.of([(230, 100, 290, 160)], [0.7]))).faces  # overlap .33
        assert (face.track, face.doubt) == (1, 1)
        assert face.box_4.tolist() == [230, 100, 290, 160]

    def test_one_far_away_is_another_face(self) -> None:
        ours = tracker()
        ours.step(prepared(0, FACE))
        faces = ours.step(prepared(1, Faces.of([(245, 100, 305, 160)], [0.7]))).faces  # overlap .14
        assert [face.track for face in faces] == [1, 2]
        assert (faces[0].missed, faces[0].doubt) == (1, 1)

    def test_a_track_that_is_missed_too_often_ends(self) -> None:
        ours = tracker(max_missed=2)
        ours.step(prepared(0, FACE))
        missed = [[f.missed for f in ours.step(prepared(index, Faces.none())).faces] for index in (1, 2, 3)]
        assert missed == [[1], [2], []]

    def test_one_that_its_own_region_shows_is_not_missed(self) -> None:
        detector = FakeDetector(again=[0.9, 0.8])
        ours = tracker(detector)
        ours.step(prepared(0, FACE))
        for index in (1, 2):
            (face,) = ours.step(prepared(index, Faces.none())).faces
            assert (face.track, face.missed, face.doubt, face.detected) == (1, 0, 0, True)
        assert detector.asked == 2

    def test_a_look_that_finds_it_again_forgives_the_misses(self) -> None:
        ours = tracker()
        ours.step(prepared(0, FACE))
        ours.step(prepared(1, Faces.none()))
        (face,) = ours.step(prepared(2, FACE)).faces
        assert (face.missed, face.doubt) == (0, 1)

    def test_a_cut_ends_every_track(self) -> None:
        ours = tracker()
        ours.step(prepared(0, FACE))
        assert [f.track for f in ours.step(prepared(1, FACE, cut=True)).faces] == [2]

    @given(st.integers(0, 5000), st.integers(1, 5), st.integers(0, 5))
    def test_is_one_to_one_and_the_best_there_is(self, seed: int, tracks: int, detections: int) -> None:
        random = np.random.default_rng(seed)
        # tracks apart by more than two of them may overlap, detections anywhere near them
        starts = np.array([(60 + 75 * n, 120, 120 + 75 * n, 180) for n in range(tracks)], dtype=np.float32)
        sources = random.integers(0, tracks, detections)
        found = Faces.of(starts[sources] + random.uniform(-40, 40, (detections, 4)) / 2, np.ones(detections))
        ours = tracker(min_iou=0.2)
        first = ours.step(prepared(0, Faces.of(starts, np.ones(tracks)))).faces
        after = ours._associate(frame_of(STILL, 1), found)
        confirmed = {face.track: face for face in after if face.track <= tracks and not face.missed}
        assert len(after) == tracks + detections - len(confirmed)
        assert len({face.track for face in after}) == len(after)
        shares = iou(np.stack([face.box_4 for face in first]), found.boxes_N4)
        reached = sum(
            max(
                shares[row, column]
                for column in range(detections)
                if np.allclose(
                    confirmed[row + 1].box_4, _expected(first[row].box_4, found.boxes_N4[column], shares[row, column])
                )
            )
            for row in range(tracks)
            if row + 1 in confirmed
        )
        assert reached == pytest.approx(_best_total(shares, 0.2), abs=1e-4)


def _expected(track_4: NDArray[np.float32], found_4: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    return found_4 if share < 0.45 else 0.6 * found_4 + 0.4 * track_4


def _best_total(shares_NM: NDArray[np.float32], least: float) -> float:
    """By trying everything: the greatest sum over one-to-one pairs that overlap enough."""
    if not shares_NM.size:
        return 0.0
    without = _best_total(shares_NM[1:], least)
    options = [
        float(shares_NM[0, column]) + _best_total(np.delete(shares_NM[1:], column, axis=1), least)
        for column in range(shares_NM.shape[1])
        if shares_NM[0, column] >= least
    ]
    return max([without, *options])


class TestDoubles:
    def test_two_tracks_that_slid_onto_one_face_are_one(self) -> None:
        ours = tracker()
        ours.step(prepared(0, Faces.of([BOX, (300, 100, 360, 160)], [1.0, 0.9])))
        ours._tracks[1] = replace(ours._tracks[1], box_4=np.array(BOX, np.float32) + 4)
        assert [face.track for face in ours.step(prepared(1)).faces] == [1]

    def test_the_one_that_the_detector_still_sees_stays(self) -> None:
        ours = tracker()
        ours.step(prepared(0, Faces.of([BOX, (300, 100, 360, 160)], [1.0, 0.9])))
        older, newer = ours._tracks
        ours._tracks = [replace(older, missed=1), replace(newer, box_4=np.array(BOX, np.float32) + 4)]
        assert [face.track for face in ours.step(prepared(1)).faces] == [2]

    def test_neighbours_stay_two(self) -> None:
        ours = tracker()
        boxes = Faces.of([BOX, (240, 100, 300, 160)], [1.0, 0.9])
        ours.step(prepared(0, boxes))
        assert [face.track for face in ours.step(prepared(1)).faces] == [1, 2]


class TestTentative:
    WEAK = Faces.of([BOX], [0.1])
    LAST = TENTATIVE_GAP_FRAMES * (TENTATIVE_LOOKS - 1)

    def run(self, again: Sequence[float | None], frames: int | None = None) -> list[Followed]:
        ours = tracker(FakeDetector(again=list(again)))
        first = ours.step(prepared(0, self.WEAK))
        return [first, *(ours.step(prepared(index)) for index in range(1, frames or self.LAST + 3))]

    def test_a_weak_face_is_not_shown_until_it_is_proved(self) -> None:
        seen = self.run([0.3, 0.2, 0.4])
        assert all(followed.faces[0].tentative for followed in seen[: self.LAST])
        assert all(not followed.faces[0].tentative for followed in seen[self.LAST :])
        assert {face.track for followed in seen for face in followed.faces} == {1}

    @pytest.mark.parametrize("again", [[], [None, 0.1, 0.1], [0.02, 0.02, 0.02]])
    def test_one_that_is_not_proved_is_dropped(self, again: list[float | None]) -> None:
        seen = self.run(again)
        assert all(followed.faces[0].tentative for followed in seen[: self.LAST])
        assert all(followed.faces == () for followed in seen[self.LAST :])

    def test_one_miss_among_good_looks_does_not_matter(self) -> None:
        assert self.run([0.6, None, 0.5])[-1].faces != ()

    def test_a_sure_face_is_shown_at_once_and_not_examined(self) -> None:
        detector = FakeDetector()
        ours = tracker(detector)
        assert not ours.step(prepared(0, FACE)).faces[0].tentative
        for index in range(1, 10):
            ours.step(prepared(index))
        assert detector.asked == 0

    def test_without_tracking_every_detection_is_a_face_of_its_own(self) -> None:
        ours = tracker(enabled=False)
        first, second = (ours.step(prepared(index, self.WEAK)).faces for index in (0, 1))
        assert [f.track for f in (*first, *second)] == [1, 2]
        assert not first[0].tentative


class TestFlow:
    @pytest.mark.parametrize("shift", [(3.0, 0.0), (-5.0, 4.0), (0.0, 9.0)])
    @pytest.mark.parametrize("scale", [1.0, 0.5])
    def test_boxes_move_with_the_picture(self, shift: tuple[float, float], scale: float) -> None:
        before = astronaut_at((320, 180), 1.0)[..., 1].copy()
        after = astronaut_at((320 + shift[0], 180 + shift[1]), 1.0)[..., 1].copy()
        boxes = np.stack([face_box((320, 180), 1.0), face_box((320, 180), 0.6)])
        moved, good = flow_boxes(before, after, boxes, scale)
        assert good.all()
        assert moved * scale == pytest.approx(boxes + np.tile(shift, 2).astype(np.float32), abs=0.7)

    def test_a_face_that_is_gone_is_not_believed(self) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (360, 640), dtype=np.uint8)
        before = astronaut_at((320, 180), 1.0)[..., 1].copy()
        _, good = flow_boxes(before, noise, face_box((320, 180), 1.0)[None], 1.0)
        assert not good.any()

    @pytest.mark.parametrize(
        "box",
        [(-80, -80, -10, -10), (600, 330, 700, 430), (2000, 2000, 2100, 2100), (0, 0, 8, 8), (-50, -50, 900, 900)],
    )
    @pytest.mark.parametrize("size", [(360, 640), (20, 30), (1, 1), (3, 500)])
    def test_boxes_anywhere_in_pictures_of_any_size_do_no_harm(
        self, box: tuple[float, ...], size: tuple[int, int]
    ) -> None:
        picture = np.resize(SMALL, size)
        boxes = np.array([box, (5, 5, 40, 40)], dtype=np.float32)
        moved, good = flow_boxes(picture, picture.copy(), boxes, 1.0)
        assert moved.shape == (2, 4)
        assert good.shape == (2,)
        assert np.isfinite(moved).all()

    def test_a_face_is_followed_alone_as_it_is_among_others(self) -> None:
        """One window a face, or one for all: the answer hardly depends on it."""
        before, after = astronaut_at((120, 180), 0.9)[..., 1].copy(), astronaut_at((125, 182), 0.9)[..., 1].copy()
        box = face_box((120, 180), 0.9)
        alone, _ = flow_boxes(before, after, box[None], 1.0)
        others = np.stack([box, box + 20, np.array([500, 200, 560, 260], np.float32)])
        among, _ = flow_boxes(before, after, others, 1.0)
        assert among[0] == pytest.approx(alone[0], abs=0.3)


def test_frames_of_another_size_end_the_tracks() -> None:
    small, large = astronaut_at((320, 180), 0.6), cv2.resize(astronaut_at((320, 180), 0.6), (1280, 720))
    seen = follow([small] * 3 + [np.asarray(large, np.uint8)] * 3)
    assert [f.track for f in seen[2].faces] == [1]
    assert [f.track for f in seen[3].faces] == [2]
    assert overlap(seen[3].faces[0], face_box((640, 360), 1.2)) > 0.5


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (20, 20)])
def test_tiny_frames_have_no_faces_and_do_no_harm(size: tuple[int, int]) -> None:
    assert all(f.faces == () for f in follow([np.full((*size, 3), 90, np.uint8)] * 12))
