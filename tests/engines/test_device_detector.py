"""The detector for batches on a device finds what the detector on the host finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.dlib import detector as dlib_detector
from engines.dlib.detector import CnnDetector, boxes_of_cells, decode
from engines.dlib.detector_graph import detector_graph
from engines.dlib.networks import Detector, read_mmod
from engines.dlib.pyramid import layout
from engines.dlib.widened import detector_module
from engines.errors import EngineError, OutOfDeviceMemory
from engines.gpu import decoding
from engines.gpu.candidates import WAYS
from engines.gpu.decoding import HEAD, PLACES, Rules, decoded
from engines.gpu.detector import BUCKETS, Detections, DeviceDetector, buckets_for, map_size
from engines.graphs.epilogues import fuse
from engines.graphs.torch_graph import to_torch
from engines.models import CNN_DETECTOR, find_weights
from engines.runtimes import Choice, Row
from tests.paths import SHARED, needs_shared
from tests.pretended_gpu import moved, pretended_gpu

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def on_host() -> CnnDetector:
    return CnnDetector(runtime="onnxruntime", precision="fp32")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return read_mmod(find_weights(*CNN_DETECTOR))


def frames_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(3, H, W, 3): a face, its mirror image, none."""
    return np.stack([image, image[:, ::-1], np.full_like(image, 90)])


@pytest.mark.parametrize("size", [(480, 360), (301, 417), (122, 256), (84, 147), (29, 29), (8, 8)], ids=str)
def test_boxes_are_those_of_the_host(size: tuple[int, int], on_host: CnnDetector, astronaut: Any) -> None:
    frames = frames_of(cv2.resize(astronaut[20:320, 60:360], size))
    found = DeviceDetector(CPU).detect(torch.from_numpy(frames)).on_host()
    for frame, (boxes, scores) in zip(frames, found, strict=True):
        expected, confidences = on_host.detect(frame)
        assert np.array_equal(boxes, expected)
        assert boxes.dtype == scores.dtype == np.float32
        assert np.allclose(scores, confidences, atol=5e-5)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_fewer_bits_find_the_same_face(precision: str, on_host: CnnDetector, astronaut: Any) -> None:
    frame = cv2.resize(astronaut[20:320, 60:360], (320, 320))
    [(boxes, scores)] = DeviceDetector(CPU, precision).detect_on_host(frame[None])
    expected, confidences = on_host.detect(frame)
    assert len(boxes) == len(expected) == 1
    assert np.abs(boxes - expected).max() <= 20
    assert np.allclose(scores, confidences, atol=0.02)


def test_more_than_the_places_hold_is_decoded_in_full(on_host: CnnDetector, astronaut: Any) -> None:
    frame = cv2.resize(astronaut[20:320, 60:360], (240, 180))
    detections = DeviceDetector(CPU).detect(torch.from_numpy(frame[None]), min_score=-4.0)
    assert detections.overflowed_B.tolist() == [True]
    [(boxes, scores)] = detections.on_host()
    expected, _ = on_host.detect(frame, min_score=-4.0)
    assert len(boxes) > 10
    assert abs(len(boxes) - len(expected)) <= 0.1 * len(expected)  # near-equal scores may change places
    assert (np.diff(scores) <= 0).all()


def test_one_limit_after_the_other(astronaut: Any) -> None:
    detector = DeviceDetector(CPU)
    frame = cv2.resize(astronaut[20:320, 60:360], (320, 320))[None]
    counts = [len(detector.detect_on_host(frame, min_score=limit)[0][0]) for limit in (0.0, 3.0, 0.0)]
    assert counts == [1, 0, 1]
    assert detector.detect_on_host([]) == []


@pytest.mark.parametrize(
    "frames",
    [torch.zeros(9, 9, 3, dtype=torch.uint8), torch.zeros(1, 9, 9, 3), torch.zeros(0, 9, 9, 3, dtype=torch.uint8)],
)
def test_other_frames_are_refused(frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"uint8 of shape \(B, H, W, 3\) is needed"):
        DeviceDetector(CPU).detect(frames)


def test_a_batch_that_does_not_fit_goes_in_pieces(monkeypatch: pytest.MonkeyPatch, astronaut: Any) -> None:
    seen: list[int] = []

    def small(module: Any, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        def compute(frames: torch.Tensor) -> torch.Tensor:
            seen.append(len(frames))
            if len(frames) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            result: torch.Tensor = module(frames)
            return result

        return compute

    monkeypatch.setattr("engines.gpu.detector.WAYS", {"small": small})
    frames = np.concatenate([frames_of(cv2.resize(astronaut[20:320, 60:360], (160, 160)))] * 2)[:5]
    found = DeviceDetector(CPU, ways=("small",)).detect_on_host(frames)
    whole = DeviceDetector(CPU)
    monkeypatch.setattr("engines.gpu.detector.WAYS", WAYS)
    expected = whole.detect_on_host(frames)
    assert max(seen) == 8
    assert seen[-1] <= 2
    assert [boxes.tolist() for boxes, _ in found] == [boxes.tolist() for boxes, _ in expected]


def test_no_memory_for_one_frame_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(module: Any, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        def compute(frames: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return compute

    monkeypatch.setattr("engines.gpu.detector.WAYS", {"none": none, "eager": WAYS["eager"]})
    with pytest.raises(OutOfDeviceMemory):
        DeviceDetector(CPU, ways=("none", "eager")).detect(torch.zeros(3, 64, 64, 3, dtype=torch.uint8))


def test_a_way_that_does_not_work_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: Any, device: torch.device) -> Any:
        raise ImportError("no module named triton")

    def late(module: Any, device: torch.device) -> Any:
        def compute(frames: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("its kernels cannot be compiled: no C compiler")

        return compute

    monkeypatch.setattr("engines.gpu.detector.WAYS", {"absent": absent, "late": late, "eager": WAYS["eager"]})
    frames = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    detector = DeviceDetector(CPU, ways=("absent", "late", "eager"))
    assert detector.detect(frames).counts_B.tolist() == [0]
    assert detector.way == "eager"
    with pytest.raises(EngineError, match="compiled"):
        DeviceDetector(CPU, ways=("absent", "late")).detect(frames)


@pytest.mark.parametrize("size", [(160, 120), (84, 147), (60, 200)], ids=str)
def test_maps_are_those_of_the_graph(size: tuple[int, int], detector: Detector, astronaut: Any) -> None:
    """In tall frames the smallest levels climb into the largest, which lies above them."""
    pyramid = layout(*size)
    frames = torch.from_numpy(frames_of(cv2.resize(astronaut[20:320, 60:360], size)))
    graph = to_torch(detector_graph(detector.network, pyramid), dtype=torch.float32)
    module = detector_module(detector.network, pyramid, torch.float32, "the detector")
    assert torch.allclose(module(frames), graph(frames), atol=1e-5)
    assert module(frames).shape[2:] == map_size(pyramid)


def test_fused_kernels_change_no_score(monkeypatch: pytest.MonkeyPatch, astronaut: Any) -> None:
    monkeypatch.setattr("engines.gpu.detector.WAYS", {"fused": lambda module, device: fuse(module).forward})
    frame = cv2.resize(astronaut[20:320, 60:360], (160, 160))[None]
    detections = [DeviceDetector(CPU, ways=("fused",)).detect(torch.from_numpy(frame))]
    monkeypatch.setattr("engines.gpu.detector.WAYS", WAYS)
    detections.append(DeviceDetector(CPU).detect(torch.from_numpy(frame)))
    assert torch.allclose(detections[0]._flat_BX[:, HEAD:], detections[1]._flat_BX[:, HEAD:], atol=1e-5)


def test_on_a_gpu_frames_of_one_size_go_together(monkeypatch: pytest.MonkeyPatch, astronaut: Any) -> None:
    """The processor stands in for the GPU."""
    batches: list[int] = []

    class Counting(DeviceDetector):
        def detect(self, frames_BHWC: torch.Tensor, *, min_score: float = 0.0) -> Detections:
            batches.append(len(frames_BHWC))
            return super().detect(frames_BHWC, min_score=min_score)

    monkeypatch.setattr(dlib_detector, "choose", lambda *args: Choice(row=Row("torch-cuda", "fp32"), threads=1))
    monkeypatch.setattr(dlib_detector, "_on_gpu", lambda precision, path: Counting(CPU, precision, path=path))
    detector = CnnDetector()
    assert detector.batches
    image = astronaut[20:320, 60:360]
    frames = [cv2.resize(image, size) for size in ((200, 160), (160, 200), (200, 160))]
    frames[2] = frames[2][:, ::-1]
    found = detector.detect_batch(frames)
    assert batches == [2, 1]
    assert detector.detect_batch([]) == []
    monkeypatch.undo()
    plain = CnnDetector(runtime="onnxruntime", precision="fp32")
    assert not plain.batches
    for (boxes, scores), (expected, confidences), alone in zip(
        found, plain.detect_batch(frames), map(detector.detect, frames), strict=True
    ):
        assert np.array_equal(boxes, expected)
        assert np.array_equal(boxes, alone[0])
        assert np.allclose(scores, confidences, atol=5e-5)
    with pytest.raises(ValueError, match=r"uint8 of shape \(H, W, 3\) is needed"):
        detector.detect_batch([np.zeros((9, 9))])
    detector.close()
    detector.close()


@pytest.mark.parametrize(
    ("message", "goes_on"),
    [
        ("CUDA error: operation not permitted when stream is capturing", True),
        ("CUDA out of memory", False),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_what_cannot_be_recorded_is_computed_call_by_call(
    monkeypatch: pytest.MonkeyPatch, message: str, goes_on: bool
) -> None:
    def refused(compute: Any, images: torch.Tensor) -> Any:
        try:
            raise RuntimeError(message)
        except RuntimeError as err:
            if "out of memory" in message:  # ending the recording fails too
                raise RuntimeError("CUDA error: the capture was invalidated") from err
            raise

    monkeypatch.setattr("engines.gpu.detector.cuda_graph", refused)
    detector, images = DeviceDetector(CPU), torch.ones(2)
    if goes_on:
        assert detector._recorded(lambda x: x + 1, images)().tolist() == [2, 2]
    else:
        with pytest.raises(RuntimeError):
            detector._recorded(lambda x: x + 1, images)
    assert detector.recordable is not goes_on


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_gpu_finds_what_the_processor_finds(precision: str, on_host: CnnDetector, astronaut: Any) -> None:
    """Before graphs are recorded and after it, batches of several sizes, another limit, more than the places hold."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no NVIDIA GPU")
    detector = DeviceDetector(torch.device("cuda"), precision)
    frame = cv2.resize(astronaut[20:320, 60:360], (480, 360))
    expected, confidences = on_host.detect(frame)
    for batch in (1, 1, 1, 3, 8, 3, 1):
        for boxes, scores in detector.detect_on_host([frame] * batch):
            assert np.abs(boxes - expected).max() <= (0 if precision == "fp32" else 20)
            assert np.allclose(scores, confidences, atol=1e-3 if precision == "fp32" else 0.03)
    assert detector.recordable
    assert [len(boxes) for boxes, _ in detector.detect_on_host([frame] * 2, min_score=3.0)] == [0, 0]
    on_device = torch.from_numpy(frame).cuda()[None]
    assert detector.detect(on_device, min_score=-4.0).overflowed_B.tolist() == [True]
    assert len(detector.detect(on_device, min_score=-4.0).on_host()[0][0]) > 10
    detector.close()


def test_large_frames_keep_to_what_32_bits_count() -> None:
    for width, height in ((640, 480), (1920, 1080), (7680, 4320)):
        pyramid = layout(width, height)
        sizes = buckets_for(pyramid)
        assert sizes == BUCKETS[: len(sizes)]
        assert sizes == (1,) or sizes[-1] * 8 * pyramid.width * pyramid.height <= 1 << 31


# maps of a frame of 160x120 pixels, decoded in both places

SMALL = layout(160, 120)


def rules_of(detector: Detector) -> Rules:
    height, width = map_size(SMALL)
    rows, columns = (axis.ravel() for axis in np.indices((height, width)))
    boxes = torch.from_numpy(boxes_of_cells(rows, columns, detector, SMALL).astype(np.float32))
    return Rules(boxes, detector.nms_iou, detector.nms_covered)


def both(maps_BHW: NDArray[np.float32], least: float, detector: Detector) -> int:
    """Hold the device's boxes to the host's; returns how many frames its places were too few for."""
    flat = torch.from_numpy(maps_BHW.reshape(len(maps_BHW), -1))
    result = decoded(flat, torch.tensor(least, dtype=torch.float32), rules_of(detector)).numpy()
    assert np.array_equal(result[:, HEAD:], flat.numpy(), equal_nan=True)
    short = 0
    for map_HW, row in zip(maps_BHW, result, strict=True):
        boxes, scores = decode(map_HW, detector, SMALL, least)
        count, overflowed = int(row[HEAD - 2]), bool(row[HEAD - 1])
        if overflowed:
            short += 1
            continue
        assert np.array_equal(row[: 4 * PLACES].reshape(-1, 4)[:count], boxes)
        assert np.array_equal(row[4 * PLACES :][:count], scores)
    return short


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_maps_are_decoded_as_on_the_host(detector: Detector, data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    share = data.draw(st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]))
    steps = data.draw(st.sampled_from([1, 3, 50, 100_000]))  # few values: many of them equal
    least = data.draw(st.sampled_from([0.0, -0.5, 0.4, -1.0, -np.inf]))
    shape = (2, *map_size(SMALL))
    maps = random.integers(-steps, steps + 1, shape) / steps * np.where(random.random(shape) < share, 1, -0.0)
    both(maps.astype(np.float32), least, detector)


def test_few_cells_need_no_second_look_and_many_do(detector: Detector) -> None:
    random = np.random.default_rng(5)
    maps = random.random((6, *map_size(SMALL))).astype(np.float32)
    assert both(np.where(maps > 0.99, maps, -1).astype(np.float32), 0.0, detector) == 0
    assert maps[0].size > decoding.CANDIDATES
    assert both(maps, -1.0, detector) == 6


def test_chains_longer_than_the_rounds_are_not_believed(monkeypatch: pytest.MonkeyPatch, detector: Detector) -> None:
    maps = np.random.default_rng(6).random((20, *map_size(SMALL))).astype(np.float32)
    maps[maps < 0.8] = -1
    monkeypatch.setattr(decoding, "ROUNDS", 2)
    assert both(maps, 0.0, detector) > 0
    monkeypatch.setattr(decoding, "ROUNDS", 64)
    assert both(maps, 0.0, detector) == 0


def test_not_a_number_is_no_face(detector: Detector) -> None:
    maps = np.full((1, *map_size(SMALL)), np.nan, dtype=np.float32)
    assert both(maps, 0.0, detector) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_nothing_waits_for_the_device_and_all_lies_on_it(detector: Detector, dtype: torch.dtype) -> None:
    module = detector_module(detector.network, layout(160, 120), dtype, "the detector")
    height, width = map_size(layout(160, 120))
    with pretended_gpu() as device:
        rules = Rules(torch.empty(height * width, 4, device=device), detector.nms_iou, detector.nms_covered)
        maps = moved(module, device)(torch.empty(2, 120, 160, 3, dtype=torch.uint8, device=device))
        assert maps.shape == (2, 1, height, width)
        assert maps.dtype == torch.float32
        result = decoded(maps.flatten(1), torch.empty((), device=device), rules)
    assert result.device == device
    assert result.shape == (2, HEAD + height * width)


def small_group_photos() -> list[NDArray[np.uint8]]:
    found = []
    for name, scale in (("2008_001322", 1.0), ("2008_002506", 1.0), ("bald_guys", 0.8)):
        bgr = cv2.imread(str(SHARED / "group_photos" / f"{name}.jpg"))
        found.append(np.ascontiguousarray(cv2.resize(bgr, None, fx=scale, fy=scale)[:, :, ::-1]))
    return found


class TestShared:
    pytestmark = needs_shared

    def test_boxes_in_group_photos_are_those_of_the_host(self, on_host: CnnDetector) -> None:
        ours, total = DeviceDetector(CPU), 0
        for image in small_group_photos():
            frames = np.stack([image, image[:, ::-1]])
            detections = ours.detect(torch.from_numpy(frames))
            for frame, (boxes, scores) in zip(frames, detections.on_host(), strict=True):
                expected, confidences = on_host.detect(frame)
                assert np.array_equal(boxes, expected)
                assert np.allclose(scores, confidences, atol=5e-5)
                total += len(boxes)
        assert total >= 12
