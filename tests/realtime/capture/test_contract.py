"""What every source promises, whatever it is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.capture.source import Source, open_source
from realtime.capture.webcam import WebcamSource
from realtime.records import Frame
from realtime.settings import CaptureSettings
from tests.realtime.capture.cameras import FakeSystem
from tests.realtime.capture.films import make_film, scene
from tests.rtsp_server import RtspServer

Opener = Callable[[Path, ExitStack], Source]


def from_file(folder: Path, stack: ExitStack) -> Source:
    return open_source(str(make_film(folder / "clip.mp4", frames=6)), CaptureSettings())


def from_file_as_camera(folder: Path, stack: ExitStack) -> Source:
    return open_source(str(make_film(folder / "clip.mp4", frames=6)), CaptureSettings(as_live=True))


def from_photos(folder: Path, stack: ExitStack) -> Source:
    for number in range(3):
        cv2.imwrite(str(folder / f"photo{number}.png"), scene(number, 96, 64)[..., ::-1])
    return open_source(str(folder), CaptureSettings())


def from_one_photo(folder: Path, stack: ExitStack) -> Source:
    cv2.imwrite(str(folder / "photo.jpg"), scene(1, 96, 64)[..., ::-1])
    return open_source(str(folder / "photo.jpg"), CaptureSettings())


def from_stream(folder: Path, stack: ExitStack) -> Source:
    camera = stack.enter_context(RtspServer(make_film(folder / "clip.mp4", frames=60)))
    return open_source(camera.url, CaptureSettings(timeout_s=5))


def from_webcam(folder: Path, stack: ExitStack) -> Source:
    return WebcamSource(0, CaptureSettings(), system=FakeSystem([scene(n, 96, 64) for n in range(6)]).system)


def from_demo(folder: Path, stack: ExitStack) -> Source:
    pytest.importorskip("skimage")
    return open_source("demo", CaptureSettings())


@pytest.fixture(
    params=[from_file, from_file_as_camera, from_photos, from_one_photo, from_stream, from_webcam, from_demo],
    ids=lambda opener: opener.__name__,
)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    with ExitStack() as stack:
        opened = request.param(tmp_path, stack)
        stack.callback(opened.close)
        yield opened


def test_first_frame_has_index_zero_and_time_zero(source: Source) -> None:
    frame = source.read()
    assert frame is not None
    assert (frame.index, frame.time_s, frame.source) == (0, 0.0, source.name)


def test_indices_and_times_grow(source: Source) -> None:
    frames = [frame for frame in (source.read() for _ in range(5)) if frame is not None]
    assert np.all(np.diff([frame.index for frame in frames]) >= 1)
    assert np.all(np.diff([frame.time_s for frame in frames]) > 0)
    if not source.live:
        assert [frame.index for frame in frames] == list(range(len(frames)))


def test_frames_are_as_the_source_describes_them(source: Source) -> None:
    frame = source.read()
    assert frame is not None
    info = source.info
    assert (frame.width, frame.height) == (info.width, info.height)
    assert frame.rgb.shape == (info.height, info.width, 3)
    assert frame.grey.shape == (info.height, info.width)
    assert frame.rgb.dtype == frame.grey.dtype == np.uint8
    assert frame.rgb.flags.c_contiguous
    assert info.kind in ("webcam", "video file", "stream", "images", "demo")
    assert info.fps is None or info.fps > 0
    assert info.frames is None or (info.frames > 0 and not source.live)


def test_name_is_short_and_printable_and_nothing_is_wrong(source: Source) -> None:
    assert 0 < len(source.name) <= 60
    assert source.name.isprintable()
    assert source.status == ""


def test_frames_outlive_their_source(source: Source) -> None:
    frame = source.read()
    assert frame is not None
    source.close()
    assert frame.rgb.shape[:2] == frame.grey.shape


def test_close_may_be_called_twice_and_ends_reading(source: Source) -> None:
    source.read()
    source.close()
    source.close()
    assert source.read() is None


def test_close_before_the_first_read(source: Source) -> None:
    source.close()
    assert source.read() is None


def test_close_from_another_thread_ends_a_reader(source: Source) -> None:
    ends: list[None] = []

    def drain() -> None:
        while source.read() is not None:
            pass
        ends.append(None)

    reader = threading.Thread(target=drain)
    reader.start()
    source.close()
    reader.join(5)
    assert ends == [None]


@pytest.mark.parametrize(
    "opener", [from_file, from_photos, from_one_photo, from_file_as_camera], ids=lambda f: f.__name__
)
def test_the_end_stays_the_end_and_twice_is_the_same(opener: Opener, tmp_path: Path) -> None:
    def all_frames() -> list[Frame]:
        with ExitStack() as stack:
            source = opener(tmp_path, stack)
            frames = list(iter(source.read, None))
            assert source.read() is None
            assert source.read() is None
            source.close()
        return frames

    first, second = all_frames(), all_frames()
    assert [(f.index, f.time_s) for f in first] == [(f.index, f.time_s) for f in second]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)
        np.testing.assert_array_equal(one.grey, other.grey)


def test_a_given_name_replaces_the_own_one(tmp_path: Path) -> None:
    source = open_source(str(make_film(tmp_path / "clip.mp4")), CaptureSettings(), name="door")
    frame = source.read()
    source.close()
    assert source.name == "door"
    assert frame is not None
    assert frame.source == "door"
