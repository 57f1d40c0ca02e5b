"""A picture of now, kept.

Enters: an annotated picture. Leaves: a new PNG file with the source and the time in its name.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import cv2
import platformdirs

from realtime.errors import OutputError
from realtime.records import RGB_HW3
from realtime.show.partial import reason


def save_snapshot(
    rgb_HW3: RGB_HW3, source: str, *, folder: Path | None = None, now: datetime | None = None, suffix: str = ".png"
) -> Path:
    """Write the (H, W, 3) uint8 picture as ``realtime-SOURCE-DATE-TIME.png`` (or ``.jpg``) and return where.

    ``folder`` is the user's pictures folder, or the current one where there is none. No file is replaced.

    Raises:
        OutputError: the folder is not writable or the disk is full; nothing is left there.
    """
    folder = pictures_folder() if folder is None else folder
    stamp = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2BGR))
    assert done
    for number in range(1, 1000):
        extra = "" if number == 1 else f"-{number}"
        path = folder / f"realtime-{_plain(source)}-{stamp}{extra}{suffix}"
        try:
            with path.open("xb") as file:
                file.write(encoded.tobytes())
        except FileExistsError:
            continue
        except OSError as err:
            if err.errno is not None and path.exists():
                path.unlink()
            raise OutputError(f"{path}: the snapshot is not saved, {reason(err)}") from err
        return path
    raise OutputError(f"{folder}: has a thousand snapshots of this second already")


def pictures_folder() -> Path:
    """The user's pictures folder where it exists and can be written to, else the current one."""
    pictures = platformdirs.user_pictures_path()
    return pictures if pictures.is_dir() and os.access(pictures, os.W_OK) else Path.cwd()


def _plain(source: str) -> str:
    """``source`` as part of a file name on any system, with letters of any script."""
    return re.sub(r"[^\w.]+", "-", source).strip("-._")[:40] or "source"
