"""The sound of a source file, into the video that is written of it.

Enters: the source file and the container being written. Leaves: audio packets in that container, up to the time that is
asked for: copied where the container takes the codec, else encoded anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av

log = logging.getLogger(__name__)

COPIED: Final[dict[str, frozenset[str]]] = {
    ".mp4": frozenset({"aac", "mp3", "ac3", "eac3", "alac"}),
    ".mkv": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus", "vorbis", "pcm_s16le", "pcm_s24le"}),
    ".avi": frozenset({"mp3", "ac3", "pcm_s16le"}),
}
"""What common players expect in each; FFmpeg would write more."""
ENCODED: Final = {".mp4": "aac", ".mkv": "aac", ".avi": "mp3"}
ENCODERS: Final = {"aac": "aac", "mp3": "libmp3lame"}
MAX_CHANNELS: Final = 2


class AudioTrack:
    """Follows the frames that are written; times count from the first frame of the source file's video."""

    def __init__(self, source: Path, output: Any, suffix: str) -> None:
        """``output``: an open av.container.OutputContainer. Raises av.FFmpegError or OSError where there is no way."""
        self._output = output
        self._source = av.open(str(source))
        try:
            self._in = self._source.streams.audio[0]
            self._zero_s = start_s(self._source)
            self._out, self._resampler = self._stream(suffix)
            self._packets = self._ready()
        except (av.FFmpegError, ValueError):
            self._source.close()
            raise
        self._next: tuple[float, Any] | None = None

    def write_until(self, time_s: float) -> None:
        """Mux what is heard up to ``time_s``."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None or self._next[0] > time_s:
                return
            self._output.mux(self._next[1])
            self._next = None

    def close(self) -> None:
        """Let go of the source file."""
        self._source.close()

    def _stream(self, suffix: str) -> tuple[Any, Any]:
        if self._in.codec_context.name in COPIED[suffix] or self._in.codec.canonical_name in COPIED[suffix]:
            return self._output.add_stream_from_template(self._in), None
        rate = self._in.rate if self._in.rate in (32000, 44100, 48000) else 48000
        layout = "mono" if self._in.channels == 1 else "stereo"
        stream = self._output.add_stream(ENCODERS[ENCODED[suffix]], rate=rate, layout=layout)
        stream.bit_rate = 64_000 * min(self._in.channels, MAX_CHANNELS)
        stream.codec_context.open()
        resampler = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.codec_context.frame_size or None
        )
        log.info(
            "the source's audio is %s, which %s does not take: encoded as %s",
            self._in.codec.name,
            suffix,
            ENCODED[suffix],
        )
        return stream, resampler

    def _ready(self) -> Iterator[tuple[float, Any]]:
        """(seconds, packet) of the output's stream, in order; damaged packets are left out."""
        for packet in self._source.demux(self._in):
            if self._resampler is None:
                if packet.dts is None or packet.pts is None:
                    continue
                packet.stream = self._out
                yield from self._timed([self._moved(packet)])
            else:
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    continue
                for frame in frames:
                    yield from self._encoded(frame)
        if self._resampler is not None:
            yield from self._encoded(None)
            yield from self._timed(self._out.encode(None))

    def _moved(self, packet: Any) -> Any:
        shift = round(self._zero_s / packet.time_base)
        packet.pts -= shift
        packet.dts -= shift
        return packet

    def _encoded(self, frame: Any) -> Iterator[tuple[float, Any]]:
        if frame is not None:
            if frame.pts is None:
                return
            frame.pts -= round(self._zero_s / frame.time_base)
        for piece in self._resampler.resample(frame):
            yield from self._timed(self._out.encode(piece))

    @staticmethod
    def _timed(packets: list[Any]) -> Iterator[tuple[float, Any]]:
        for packet in packets:
            at_s = float(packet.pts * packet.time_base)
            if at_s >= 0:  # sound from before the first picture has nothing to belong to
                yield at_s, packet


def start_s(container: Any) -> Fraction:
    """When the first video frame of an open file is shown, in its own time; 0 where it has no video."""
    for stream in container.streams.video:
        if stream.start_time is not None:
            return Fraction(stream.start_time) * Fraction(stream.time_base)
    return Fraction(0)
