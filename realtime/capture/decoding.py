"""FFmpeg's part of files and streams: packets in, pictures with their times out.

Enters: an open container. Leaves: ``Picture`` records in the order in which they are shown. What is damaged is skipped
and counted; what ends the stream is an exception of PyAV, which the caller puts into words.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from av.container import InputContainer
from av.error import EOFError as FFmpegEOFError
from av.error import FFmpegError, InvalidDataError, PatchWelcomeError
from av.error import MemoryError as FFmpegMemoryError  # absurd sizes in damaged headers
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from realtime.capture.pixels import DecodedPixels, clockwise_turn

logger = logging.getLogger(__name__)

DEFAULT_FPS: Final = 25.0
"""FFmpeg's own assumption for streams that state no rate (raw H.264)."""

ONE_THREAD_PIXELS: Final = 1280 * 720
"""Up to this size one thread decodes: measured on 2 cores, 720p H.264 takes 2.0 ms of CPU with one thread, 2.2 with two
(which halve the wall time only while nothing else runs), and 450 frames a second are more than the rest can use."""

MAX_DAMAGED_READS: Final = 50
"""Reads in a row that give no packet: beyond it the rest of the container is lost."""

TEXT_FORMATS: Final = frozenset({"tty", "bin", "xbin", "adf", "idf", "txt", "ansi"})
"""FFmpeg draws text files as pictures of a terminal; nobody means that."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded frame and its own time stamp, if it has one."""

    pixels: DecodedPixels
    pts_s: float | None
    turn: int
    """Degrees clockwise that ``pixels`` has been turned by to stand upright."""


class NoVideoError(Exception):
    """The container opened but holds nothing to look at; the text says what it holds."""


class Decoder:
    """Pictures of the first video stream of ``container``. One thread at a time; the caller closes the container.

    Raises:
        NoVideoError: no video stream in it that this FFmpeg can decode.
    """

    def __init__(self, container: InputContainer, *, label: str, live: bool) -> None:
        self._container = container
        self._label = label
        self.stream = video_stream(container)
        # Frame threads keep a picture back each, which is a delay where it matters.
        self.stream.thread_type = "SLICE" if live else "AUTO"
        self.stream.codec_context.thread_count = 1 if _pixels(self.stream) <= ONE_THREAD_PIXELS else 2
        self.damaged = 0
        """Packets that could not be decoded, so far."""

    @property
    def fps(self) -> float | None:
        """Nominal rate as the container tells it; None where it tells none, or nonsense."""
        for rate in (self.stream.guessed_rate, self.stream.average_rate, self.stream.codec_context.framerate):
            if rate is not None and 0.1 <= rate <= 1000:
                return float(rate)
        return None

    @property
    def codec(self) -> str:
        return str(self.stream.codec_context.name)

    def pictures(self) -> Generator[Picture | None, None, None]:
        """Every picture; None where a packet gave none (the caller learns that data still flows)."""
        for packet in self._packets():
            frames = self._decode(packet)
            if not frames:
                yield None
            for frame in frames:
                yield _picture(frame)
        if self.damaged > 1:
            logger.warning("%s: %d damaged pieces were skipped in all", self._label, self.damaged)

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        reads_without_packet = 0
        while reads_without_packet < MAX_DAMAGED_READS:
            try:
                for packet in self._container.demux(self.stream):
                    reads_without_packet = 0
                    yield packet
                return
            except IndexError:
                break  # PyAV 18 stumbles at the end over streams that came up after the beginning (FLV, MPEG-TS)
            except (InvalidDataError, PatchWelcomeError, FFmpegMemoryError) as err:
                reads_without_packet += 1
                self._count_damage(err)
        yield None

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Frames that ``packet`` completes; None asks for those still inside the decoder."""
        try:
            return self.stream.codec_context.decode(packet)
        except FFmpegEOFError:
            return []
        except (FFmpegError, ValueError) as err:
            self._count_damage(err)
            return []

    def _count_damage(self, err: Exception) -> None:
        self.damaged += 1
        if self.damaged == 1:
            reason = getattr(err, "strerror", None) or type(err).__name__
            logger.warning("%s: a damaged piece was skipped (%s); going on", self._label, reason)


class Timeline:
    """Times of pictures: from 0, always growing, from the stream's own stamps where they make sense."""

    MAX_STEP_BACK_S = 1.0
    """A stamp further back is a new beginning (a wrapped counter, joined files), not a badly written one."""

    LEAST_STEP_S = 1e-4
    """Two pictures with one stamp are still one after the other."""

    def __init__(self, fps: float | None) -> None:
        self.step_s = 1.0 / (fps or DEFAULT_FPS)
        self._base: float | None = None
        self._last: float | None = None

    def at(self, pts_s: float | None) -> float:
        """Seconds since the first picture of the one stamped ``pts_s``; each is asked once, in order."""
        if self._last is None:
            self._base, self._last = pts_s, 0.0
            return 0.0
        following = self._last + self.step_s
        if pts_s is None:
            time_s = following
        elif self._base is None or pts_s - self._base < self._last - self.MAX_STEP_BACK_S:
            self._base = pts_s - following
            time_s = following
        else:
            time_s = max(pts_s - self._base, self._last + self.LEAST_STEP_S)
        self._last = time_s
        return time_s


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is no cover picture of a song."""
    if container.format.name in TEXT_FORMATS:
        raise NoVideoError("a text file")
    covers = 0
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            covers += 1
        elif stream.codec_context is not None:
            return stream
    if container.streams.audio:
        raise NoVideoError("only sound")
    raise NoVideoError(
        "video in a format that this FFmpeg cannot decode" if len(container.streams.video) > covers else "no video"
    )


def _pixels(stream: VideoStream) -> int:
    return int(stream.codec_context.width * stream.codec_context.height)


def _picture(frame: VideoFrame) -> Picture:
    pts_s = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
    return Picture(DecodedPixels(frame), pts_s, clockwise_turn(frame))
