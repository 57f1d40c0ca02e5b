"""Clips to measure on, frame for frame.

Enters: a video file, or frames. Leaves: an H.264 file with the same frames at the same timestamps: none duplicated,
none dropped, which is what a benchmark with a truth file stands on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from realtime.capture.source import Source
from realtime.errors import SourceError
from realtime.records import Frame

CRF: Final = 20
PRESET: Final = "medium"
MIN_SIDE: Final = 16
MAX_SIDE: Final = 8192


def parse_size(text: str) -> tuple[int, int]:
    """``1280x720`` as (width, height).

    Raises:
        ValueError: another form, an odd number (H.264 with 4:2:0 needs even ones), or out of bounds.
    """
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise ValueError(f"size is {text!r}; expected WIDTHxHEIGHT, as 1280x720")
    if max(len(width), len(height)) > 5:
        raise ValueError(f"size is {text[:20]!r}; both sides must be even and from {MIN_SIDE} to {MAX_SIDE}")
    size = int(width), int(height)
    if any(side % 2 or not MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise ValueError(f"size is {text!r}; both sides must be even and from {MIN_SIDE} to {MAX_SIDE}")
    return size


def upscale(clip: Path, size: tuple[int, int], out: Path) -> int:
    """Write ``clip`` at ``size`` (width, height) to ``out``, keeping every frame and its timestamp; no audio.

    Returns:
        The number of frames written.

    Raises:
        SourceError: the clip cannot be opened, holds no video, or has frames without timestamps.
    """
    import av

    count = 0
    try:
        with av.open(str(clip)) as source:
            if not source.streams.video:
                raise SourceError(f"{clip}: no video in it; give a video file")
            video = source.streams.video[0]
            time_base = video.time_base or Fraction(1, 90_000)
            with _encoder(out, size, time_base, video.average_rate) as encode:
                for frame in source.decode(video):
                    if frame.pts is None:
                        raise SourceError(f"{clip}: frame {count} has no timestamp; convert the clip to mp4 first")
                    scaled = frame.reformat(width=size[0], height=size[1], format="yuv420p", interpolation="BICUBIC")
                    encode(scaled, frame.pts)
                    count += 1
    except (av.FFmpegError, OSError) as err:
        raise SourceError(f"{clip}: cannot be scaled to {size[0]}x{size[1]} ({err}); is it a video file?") from err
    if not count:
        raise SourceError(f"{clip}: no frame could be decoded; is it a video file?")
    return count


def render(frames: Iterable[Frame], out: Path) -> int:
    """Write frames of one even size to ``out`` at their own times; returns how many.

    Raises:
        SourceError: there are none, or the file cannot be written.
    """
    import av

    waiting = iter(frames)
    first = next(waiting, None)
    if first is None:
        raise SourceError("the source has no frames to measure on; choose another one")
    time_base = Fraction(1, 90_000)
    count = 0
    try:
        with _encoder(out, (first.width, first.height), time_base, None) as encode:
            frame: Frame | None = first
            while frame is not None:
                picture = av.VideoFrame.from_ndarray(frame.rgb, format="rgb24").reformat(format="yuv420p")
                encode(picture, round(frame.time_s / time_base))
                count += 1
                frame = next(waiting, None)
    except (av.FFmpegError, OSError) as err:
        raise SourceError(f"{out}: cannot be written ({err}); choose another folder") from err
    return count


def frames_of(source: Source) -> Iterator[Frame]:
    """Every frame of an open source, which is closed at the end."""
    with closing(source):
        while (frame := source.read()) is not None:
            yield frame


@contextmanager
def _encoder(out: Path, size: tuple[int, int], time_base: Fraction, rate: Fraction | None) -> Iterator[Any]:
    """Gives a function (yuv420p frame, pts) that appends to an H.264 file."""
    import av

    with av.open(str(out), "w") as target:
        stream = target.add_stream("libx264", rate=rate or 30)
        # bf=0: with B-frames the first timestamp moves by two frames and players shift the clip
        stream.options = {"crf": str(CRF), "preset": PRESET, "bf": "0"}
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base

        def encode(picture: Any, pts: int) -> None:
            picture.pts, picture.time_base = pts, time_base
            picture.pict_type = av.video.frame.PictureType.NONE
            target.mux(stream.encode(picture))

        yield encode
        target.mux(stream.encode(None))
