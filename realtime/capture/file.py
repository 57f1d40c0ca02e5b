"""Video files: what lies on the disk in, pictures out, through PyAV.

Enters: a path, with any suffix; the content decides. Leaves: a ``Reel`` of every frame that can be decoded, upright, at
its own time. A damaged piece is skipped and logged; a file without a single frame is a ``SourceError`` in one sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.error import EOFError as FFmpegEOFError
from av.error import FFmpegError, InvalidDataError

from realtime.capture.addresses import safe_name
from realtime.capture.decoding import Decoder, NoVideoError, Picture, Timeline
from realtime.capture.images import looks_like_photo, open_photos
from realtime.capture.recorded import RecordedSource
from realtime.capture.source import Source, SourceInfo
from realtime.errors import SourceError, SourceLost
from realtime.records import Pixels
from realtime.settings import CaptureSettings

SNIFFED_BYTES: Final = 512


def open_file(path: Path, settings: CaptureSettings, name: str | None) -> Source:
    """A video file, or one photo, by its content.

    Raises:
        SourceError: missing, empty, not readable, or nothing in it can be shown.
    """
    shown = safe_name(path.name)
    _check_readable(path)
    if looks_like_photo(path):
        return open_photos([path], settings, name=name or shown, where=shown)
    return RecordedSource(name or shown, lambda: VideoReel(path), settings)


class VideoReel:
    """One pass over a video file; decodes the first picture at once, so that ``info`` is what will be seen."""

    def __init__(self, path: Path) -> None:
        self._label = safe_name(path.name)
        self._path = path
        self._container = _open_container(path, self._label)
        try:
            self._decoder = Decoder(self._container, label=self._label, live=False)
        except NoVideoError as err:
            self._container.close()
            raise SourceError(
                f"{self._label}: holds {err}; give a video, a photo, a folder of photos or an address"
            ) from None
        self._pictures = self._decoder.pictures()
        self._timeline = Timeline(self._decoder.fps)
        self._last_s = 0.0
        self._first = self._next_picture()
        if self._first is None:
            self.close()
            raise SourceError(
                f"{self._label}: not one picture of this video can be decoded; the file is cut off or damaged"
            )
        self.info = self._describe(self._first)

    @property
    def step_s(self) -> float:
        return self._timeline.step_s

    def read(self) -> tuple[float, Pixels] | None:
        picture = self._first or self._next_picture()
        self._first = None
        if picture is None:
            return None
        self._last_s = self._timeline.at(picture.pts_s)
        return self._last_s, picture.pixels

    def close(self) -> None:
        self._pictures.close()
        self._container.close()

    def _next_picture(self) -> Picture | None:
        try:
            return next((picture for picture in self._pictures if picture is not None), None)
        except (FFmpegError, OSError) as err:
            reason = getattr(err, "strerror", None) or type(err).__name__
        raise SourceLost(
            f"{self._label}: reading stopped after {self._last_s:.1f} s ({reason}); is the disk still there?"
        )

    def _describe(self, first: Picture) -> SourceInfo:
        return SourceInfo(
            kind="video file",
            width=first.pixels.width,
            height=first.pixels.height,
            fps=self._decoder.fps,
            frames=_frames_hint(self._container, self._decoder),
            codec=self._decoder.codec,
            rotation=first.turn,
            audio=bool(self._container.streams.audio),
            path=self._path,
        )


def _check_readable(path: Path) -> None:
    shown = safe_name(path.name)
    try:
        if path.stat().st_size == 0 and path.is_file():
            raise SourceError(f"{shown}: the file is empty (0 bytes)")
        if path.is_file():
            with path.open("rb"):
                pass
    except FileNotFoundError:
        raise SourceError(f"{safe_name(str(path), 300)}: no such file or folder; check the path") from None
    except (OSError, ValueError) as err:
        raise SourceError(f"{shown}: cannot be opened ({getattr(err, 'strerror', None) or err})") from None


def _open_container(path: Path, label: str) -> InputContainer:
    try:
        # An absolute path: FFmpeg takes what stands before a colon in "a:b.mp4" for a protocol.
        return av.open(str(path.absolute()), metadata_errors="replace")
    except (InvalidDataError, FFmpegEOFError):
        what = (
            "is a text file, not a video"
            if _is_text(path)
            else "is no video that FFmpeg can read; cut off, damaged or another kind of file"
        )
    except (FFmpegError, OSError, ValueError) as err:
        what = f"cannot be read as a video ({getattr(err, 'strerror', None) or type(err).__name__})"
    raise SourceError(f"{label}: {what}")


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    text = head.decode("utf-8", errors="replace").removesuffix("\ufffd")
    return bool(head) and all(char.isprintable() or char.isspace() for char in text)


def _frames_hint(container: InputContainer, decoder: Decoder) -> int | None:
    """The container's count where it is possible at all, else from its duration; it may be wrong."""
    if decoder.stream.frames > 0:
        return int(decoder.stream.frames)
    if container.duration and container.duration > 0 and decoder.fps:
        return max(1, round(container.duration / av.time_base * decoder.fps))
    return None
