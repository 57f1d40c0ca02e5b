"""Video files as they come: turned, of uneven pace, odd, damaged, or no video at all."""

from __future__ import annotations

import gc
import logging
import threading
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime.capture.source import Source, open_source
from realtime.errors import SourceError
from realtime.records import Frame
from realtime.settings import CaptureSettings
from tests.realtime.capture.films import make_film, make_sound, scene, turn

LIVE_LOOP = CaptureSettings(as_live=True, loop=True)


def read_all(spec: Path | str, options: CaptureSettings | None = None) -> tuple[Source, list[Frame]]:
    source = open_source(str(spec), options or CaptureSettings())
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return source, frames


def frames_or_sentence(path: Path) -> list[Frame] | str:
    try:
        return read_all(path)[1]
    except SourceError as err:
        return str(err)


def red_corner(frame: Frame) -> str:
    """Where the scene's red quarter is."""
    red = frame.rgb[..., 0].astype(int) - frame.rgb[..., 2] > 100
    rows, columns = np.nonzero(red)
    upper = rows.mean() < frame.height / 2
    left = columns.mean() < frame.width / 2
    return f"{'upper' if upper else 'lower'} {'left' if left else 'right'}"


def test_every_frame_comes_with_its_own_time_and_colours(tmp_path: Path) -> None:
    source, frames = read_all(make_film(tmp_path / "clip.mp4"))
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(12) / 25, atol=1e-4)
    assert (source.name, source.live, source.status) == ("clip.mp4", False, "")
    info = source.info
    assert (info.kind, info.width, info.height, info.codec, info.frames) == ("video file", 96, 64, "h264", 12)
    for frame in frames:
        assert np.abs(frame.rgb[8:24, 8:32].reshape(-1, 3).mean(axis=0) - (230, 30, 30)).max() < 12
        assert np.abs(frame.rgb[40:, 56:].mean() - (60 + frame.index)) < 6


@pytest.mark.parametrize(
    ("clockwise", "size", "corner"),
    [(90, (64, 96), "upper right"), (180, (96, 64), "lower right"), (270, (64, 96), "lower left")],
)
def test_phone_video_stands_upright_in_colour_and_in_grey(
    tmp_path: Path, clockwise: int, size: tuple[int, int], corner: str
) -> None:
    source, frames = read_all(turn(make_film(tmp_path / "phone.mp4"), clockwise))
    assert source.info.rotation == clockwise
    assert (source.info.width, source.info.height) == size
    for frame in frames:
        assert (frame.width, frame.height) == size
        assert frame.rgb.shape == (size[1], size[0], 3)
        assert red_corner(frame) == corner
        expected = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY).astype(int) * 219 // 255 + 16
        assert np.abs(expected - frame.grey).mean() < 3


def test_uneven_pace_keeps_its_time_stamps(tmp_path: Path) -> None:
    times_s = [0.5, 0.54, 0.9, 1.0, 2.5, 2.51]
    _, frames = read_all(make_film(tmp_path / "vfr.mp4", frames=6, times_s=times_s))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(times_s) - 0.5, atol=1e-3)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "gray", ".mp4"),
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx264", "yuv422p", ".mkv"),
        ("libx264", "yuv444p10le", ".mkv"),
        ("libx264rgb", "rgb24", ".mkv"),
        ("mjpeg", "yuvj420p", ".avi"),
        ("ffv1", "gray16le", ".mkv"),
        ("ffv1", "bgra", ".mkv"),
        ("png", "rgba", ".mov"),
        ("rawvideo", "yuyv422", ".avi"),
        ("gif", "rgb8", ".gif"),
        ("libx264", "yuv420p", ".flv"),
    ],
)
def test_any_pixel_format_gives_the_same_scene(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    options = {"preset": "ultrafast"} if codec.startswith("libx264") else {}
    path = make_film(tmp_path / f"clip{suffix}", codec=codec, pix_fmt=pix_fmt, options=options, frames=3)
    _, frames = read_all(path)
    assert len(frames) == 3
    full_range = pix_fmt in ("rgb24", "yuvj420p", "bgra", "rgba", "rgb8", "gray16le")
    for number, frame in enumerate(frames):
        wanted = scene(number, 96, 64)
        grey = cv2.cvtColor(wanted, cv2.COLOR_RGB2GRAY).astype(float)
        if "gray" not in pix_fmt:
            assert np.abs(frame.rgb.astype(int) - wanted).mean() < (25 if codec == "gif" else 12), "a GIF dithers"
        if pix_fmt != "gray":
            luma = grey if full_range else grey * 219 / 255 + 16
            assert np.abs(frame.grey - luma).mean() < (20 if codec == "gif" else 8)
        assert frame.grey.shape == (64, 96)
        assert frame.grey.dtype == np.uint8


def test_ten_bits_and_eight_bits_have_the_same_grey(tmp_path: Path) -> None:
    _, eight = read_all(make_film(tmp_path / "8.mp4", frames=2))
    _, ten = read_all(make_film(tmp_path / "10.mp4", frames=2, pix_fmt="yuv420p10le"))
    assert np.abs(eight[1].grey.astype(int) - ten[1].grey).mean() < 1.5


@pytest.mark.parametrize(("width", "height"), [(2, 2), (17, 31), (98, 50), (1366, 768)])
def test_odd_sizes(tmp_path: Path, width: int, height: int) -> None:
    path = make_film(
        tmp_path / "odd.mkv", width=width, height=height, codec="ffv1", pix_fmt="yuv420p", options={}, frames=2
    )
    _, frames = read_all(path)
    assert [frame.rgb.shape for frame in frames] == [(height, width, 3)] * 2
    assert [frame.grey.shape for frame in frames] == [(height, width)] * 2


def test_grey_is_the_decoders_own_plane_and_outlives_it(tmp_path: Path) -> None:
    path = make_film(tmp_path / "clip.mp4", frames=60, noise=True, width=98)
    source = open_source(str(path), CaptureSettings())
    frames = []
    while (frame := source.read()) is not None:
        frames.append((frame, frame.grey, frame.grey.copy()))
        assert not frame.grey.flags.owndata
        assert not frame.grey.flags.writeable
    source.close()
    del source
    gc.collect()
    for frame, grey, copy in frames:
        np.testing.assert_array_equal(grey, copy)
        assert frame.rgb.shape == (64, 98, 3)


def test_untagged_hd_is_bt709_and_untagged_sd_is_bt601(tmp_path: Path) -> None:
    tags = {"preset": "ultrafast", "crf": "5", "colorprim": "undef", "colormatrix": "undef"}
    for width, height, code in ((1280, 720, cv2.COLOR_RGB2YUV), (640, 360, None)):
        path = make_film(tmp_path / f"{height}.mp4", width=width, height=height, frames=1, options=tags)
        _, [frame] = read_all(path)
        red = frame.rgb[height // 4, width // 4].astype(int)
        # The film is written with BT.601's matrix; read with BT.709's, pure red turns slightly darker and orange.
        if code is None:
            assert np.abs(red - (230, 30, 30)).max() < 8
        else:
            assert np.abs(red - (230, 30, 30)).max() > 8


def test_raw_h264_has_no_times_but_gets_even_ones(tmp_path: Path) -> None:
    path = make_film(tmp_path / "clip.h264", container_format="h264")
    source, frames = read_all(path)
    assert len(frames) == 12
    steps = np.diff([frame.time_s for frame in frames])
    assert (steps > 0).all()
    assert source.info.frames is None or source.info.frames > 0


@pytest.mark.parametrize("suffix", [".avi", ".txt", ".jpeg.bak", "", ".mp3"])
def test_suffix_does_not_matter(tmp_path: Path, suffix: str) -> None:
    path = make_film(tmp_path / "clip.mp4")
    renamed = path.rename(tmp_path / f"other{suffix}")
    assert len(read_all(renamed)[1]) == 12


def test_colon_and_percent_in_the_name(tmp_path: Path) -> None:
    for name in ("http:12%03d.mp4", "a'b ☃.mp4"):
        path = make_film(tmp_path / "clip.mp4").rename(tmp_path / name)
        assert len(read_all(path)[1]) == 12


def test_sound_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"sound\.mp4: holds only sound"):
        open_source(str(make_sound(tmp_path / "sound.mp4")), CaptureSettings())


def test_cut_off_stream_gives_what_is_there(tmp_path: Path) -> None:
    path = make_film(tmp_path / "clip.mkv", frames=40, noise=True)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    _, frames = read_all(path)
    assert 15 <= len(frames) <= 25


def test_mp4_cut_off_before_its_index_is_one_sentence(tmp_path: Path) -> None:
    path = make_film(tmp_path / "clip.mp4", frames=40)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SourceError, match=r"clip\.mp4: is no video that FFmpeg can read; cut off"):
        read_all(path)


def test_a_hole_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    path = make_film(tmp_path / "clip.mkv", frames=48, noise=True)
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : third + third // 2] = bytes(third // 2)
    path.write_bytes(data)
    _, frames = read_all(path)
    assert 20 <= len(frames) < 48
    assert frames[-1].time_s > 1.5, "the end was not reached"


def test_damaged_packets_are_skipped_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_film(tmp_path / "clip.mp4", frames=48, noise=True)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    third = (data.index(b"moov") - start) // 3
    data[start + third : start + 2 * third] = np.random.default_rng(2).integers(0, 256, third, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        _, frames = read_all(path)
    assert len(frames) >= 24
    assert frames[-1].time_s > 1.7, "the end was not reached"
    assert "clip.mp4: a damaged piece was skipped" in caplog.text
    assert "damaged pieces were skipped in all" in caplog.text


def test_a_stream_that_comes_up_late_is_no_trouble(tmp_path: Path) -> None:
    sharp = {"qp": "1", "preset": "ultrafast"}
    film = make_film(tmp_path / "clip.flv", frames=50, width=320, height=240, noise=True, options=sharp).read_bytes()
    sound = make_sound(tmp_path / "sound.flv").read_bytes()
    header, previous_size = 9, 4
    late = tmp_path / "late.flv"
    late.write_bytes(film + sound[header + previous_size :])
    assert len(film) > 5_000_000, "FFmpeg looks for streams in the first 5 MB"
    assert len(read_all(late)[1]) == 50


def test_size_may_change_in_the_middle(tmp_path: Path) -> None:
    for name, width in (("a.h264", 96), ("b.h264", 128)):
        make_film(tmp_path / name, container_format="h264", width=width)
    both = tmp_path / "both.h264"
    both.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    _, frames = read_all(both)
    assert {frame.rgb.shape[1] for frame in frames} == {96, 128}
    assert all(frame.grey.shape == (frame.height, frame.width) for frame in frames)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"x\.mp4: the file is empty"),
        (b"hello\nworld\n", r"x\.mp4: is a text file, not a video"),
        (bytes(range(256)) * 40, r"x\.mp4: is no video that FFmpeg can read"),
        (b"\xff\xd8\xff\xe0 not a jpeg", r"x\.mp4"),
        (b"RIFF\x10\0\0\0AVI LIST", r"x\.mp4"),
    ],
)
def test_no_video_is_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=reason) as caught:
        open_source(str(path), CaptureSettings())
    assert "\n" not in str(caught.value)


def test_text_under_its_own_suffix_is_not_drawn_as_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("to do\n" * 100)
    with pytest.raises(SourceError, match="text file"):
        open_source(str(path), CaptureSettings())


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        open_source(str(tmp_path / "nothing.mp4"), CaptureSettings())


def test_a_file_as_a_camera_is_live_endless_and_paced(tmp_path: Path) -> None:
    source = open_source(str(make_film(tmp_path / "clip.mp4", frames=6, fps=50)), LIVE_LOOP)
    assert source.live
    assert source.info.frames is None
    began_s = time.monotonic()
    frames = [source.read() for _ in range(20)]
    source.close()
    assert [frame.index for frame in frames if frame] == list(range(20))
    times_s = [frame.time_s for frame in frames if frame]
    np.testing.assert_allclose(np.diff(times_s), 0.02, atol=1e-3)
    assert time.monotonic() - began_s >= times_s[-1] - 0.001


def test_a_slow_reader_of_a_live_file_is_not_owed_the_time_back(tmp_path: Path) -> None:
    source = open_source(str(make_film(tmp_path / "clip.mp4", frames=6, fps=50)), LIVE_LOOP)
    source.read()
    time.sleep(0.7)
    began_s = time.monotonic()
    for _ in range(11):
        source.read()
    source.close()
    assert time.monotonic() - began_s >= 0.19


def test_loop_repeats_without_being_live(tmp_path: Path) -> None:
    source = open_source(str(make_film(tmp_path / "clip.mp4", frames=5)), CaptureSettings(loop=True))
    frames = [source.read() for _ in range(17)]
    source.close()
    times_s = [frame.time_s for frame in frames if frame]
    np.testing.assert_allclose(np.diff(times_s), 0.04, atol=1e-3)
    first, again = frames[1], frames[6]
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.rgb, again.rgb)


def test_close_wakes_a_reader_that_waits_for_its_time(tmp_path: Path) -> None:
    path = make_film(tmp_path / "slow.mp4", frames=2, times_s=[0, 60])
    source = open_source(str(path), CaptureSettings(as_live=True))
    source.read()
    got: list[Frame | None] = []
    reader = threading.Thread(target=lambda: got.append(source.read()))
    reader.start()
    time.sleep(0.1)
    source.close()
    reader.join(5)
    assert got == [None]


@pytest.fixture(scope="module")
def small_film(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("films")
    return {
        name: make_film(folder / f"f.{name}", frames=8, width=32, height=32).read_bytes()
        for name in ("mp4", "mkv", "ts")
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["mp4", "mkv", "ts"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=12)), max_size=6),
    kept=st.floats(0.02, 1),
)
def test_damaged_bytes_never_do_worse_than_one_sentence(
    tmp_path: Path, small_film: dict[str, bytes], kind: str, changes: list[tuple[float, bytes]], kept: float
) -> None:
    data = bytearray(small_film[kind])
    for where, replacement in changes:
        at = int(where * len(data))
        data[at : at + len(replacement)] = replacement
    path = tmp_path / "damaged.bin"
    path.write_bytes(data[: max(1, int(kept * len(data)))])
    frames = frames_or_sentence(path)
    if isinstance(frames, str):
        assert "\n" not in frames
        return
    assert frames
    times_s = [frame.time_s for frame in frames]
    assert times_s[0] == 0
    assert all(later > earlier for earlier, later in pairwise(times_s))
    for frame in frames:
        assert frame.grey.shape == frame.rgb.shape[:2] == (frame.height, frame.width)
