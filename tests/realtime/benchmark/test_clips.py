"""Clips keep every frame and its time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.benchmark.clips import parse_size, render, upscale
from realtime.errors import SourceError
from realtime.records import ArrayPixels, Frame
from tests.paths import SHARED, needs_shared

UNEVEN_S = (0.0, 0.04, 0.05, 0.31, 0.32, 1.0)
"""Times of a clip of variable frame rate."""


def seconds(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def brightness(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]


def frames(size: tuple[int, int] = (64, 48)) -> list[Frame]:
    return [
        Frame(
            source="drawn",
            index=index,
            time_s=time_s,
            pixels=ArrayPixels(np.full((size[1], size[0], 3), 20 + 40 * index, dtype=np.uint8)),
        )
        for index, time_s in enumerate(UNEVEN_S)
    ]


def test_frames_are_written_at_their_own_times(tmp_path: Path) -> None:
    path = tmp_path / "drawn.mp4"
    assert render(frames(), path) == len(UNEVEN_S)
    assert seconds(path) == pytest.approx(UNEVEN_S, abs=1e-4)


def test_scaling_keeps_every_frame_and_its_time(tmp_path: Path) -> None:
    small, large = tmp_path / "small.mp4", tmp_path / "large.mp4"
    render(frames(), small)
    assert upscale(small, (128, 96), large) == len(UNEVEN_S)
    assert seconds(large) == seconds(small)
    assert brightness(large) == pytest.approx(brightness(small), abs=3)
    with av.open(str(large)) as container:
        context = container.streams.video[0].codec_context
        assert (context.width, context.height, context.name) == (128, 96, "h264")


def test_a_source_without_frames_gives_no_clip(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no frames"):
        render([], tmp_path / "none.mp4")


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "clip.mp4"
    text.write_text("not a video")
    with pytest.raises(SourceError, match="cannot be scaled"):
        upscale(text, (64, 48), tmp_path / "out.mp4")


def test_a_file_with_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = 8000, Fraction(1, 8000), 0
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(SourceError, match="no video in it"):
        upscale(path, (64, 48), tmp_path / "out.mp4")


@given(st.integers(8, 4096), st.integers(8, 4096))
def test_even_sizes_are_read(half_width: int, half_height: int) -> None:
    assert parse_size(f"{2 * half_width}x{2 * half_height}") == (2 * half_width, 2 * half_height)


@pytest.mark.parametrize(
    "text", ["", "720", "1280x", "x720", "1281x720", "-64x64", "8x8", "9999x9998", "1e3x720", "²x64"]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size is"):
        parse_size(text)


class TestRealClip:
    pytestmark = needs_shared

    def test_no_frame_is_duplicated(self, tmp_path: Path) -> None:
        clip, out = SHARED / "hamilton" / "short_hamilton_clip.mp4", tmp_path / "out.mp4"
        assert upscale(clip, (96, 54), out) == 275
        assert seconds(out) == seconds(clip)
