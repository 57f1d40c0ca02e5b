"""Detections of several cameras in one batch are those of each camera alone, and nobody is left waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.dlib import detector as dlib_detector
from engines.gpu.detector import DeviceDetector
from engines.runtimes import Choice, Row
from realtime.faces.detection import CnnDetector
from realtime.flow import lookout as lookout_module
from realtime.flow.lookout import Lookout
from realtime.records import RGB_HW3, Faces, Frame
from realtime.settings import DetectSettings
from tests.realtime.pictures import astronaut_at, frame_of

SETTINGS = DetectSettings(kind="cnn", threads=2)

LIMIT_S = 20.0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that stands in for a GPU: the same detector, without graphs."""
    torch.set_num_threads(1)
    monkeypatch.setattr(dlib_detector, "choose", lambda *args: Choice(row=Row("torch-cuda", "fp32"), threads=1))
    monkeypatch.setattr(
        dlib_detector, "_on_gpu", lambda precision, path: DeviceDetector(torch.device("cpu"), precision, path=path)
    )


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    plain = CnnDetector.find_batch

    def find_batch(self: CnnDetector, images: Sequence[NDArray[np.uint8]]) -> list[Faces]:
        gate.enter(len(images))
        return plain(self, images)

    monkeypatch.setattr(CnnDetector, "find_batch", find_batch)
    yield gate
    gate.open.set()


class Gate:
    """Holds each batch back until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.batches: list[int] = []
        self.failure: Exception | None = None

    def enter(self, images: int) -> None:
        self.batches.append(images)
        self.reached.set()
        assert self.open.wait(LIMIT_S)
        if self.failure is not None:
            raise self.failure


def frames() -> list[Frame]:
    """Of four cameras, two of which have frames of one size."""
    pictures: list[RGB_HW3] = [
        astronaut_at((240, 180), 1.0),
        astronaut_at((180, 240), 1.0),
        np.ascontiguousarray(astronaut_at((240, 180), 1.0)[:, ::-1]),
        np.full((180, 240, 3), 90, dtype=np.uint8),
    ]
    return [frame_of(picture) for picture in pictures]


def held(lookout: Lookout, gate: Gate) -> tuple[Future[Faces], list[Future[Faces]]]:
    """One detection under way, and the others waiting behind it."""
    first, *others = frames()
    under_way = lookout.find(first, 70)
    assert gate.reached.wait(LIMIT_S)
    return under_way, [lookout.find(frame, 70) for frame in others]


@pytest.mark.parametrize("photos", [False, True])
def test_batched_results_are_those_of_one_by_one(gpu: None, gate: Gate, photos: bool) -> None:
    gate.open.set()
    lookout = Lookout(SETTINGS, photos=photos)
    alone = [lookout.find(frame, 70).result(LIMIT_S) for frame in frames()]
    assert gate.batches == [1, 1, 1, 1]
    gate.open.clear()
    gate.reached.clear()
    under_way, waiting = held(lookout, gate)
    gate.open.set()
    together = [future.result(LIMIT_S) for future in (under_way, *waiting)]
    lookout.close()
    assert gate.batches[4:] == [1, 3]
    assert [len(faces.boxes_N4) for faces in together] == [1, 1, 1, 0]
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.boxes_N4, other.boxes_N4)
        assert np.allclose(one.scores_N, other.scores_N, atol=1e-5)


def test_no_batch_is_larger_than_the_most(gpu: None, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout_module, "MOST_TOGETHER", 2)
    lookout = Lookout(SETTINGS)
    under_way, waiting = held(lookout, gate)
    gate.open.set()
    wait([under_way, *waiting], LIMIT_S)
    lookout.close()
    assert gate.batches == [1, 2, 1]


def test_a_failure_reaches_everyone_of_its_batch_and_the_next_one_works(gpu: None, gate: Gate) -> None:
    lookout = Lookout(SETTINGS)
    gate.failure = RuntimeError("the device is gone")
    under_way, waiting = held(lookout, gate)
    gate.open.set()
    for future in (under_way, *waiting):
        with pytest.raises(RuntimeError, match="the device is gone"):
            future.result(LIMIT_S)
    gate.failure = None
    assert len(lookout.find(frames()[0], 70).result(LIMIT_S).boxes_N4) == 1
    lookout.close()


def test_a_closed_lookout_leaves_nobody_waiting(gpu: None, gate: Gate) -> None:
    lookout = Lookout(SETTINGS)
    under_way, waiting = held(lookout, gate)
    lookout.close()
    lookout.close()
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(LIMIT_S)
    assert not wait(waiting, 0).not_done
    gate.open.set()
    assert len(under_way.result(LIMIT_S).boxes_N4) == 1
    with pytest.raises(RuntimeError, match="closed"):
        lookout.find(frames()[0], 70)


def test_who_no_longer_wants_a_result_is_left_out(gpu: None, gate: Gate) -> None:
    lookout = Lookout(SETTINGS)
    under_way, waiting = held(lookout, gate)
    assert waiting[0].cancel()
    gate.open.set()
    wait([under_way, *waiting], LIMIT_S)
    lookout.close()
    assert gate.batches == [1, 2]


def test_without_a_gpu_each_frame_goes_alone() -> None:
    lookout = Lookout(SETTINGS)
    assert lookout._batches is None
    found: Any = [lookout.find(frame, 70) for frame in frames()[:2]]
    assert [len(future.result(LIMIT_S).boxes_N4) for future in found] == [1, 1]
    lookout.close()
    with pytest.raises(RuntimeError):
        lookout.find(frames()[0], 70)
