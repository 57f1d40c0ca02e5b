"""The demo source: a real face, the same frames every time, an empty second, the Source contract."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest

from realtime.capture import demo
from realtime.capture.demo import EMPTY, FRAMES, HEIGHT, WIDTH, DemoSource, demo_photo, view_at
from realtime.errors import SourceError
from realtime.records import Frame
from realtime.settings import CaptureSettings


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    source = DemoSource(CaptureSettings())
    read = list(iter(source.read, None))
    source.close()
    return read


def faces_in(frame: Frame) -> list[dlib.rectangle]:
    return list(dlib.get_frontal_face_detector().run(frame.grey, 0, 0.5)[0])


def test_every_frame_in_order_from_time_zero_then_the_end(frames: list[Frame]) -> None:
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert frames[0].time_s == 0.0
    assert frames[-1].time_s == pytest.approx(9.9667, abs=1e-3)
    assert {(frame.rgb.shape, str(frame.rgb.dtype), frame.source) for frame in frames[::50]} == {
        ((HEIGHT, WIDTH, 3), "uint8", "demo")
    }


def test_info_says_what_is_given(frames: list[Frame]) -> None:
    info = DemoSource(CaptureSettings()).info
    assert (info.kind, info.width, info.height, info.frames) == ("demo", WIDTH, HEIGHT, len(frames))
    assert DemoSource(CaptureSettings(loop=True)).info.frames is None


def test_the_same_frames_every_time(frames: list[Frame]) -> None:
    again = DemoSource(CaptureSettings())
    for expected in frames[:5]:
        frame = again.read()
        assert frame is not None
        assert np.array_equal(frame.rgb, expected.rgb)


def test_neighbouring_frames_differ_by_movement_and_noise(frames: list[Frame]) -> None:
    differences = [np.abs(a.grey.astype(int) - b.grey.astype(int)).mean() for a, b in itertools.pairwise(frames[:60])]
    assert min(differences) > 0.5
    assert max(differences) < 25


@pytest.mark.parametrize("index", [0, 60, 120, 170, 215, 299])
def test_the_face_is_there_and_large_enough(frames: list[Frame], index: int) -> None:
    boxes = faces_in(frames[index])
    assert len(boxes) == 1
    assert boxes[0].width() > 60, "smaller than the smallest face that is wanted by default"


def test_a_second_is_empty(frames: list[Frame]) -> None:
    assert len(EMPTY) == 30
    for index in (EMPTY.start, 195, EMPTY.stop - 1):
        assert faces_in(frames[index]) == []
        assert np.ptp(cv2.GaussianBlur(frames[index].grey, (0, 0), 9)) < 100, "the portrait is still in sight"


def test_light_zoom_and_place_change() -> None:
    views = [view_at(index) for index in range(FRAMES) if index not in EMPTY]
    assert np.ptp([view.light for view in views]) > 0.3
    assert np.ptp([view.zoom for view in views]) > 0.5
    assert np.ptp([view.x for view in views]) > 200
    assert np.ptp([view.roll_deg for view in views]) > 4


def test_loop_starts_again_with_growing_index_and_time(frames: list[Frame]) -> None:
    source = DemoSource(CaptureSettings(loop=True))
    source._next = FRAMES  # as if the first round had been read: drawing it takes two seconds
    frame = source.read()
    assert frame is not None
    assert (frame.index, frame.time_s) == (FRAMES, pytest.approx(10.0))
    assert np.array_equal(frame.rgb, frames[0].rgb)


def test_as_a_camera_a_late_reader_gets_the_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(demo.time, "monotonic", lambda: clock[0])
    source = DemoSource(CaptureSettings(as_live=True))
    assert source.live
    first = source.read()
    clock[0] += 0.51
    late = source.read()
    assert first is not None
    assert late is not None
    assert (first.index, late.index) == (0, 15)


def test_as_a_camera_it_waits_for_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.time, "monotonic", lambda: 100.0)
    source = DemoSource(CaptureSettings(as_live=True))
    waits: list[float] = []
    monkeypatch.setattr(source._closed, "wait", waits.append)
    source.read()
    source.read()
    assert waits == [0.0, pytest.approx(1 / 30)]


def test_close_wakes_a_waiting_read_and_may_come_twice() -> None:
    source = DemoSource(CaptureSettings(as_live=True))
    assert source.read() is not None
    assert source._started_at_s is not None
    source._started_at_s += 3600  # the next frame is due in an hour
    got: list[Frame | None] = []
    reader = threading.Thread(target=lambda: got.append(source.read()))
    reader.start()
    source.close()
    source.close()
    reader.join(timeout=20)
    assert got == [None]


def test_without_scikit_image_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"pip install 'realtime-arcface\[demo\]'"):
        DemoSource(CaptureSettings())


@pytest.mark.parametrize(("content", "message"), [(None, "without its astronaut"), (b"no picture", "damaged")])
def test_a_broken_scikit_image_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "astronaut.png").write_bytes(content)
    spec = ModuleSpec("skimage", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(SourceError, match=message):
        DemoSource(CaptureSettings())


def test_scikit_image_is_found_without_being_imported() -> None:
    code = "import sys; from realtime.capture.demo import demo_photo; demo_photo(); print('skimage' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_photo_holds_one_face() -> None:
    grey = cv2.cvtColor(cv2.imread(str(demo_photo())), cv2.COLOR_BGR2GRAY)
    assert len(dlib.get_frontal_face_detector()(grey, 0)) == 1
