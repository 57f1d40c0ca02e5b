"""A file that gets its name when it is complete.

Enters: the name it will have. Leaves: a reserved file beside it, and what makes a finished video of it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av

from realtime.errors import OutputError


def reserved(path: Path) -> Path:
    """A new, empty file beside ``path`` to write into; those of runs that were killed before are left alone."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give a file name, as {path / 'named.mp4'}")
    for number in range(1, 1000):
        extra = "" if number == 1 else f"-{number}"
        partial = path.with_name(f"{path.stem}.partial{extra}{path.suffix}")
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        except FileNotFoundError as err:
            raise OutputError(f"{path}: there is no folder {path.parent}; make it or choose another") from err
        except OSError as err:
            raise OutputError(f"{path}: cannot be written ({err.strerror or err})") from err
        return partial
    raise OutputError(f"{path}: the folder is full of {path.stem}.partial files; remove those that are not needed")


def remux(source: Path, target: Path) -> None:
    """The same packets in an mp4 whose index stands at its start, so that it plays while it is fetched."""
    with av.open(str(source)) as given, av.open(str(target), "w", options={"movflags": "faststart"}) as made:
        streams = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)


def check(path: Path) -> None:
    """Raise av.FFmpegError or OSError unless a picture can be read from ``path``."""
    with av.open(str(path)) as container:
        if not container.streams.video or next(container.decode(video=0), None) is None:
            raise OSError(errno.EIO, "no picture can be read back from it")


def reason(err: Exception) -> str:
    """Why ``err`` came, in words for a sentence."""
    known = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file is larger than is allowed",
    }
    number = getattr(err, "errno", None)
    words = known.get(number) if number is not None else None
    return words or f"cannot be written ({getattr(err, 'strerror', None) or err})"
