"""The contract of everything that frames come from, and the one place that opens them.

Enters: what a person typed after ``--source``. Leaves: a ``Source`` that gives frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from realtime.capture.addresses import redact, scheme_of
from realtime.errors import SourceError
from realtime.records import Frame
from realtime.settings import CaptureSettings

__all__ = ["Source", "SourceInfo", "open_source", "redact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What is known of a source once it is open."""

    kind: str
    """``webcam``, ``video file``, ``stream``, ``images`` or ``demo``."""
    width: int
    """Of a frame as it is given out, so after rotation; pixels."""
    height: int
    fps: float | None
    """Nominal frames a second; None where the source has no rate (a folder of photos)."""
    frames: int | None = None
    """About how many frames will come: for a progress bar only, containers lie. None for live sources."""
    codec: str = ""
    rotation: int = 0
    """Degrees by which frames were turned to stand upright."""
    audio: bool = False
    """Whether ``path`` has sound that goes along with the frames."""
    path: Path | None = None
    """Of a video file."""


class Source(Protocol):
    """Where frames come from. Opened by ``open_source``; read by one thread; closed by whoever opened it."""

    @property
    def name(self) -> str:
        """Short, unique among the sources of a run, safe to print: no password in it."""

    @property
    def live(self) -> bool:
        """True: only the newest frame matters. False: every frame is processed, in order."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def status(self) -> str:
        """Empty while all is well; else one sentence, as "reconnecting in 4 s: no frame for 5 s"."""

    def read(self) -> Frame | None:
        """The next frame, blocking; None at the end. ``index`` counts from 0, ``time_s`` starts at 0.

        Raises:
            SourceError: nothing more can come, and why.
        """

    def close(self) -> None:
        """Stop and free; wakes a blocked ``read`` soon (it returns None); may be called twice, from any thread."""


def open_source(spec: str, settings: CaptureSettings, *, name: str | None = None) -> Source:
    """What ``spec`` means: ``demo``, a camera's number, an address, a folder, a pattern or a file; the first that fits.

    ``name`` replaces the source's own name, where several sources would have the same. A file called ``demo`` or ``0``
    is reached as ``./demo``.

    Raises:
        SourceError: it cannot be opened, or gives no picture; one sentence, without passwords.
    """
    opens = next(opens for fits, opens in KINDS if fits(spec))
    return opens(spec, settings, name)


_Opens = Callable[[str, CaptureSettings, "str | None"], Source]

STREAM_SCHEMES: Final = frozenset({"rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp", "tcp", "rtp", "srt"})

_CAMERA: Final = re.compile(r"(?:/dev/video)?([0-9]{1,4})")


def _open_demo(spec: str, settings: CaptureSettings, name: str | None) -> Source:
    from realtime.capture.demo import DemoSource

    return DemoSource(settings, name=name or "demo")


def _open_webcam(spec: str, settings: CaptureSettings, name: str | None) -> Source:
    from realtime.capture.webcam import WebcamSource

    match = _CAMERA.fullmatch(spec)
    assert match is not None
    return WebcamSource(int(match[1]), settings, name)


def _open_address(spec: str, settings: CaptureSettings, name: str | None) -> Source:
    scheme = scheme_of(spec)
    if scheme == "file":
        return _open_file(re.sub(r"^[Ff][Ii][Ll][Ee]://", "", spec), settings, name)
    if scheme not in STREAM_SCHEMES:
        raise SourceError(f"{redact(spec)}: {scheme}:// is not known; known are {', '.join(sorted(STREAM_SCHEMES))}")
    from realtime.capture.stream import StreamSource

    return StreamSource(spec, settings, name)


def _open_folder(spec: str, settings: CaptureSettings, name: str | None) -> Source:
    from realtime.capture.images import open_folder

    return open_folder(Path(spec), settings, name)


def _open_pattern(spec: str, settings: CaptureSettings, name: str | None) -> Source:
    from realtime.capture.images import open_pattern

    return open_pattern(spec, settings, name)


def _open_file(spec: str, settings: CaptureSettings, name: str | None) -> Source:
    from realtime.capture.file import open_file

    return open_file(Path(spec), settings, name)


def _exists(spec: str, of_kind: Callable[[Path], bool] = Path.exists) -> bool:
    try:
        return of_kind(Path(spec))
    except (OSError, ValueError):  # too long for a path, or with a zero byte: open_file says so
        return False


KINDS: Final[tuple[tuple[Callable[[str], bool], _Opens], ...]] = (
    (lambda spec: spec == "demo", _open_demo),
    (lambda spec: _CAMERA.fullmatch(spec) is not None, _open_webcam),
    (lambda spec: scheme_of(spec) is not None, _open_address),
    (lambda spec: _exists(spec, Path.is_dir), _open_folder),
    (lambda spec: any(char in spec for char in "*?[") and not _exists(spec), _open_pattern),
    (lambda spec: True, _open_file),
)
"""What a person may type, and what opens it. A new kind of source is one line here."""
