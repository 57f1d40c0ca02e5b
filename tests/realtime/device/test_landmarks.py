"""The predictor on a device gives dlib's points, to the pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.dlib.shape_predictor import read_shape_predictor
from engines.gpu.buckets import Compute, plain
from realtime.device.landmarks import DeviceLandmarker, _one_by_one, _scanned
from realtime.device.recorded import RecordedLandmarker
from realtime.faces.landmarks import FILES, Landmarker, dlib_model_path
from tests.paths import SHARED, needs_shared
from tests.pretended_gpu import pretended_gpu
from tests.realtime.pictures import astronaut

CPU = torch.device("cpu")


@lru_cache(maxsize=1)
def device_landmarker() -> DeviceLandmarker:
    return DeviceLandmarker("5", device=CPU)


def points(grey_BHW: NDArray[np.uint8], boxes: object, frames: object) -> NDArray[np.float64]:
    boxes_N4 = torch.as_tensor(np.asarray(boxes, dtype=np.float32).reshape(-1, 4))
    frames_N = torch.as_tensor(np.asarray(frames, dtype=np.int64))
    return device_landmarker().points(torch.from_numpy(grey_BHW), boxes_N4, frames_N).numpy()


@lru_cache(maxsize=1)
def portrait() -> NDArray[np.uint8]:
    return np.ascontiguousarray(cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY))


@given(st.lists(st.tuples(*[st.floats(-40, 40, width=32)] * 4), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_points_are_dlibs_wherever_the_box_is(moves: list[tuple[float, float, float, float]]) -> None:
    boxes_N4 = np.array([168, 67, 276, 175], dtype=np.float32) + np.array(moves, dtype=np.float32)
    expected = np.stack(Landmarker("5").points(portrait(), boxes_N4))
    assert np.array_equal(points(portrait()[None], boxes_N4, [0] * len(moves)), expected)


def test_a_box_over_the_edge_sees_black_there() -> None:
    boxes_N4 = np.array([[-60, -50, 90, 100], [430, 440, 580, 590], [-900, -900, -700, -700]], dtype=np.float32)
    expected = np.stack(Landmarker("5").points(portrait(), boxes_N4))
    assert np.array_equal(points(portrait()[None], boxes_N4, [0, 0, 0]), expected)


def test_each_face_is_looked_for_in_its_own_frame() -> None:
    frames = np.stack([portrait(), np.ascontiguousarray(portrait()[:, ::-1])])
    boxes_N4 = np.array([[236, 67, 344, 175], [168, 67, 276, 175]], dtype=np.float32)
    found = points(frames, boxes_N4, [1, 0])
    for row, frame in enumerate((1, 0)):
        assert np.array_equal(found[row], Landmarker("5").points(frames[frame], boxes_N4[row : row + 1])[0])


def test_both_ways_of_adding_in_order_add_the_same() -> None:
    random = torch.Generator().manual_seed(1)
    table = torch.randint(-50, 50, (40, 10), generator=random).float()  # exact in any order
    rows = torch.randint(0, 40, (3, 17), generator=random)
    start = torch.randint(-50, 50, (3, 10), generator=random).float()
    expected = start + table[rows].sum(dim=1)
    assert torch.equal(_one_by_one(start, table, rows), expected)
    assert torch.equal(_scanned(start, table, rows), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU and torch for it")
def test_a_gpu_gives_dlibs_points() -> None:
    boxes_N4 = np.array([168, 67, 276, 175]) + np.random.default_rng(2).uniform(-20, 20, (99, 4))
    there = DeviceLandmarker("5", device="cuda")
    recorded = RecordedLandmarker(there)
    arguments = (
        torch.from_numpy(portrait()).cuda()[None],
        torch.from_numpy(boxes_N4.astype(np.float32)).cuda(),
        torch.zeros(99, dtype=torch.int64, device="cuda"),
    )
    expected = np.stack(Landmarker("5").points(portrait(), boxes_N4.astype(np.float32)))
    assert np.array_equal(there.points(*arguments).cpu().numpy(), expected)
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        for _ in range(2):
            assert np.array_equal(recorded.points(*arguments).cpu().numpy(), expected)


def test_no_faces_give_no_points() -> None:
    assert points(portrait()[None], [], []).shape == (0, 5, 2)


def test_the_host_never_waits_and_nothing_lies_elsewhere() -> None:
    predictor = read_shape_predictor(dlib_model_path(FILES["5"]))
    with pretended_gpu() as device:
        landmarker = DeviceLandmarker(predictor, device=device)
        grey_BHW = torch.empty(2, 48, 64, dtype=torch.uint8, device=device)
        boxes_N4 = torch.empty(3, 4, device=device)
        frames_N = torch.empty(3, dtype=torch.int64, device=device)
        found = landmarker.points(grey_BHW, boxes_N4, frames_N)
    assert found.device == device
    assert found.shape == (3, 5, 2)


def test_recorded_landmarks_are_the_same_whatever_came_before() -> None:
    recorded = RecordedLandmarker(device_landmarker(), record=plain)
    frames = torch.from_numpy(np.stack([portrait(), np.ascontiguousarray(portrait()[:, ::-1]), portrait()]))
    boxes_N4 = torch.tensor([[168, 67, 276, 175], [236, 67, 344, 175], [160, 60, 260, 160]], dtype=torch.float32)
    for some, owners in (([0], [0]), ([0, 1, 2], [0, 1, 0]), ([1], [1]), ([2, 1], [2, 1]), ([0], [0])):
        shown = frames[: max(owners) + 1]
        owners_N = torch.tensor(owners)
        expected = device_landmarker().points(shown, boxes_N4[some], owners_N)
        assert torch.equal(recorded.points(shown, boxes_N4[some], owners_N), expected)
    small = frames[:1, :300, :400]
    expected = device_landmarker().points(small, boxes_N4[:1], torch.tensor([0]))
    assert torch.equal(recorded.points(small, boxes_N4[:1], torch.tensor([0])), expected)
    assert recorded.points(small, boxes_N4[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 5, 2)


def test_what_is_prepared_is_not_recorded_again() -> None:
    made: list[int] = []

    def counted(compute: Compute, boxes: torch.Tensor) -> Callable[[], torch.Tensor]:
        made.append(len(boxes))
        return plain(compute, boxes)

    recorded = RecordedLandmarker(device_landmarker(), record=counted)
    recorded.prepare(3, 512, 512, faces=3)
    assert made == [1, 2, 4]
    grey = torch.from_numpy(np.stack([portrait()] * 2))
    boxes_N4 = torch.tensor([[168, 67, 276, 175]] * 3, dtype=torch.float32)
    recorded.points(grey, boxes_N4, torch.tensor([0, 1, 1]))
    recorded.points(grey[:1], boxes_N4[:1], torch.tensor([0]))
    assert made == [1, 2, 4]
    recorded.points(grey[:1].expand(5, -1, -1), boxes_N4[:1], torch.tensor([4]))  # more frames than there is room for
    assert made == [1, 2, 4, 1]


def test_what_cannot_be_recorded_runs_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def refuses(compute: Compute, images: torch.Tensor) -> Callable[[], torch.Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    recorded = RecordedLandmarker(device_landmarker(), record=refuses)
    boxes_N4 = torch.tensor([[168, 67, 276, 175]], dtype=torch.float32)
    grey, owner = torch.from_numpy(portrait())[None], torch.tensor([0])
    for _ in range(2):
        assert torch.equal(recorded.points(grey, boxes_N4, owner), device_landmarker().points(grey, boxes_N4, owner))
    assert caplog.text.count("cannot be recorded") == 1


@pytest.mark.parametrize("predictor", ["5", "68"])
@pytest.mark.shared
@needs_shared[1]
def test_points_of_group_photos_are_dlibs(predictor: str) -> None:
    import dlib

    own, theirs = DeviceLandmarker(predictor, device=CPU), Landmarker(predictor)
    random = np.random.default_rng(1)
    detector = dlib.get_frontal_face_detector()
    for path in sorted((SHARED / "group_photos").glob("2008*.jpg")):
        grey = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
        boxes = [(box.left(), box.top(), box.right() + 1, box.bottom() + 1) for box in detector(grey, 1)]
        boxes_N4 = np.repeat(np.array(boxes, dtype=np.float32), 3, axis=0)
        boxes_N4 += random.uniform(-6, 6, boxes_N4.shape).astype(np.float32)
        frames_N = torch.zeros(len(boxes_N4), dtype=torch.int64)
        found = own.points(torch.from_numpy(grey)[None], torch.from_numpy(boxes_N4), frames_N).numpy()
        assert np.array_equal(found, np.stack(theirs.points(grey, boxes_N4)))
