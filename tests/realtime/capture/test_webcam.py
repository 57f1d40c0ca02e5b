"""Webcams: none there, in use, unplugged. OpenCV is replaced at one seam; where no camera is, it is asked, too."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.capture.source import open_source
from realtime.capture.webcam import BACKENDS, WebcamSource
from realtime.errors import SourceError
from realtime.settings import CaptureSettings
from tests.realtime.capture.cameras import FakeSystem
from tests.realtime.capture.films import scene

PICTURES = [scene(number, 96, 64) for number in range(4)]
QUICK = CaptureSettings(reconnect_max_s=1.0)


def test_pictures_are_turned_into_rgb_once_asked_for() -> None:
    bgr = np.zeros((4, 6, 3), np.uint8)
    bgr[:] = (200, 100, 50)
    source = WebcamSource(0, CaptureSettings(), system=FakeSystem([bgr]).system)
    frame = source.read()
    assert frame is not None
    assert tuple(frame.rgb[0, 0]) == (50, 100, 200)
    assert frame.grey[0, 0] == cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)[0, 0]
    assert (source.name, source.live, source.info.kind, source.info.fps) == ("camera 0", True, "webcam", 30.0)


def test_size_and_rate_are_asked_of_the_systems_own_backend() -> None:
    fake = FakeSystem(PICTURES)
    WebcamSource(0, CaptureSettings(width=1280, height=720, fps=30.0), system=fake.system)
    (number, backend, asked) = fake.asked[0]
    assert number == 0
    assert backend in (*BACKENDS.values(), cv2.CAP_ANY)
    assert asked == [cv2.CAP_PROP_FRAME_WIDTH, 1280, cv2.CAP_PROP_FRAME_HEIGHT, 720, cv2.CAP_PROP_FPS, 30]


def test_a_grey_camera_and_one_without_a_rate() -> None:
    source = WebcamSource(0, CaptureSettings(), system=FakeSystem([np.full((4, 6), 77, np.uint8)], rate=0.0).system)
    frame = source.read()
    assert frame is not None
    assert tuple(frame.rgb[0, 0]) == (77, 77, 77)
    assert source.info.fps is None


def test_no_such_camera_lists_those_that_are_there() -> None:
    with pytest.raises(SourceError, match=r"^no camera 3 \(found: 0\)$"):
        WebcamSource(3, CaptureSettings(), system=FakeSystem(PICTURES).system)


def test_no_camera_at_all() -> None:
    with pytest.raises(SourceError, match=r"no camera 0 \(none was found; connect one"):
        WebcamSource(0, CaptureSettings(), system=FakeSystem([], there=False).system)


def test_camera_in_use() -> None:
    fake = FakeSystem(PICTURES, usable=False)
    with pytest.raises(SourceError, match="camera 0: in use"):
        WebcamSource(0, CaptureSettings(), system=fake.system)
    assert all(capture.released for capture in fake.opened)


def test_camera_that_gives_nothing_is_released() -> None:
    fake = FakeSystem([])
    with pytest.raises(SourceError, match="camera 0 gives no picture"):
        WebcamSource(0, CaptureSettings(), system=fake.system)
    assert fake.opened[0].released


def test_one_failed_read_is_no_loss() -> None:
    fake = FakeSystem([PICTURES[0], None, PICTURES[1]])
    source = WebcamSource(0, CaptureSettings(), system=fake.system)
    assert [frame.index for frame in (source.read(), source.read()) if frame] == [0, 1]
    assert len(fake.opened) == 1


def test_unplugged_and_plugged_in_again() -> None:
    fake = FakeSystem(PICTURES[:2])
    source = WebcamSource(0, QUICK, system=fake.system)
    said: list[str] = []

    def plug_in_again() -> None:
        fake.there = False
        while not source.status:
            time.sleep(0.01)
        said.append(source.status)
        fake.pictures, fake.there = list(PICTURES), True

    hand = threading.Thread(target=plug_in_again)
    frames = [source.read(), source.read()]
    hand.start()
    frames += [source.read(), source.read()]
    hand.join()
    source.close()
    assert said[0].startswith("reconnecting in 1 s: camera 0 gives no picture; was it unplugged")
    assert source.status == ""
    assert [frame.index for frame in frames if frame] == [0, 1, 2, 3]
    times_s = [frame.time_s for frame in frames if frame]
    assert np.all(np.diff(times_s) > 0)
    assert times_s[2] - times_s[1] > 0.5
    assert fake.opened[0].released


def test_close_wakes_a_reader_that_waits_for_the_camera() -> None:
    source = WebcamSource(0, CaptureSettings(), system=FakeSystem(PICTURES[:1]).system)
    source.read()
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(source.read()))
    reader.start()
    while not source.status:
        time.sleep(0.01)
    source.close()
    reader.join(5)
    assert got == [None]


@pytest.mark.skipif(any(Path("/dev").glob("video*")), reason="this machine has a camera")
@pytest.mark.parametrize("spec", ["0", "3", "/dev/video7"])
def test_this_machine_without_a_camera_says_so_and_nothing_else(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=rf"no camera {spec[-1]} \(none was found"):
        open_source(spec, CaptureSettings())
    assert capfd.readouterr() == ("", "")
