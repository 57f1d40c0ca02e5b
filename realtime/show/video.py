"""Annotated video into a file.

Enters: RGB pictures with their times. Leaves: an H.264 file under the name that was asked for, once it is complete and
checked; until then, and after a kill or a full disk, what was written so far beside it as ``NAME.partial.SUFFIX``.
"""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import cv2
import numpy as np

from realtime.errors import OutputError, SettingsError
from realtime.records import RGB_HW3
from realtime.settings import ShowSettings
from realtime.show.audio import AudioTrack
from realtime.show.partial import check, reason, remux, reserved

log = logging.getLogger(__name__)

VIDEO_SUFFIXES: Final = (".mp4", ".mkv", ".avi")
FRAMES_SUFFIX: Final = ".jsonl"
CLOCK: Final = Fraction(1, 90_000)
"""Time base of frames that keep their own times; MPEG's, and fine enough for any camera."""
DEFAULT_FPS: Final = 30.0
KEYFRAME_EVERY_S: Final = 2.0
"""So much is lost at most when the program is killed, besides what the encoder holds; and so finely one can seek."""
MAX_FILLED_S: Final = 60.0
"""A longer hole in a constant-rate file is cut to this: filling an hour would stop the program for minutes."""
OPTIONS: Final = {
    ".mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
    ".mkv": {"flush_packets": "1"},
    ".avi": {"flush_packets": "1"},
}
"""All three can be played up to where they were cut off; an mp4 only in fragments."""


def output_kind(path: Path | str) -> Literal["video", "frames"]:
    """What ``--output`` wants by its suffix; "-" is frames.

    Raises:
        SettingsError: no such kind of output.
    """
    suffix = Path(path).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix == FRAMES_SUFFIX or str(path) == "-":
        return "frames"
    raise SettingsError(
        f"--output {path}: unknown kind of output {suffix or 'without a suffix'}; "
        f"video is {', '.join(VIDEO_SUFFIXES)}, one line a frame is {FRAMES_SUFFIX}"
    )


class VideoOutput:
    """One video file. Not for several threads at once."""

    def __init__(
        self, path: Path, settings: ShowSettings, *, fps: float | None = None, audio_from: Path | None = None
    ) -> None:
        """``fps``: the source's nominal rate, for the encoder; ``audio_from``: the file whose sound goes along.

        Raises:
            OutputError: the folder is missing or not writable, or the output would replace its own source.
            SettingsError: the suffix is of no video.
        """
        if output_kind(path) != "video":
            raise SettingsError(f"{path}: video is {', '.join(VIDEO_SUFFIXES)}")
        if audio_from is not None and path.exists() and audio_from.exists() and path.samefile(audio_from):
            raise OutputError(f"{path}: is the source itself; give the output another name")
        self.path = path
        self._suffix = path.suffix.lower()
        self._settings = settings
        self._fps = fps if fps is not None and 0 < fps <= 1000 else DEFAULT_FPS
        self._audio_from = audio_from
        self.partial = reserved(path)
        """Where frames are written until ``close``."""
        self._container: Any = None
        self._stream: Any = None
        self._audio: AudioTrack | None = None
        self._size = (0, 0)
        self._last: int | None = None
        self._skipped = 0
        self._closed = False

    def write(self, rgb_HW3: RGB_HW3, time_s: float) -> None:
        """Add a (H, W, 3) uint8 picture shown from ``time_s`` on, seconds since the source's first frame.

        A time that does not grow is moved behind the one before; a picture of another size than the first is
        letterboxed.

        Raises:
            OutputError: it cannot be written; what was written before stays in ``partial`` and can be played.
        """
        if self._closed:
            raise OutputError(f"{self.path}: is closed; no more frames can be written")
        try:
            if self._container is None:
                self._open(rgb_HW3)
            planes: Any = cv2.cvtColor(fitted(rgb_HW3, *self._size), cv2.COLOR_RGB2YUV_I420)
            for tick in self._ticks(time_s):
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                frame.pts, frame.time_base = tick, self._stream.codec_context.time_base
                self._container.mux(self._stream.encode(frame))
            if self._audio is not None:
                self._audio.write_until(self._seconds())
        except (av.FFmpegError, OSError) as err:
            self._give_up()
            raise OutputError(f"{self.path}: {reason(err)}; {self._kept()}") from err

    def close(self) -> None:
        """Finish the file and put it under its name; may be called twice.

        Raises:
            OutputError: it cannot be finished; what was written stays in ``partial``.
        """
        if self._closed:
            return
        if self._container is None:
            self._closed = True
            self.partial.unlink(missing_ok=True)
            log.warning("%s: no frame came, so it is not written", self.path)
            return
        try:
            self._container.mux(self._stream.encode(None))
            if self._audio is not None:
                self._audio.write_until(self._seconds() + 1 / self._fps)
                self._audio.close()
            self._container.close()
            self._closed = True
            self._put_in_place()
        except (av.FFmpegError, OSError) as err:
            self._give_up()
            raise OutputError(f"{self.path}: {reason(err)}; {self._kept()}") from err

    def _open(self, rgb_HW3: RGB_HW3) -> None:
        height, width = rgb_HW3.shape[:2]
        self._size = (width + width % 2, height + height % 2)  # H.264's colour planes are half as wide and high
        self._container = av.open(str(self.partial), "w", options=OPTIONS[self._suffix])
        rate = Fraction(self._fps).limit_denominator(1001)
        name, options = _encoder(self._settings)
        stream: Any = self._container.add_stream(name, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *self._size, "yuv420p"
        stream.codec_context.time_base = CLOCK if self._suffix != ".avi" else 1 / rate
        stream.codec_context.gop_size = max(1, round(self._fps * KEYFRAME_EVERY_S))
        stream.codec_context.max_b_frames = 0  # AVI has no place for them, and a killed file loses less
        context = stream.codec_context
        context.color_range, context.colorspace = 1, 6  # studio range, BT.601: what COLOR_RGB2YUV_I420 makes
        context.color_primaries, context.color_trc = 1, 1
        self._stream = stream
        if self._audio_from is not None:
            self._audio = self._open_audio(self._audio_from)

    def _open_audio(self, source: Path) -> AudioTrack | None:
        try:
            return AudioTrack(source, self._container, self._suffix)
        except IndexError:
            return None  # a silent film
        except (av.FFmpegError, OSError, ValueError) as err:
            log.warning("%s: the audio of %s is left out (%s)", self.path, source.name, err)
            return None

    def _ticks(self, time_s: float) -> range:
        """The times, in the stream's time base, at which this picture is written: none, one, or more to fill a hole."""
        base = self._stream.codec_context.time_base
        tick = max(0, round(time_s / base)) if np.isfinite(time_s) else 0
        if self._suffix != ".avi":
            step = max(1, round(1 / self._fps / base))
            self._last = tick if self._last is None or tick > self._last else self._last + step
            return range(self._last, self._last + 1)
        first = 0 if self._last is None else self._last + 1
        tick -= self._skipped
        hole = tick - first - round(MAX_FILLED_S / base)
        if hole > 0:
            log.warning("%s: a pause of %.0f s is shortened to %.0f s", self.path, (tick - first) * base, MAX_FILLED_S)
            self._skipped, tick = self._skipped + hole, tick - hole
        self._last = max(first - 1, tick)
        return range(first, self._last + 1)

    def _seconds(self) -> float:
        return float((self._last or 0) * self._stream.codec_context.time_base)

    def _put_in_place(self) -> None:
        finished = self.partial
        if self._suffix == ".mp4":
            finished = self.partial.with_name(self.partial.name.replace(".partial", ".finishing"))
            try:
                remux(self.partial, finished)
            except (av.FFmpegError, OSError) as err:  # no room for a second copy: the fragments are a whole file too
                log.warning("%s: kept in fragments, as it could not be rewritten (%s)", self.path, reason(err))
                finished.unlink(missing_ok=True)
                finished = self.partial
        check(finished)
        finished.replace(self.path)
        if finished != self.partial:
            self.partial.unlink()

    def _give_up(self) -> None:
        self._closed = True
        for part in (self._audio, self._container):
            try:
                if part is not None:
                    part.close()
            except (av.FFmpegError, OSError) as err:  # the first error is the one to tell
                log.debug("%s: %s", self.partial, err)
        if self._container is None:
            self.partial.unlink(missing_ok=True)

    def _kept(self) -> str:
        return f"what was written before is in {self.partial}" if self.partial.exists() else "nothing was written"


def fitted(rgb_HW3: RGB_HW3, width: int, height: int) -> RGB_HW3:
    """``rgb_HW3`` in a picture of ``width`` x ``height``: as it is, grown by a pixel, or letterboxed."""
    more_y, more_x = height - rgb_HW3.shape[0], width - rgb_HW3.shape[1]
    if more_y == more_x == 0:
        return rgb_HW3
    if 0 <= more_y <= 1 and 0 <= more_x <= 1:
        grown: Any = cv2.copyMakeBorder(rgb_HW3, 0, more_y, 0, more_x, cv2.BORDER_REPLICATE)
        return np.asarray(grown, np.uint8)
    fit = min(width / rgb_HW3.shape[1], height / rgb_HW3.shape[0])
    size = (max(1, min(width, round(rgb_HW3.shape[1] * fit))), max(1, min(height, round(rgb_HW3.shape[0] * fit))))
    boxed_HW3 = np.zeros((height, width, 3), np.uint8)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    boxed_HW3[y : y + size[1], x : x + size[0]] = cv2.resize(
        rgb_HW3, size, interpolation=cv2.INTER_AREA if fit < 1 else cv2.INTER_LINEAR
    )
    return boxed_HW3


def _encoder(settings: ShowSettings) -> tuple[str, dict[str, str]]:
    if "libx264" in av.codecs_available:
        return "libx264", {"crf": str(settings.crf), "preset": settings.preset}
    log.warning("this build of PyAV has no libx264: the video is MPEG-4 part 2 instead of H.264")
    return "mpeg4", {"qscale": str(max(1, settings.crf // 4))}
