"""The folder that a set is written to: whose it is, what lies in it, and that one process at a time writes there.

Enters: a path that a person gave and the key of a plan. Leaves: a locked ``Place`` that is fresh, half done by the same
plan, or done; a folder of anything else is refused, never overwritten.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engines.export import PART, write_atomically
from train.errors import ConfigError, DataError
from train.prepared import CROPS, IMAGES, LABELS, MANIFEST, REFUSED, SHEET, open_prepared

STATE: Final = "preparing.json"
GROWING: Final = "crops.part"
NOTES: Final = "notes.jsonl"
LOCK: Final = ".preparing.lock"

UNFINISHED: Final = (STATE, GROWING, NOTES)
"""What lies there until the set is whole."""

EXPORTED: Final = ("train.rec", "train.idx", "train.lst", "val.rec", "val.idx", "val.lst", "property")
"""What ``--rec`` adds."""

OURS: Final = (MANIFEST, CROPS, LABELS, IMAGES, REFUSED, SHEET, *UNFINISHED, LOCK, *EXPORTED)

KEY: Final = "prepared_by"
"""Fact of a manifest: the key of the plan."""

OUR_PART: Final = re.compile(rf"\.({'|'.join(map(re.escape, OURS))})\.[0-9a-f]{{16}}{re.escape(PART)}")
"""How our files are called while they are written; a process that was killed leaves some."""

HARMLESS: Final = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))
"""What file managers leave in a folder that somebody looked at."""


class Place:
    """A folder of ours, locked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.growing = folder / GROWING
        self.notes = folder / NOTES

    @property
    def finished(self) -> bool:
        return (self.folder / MANIFEST).exists()

    def begin(self, key: str, said: str) -> None:
        """Note whose folder it is, before anything else is written."""
        state = {"key": key, "what": said}
        write_atomically(self.folder / STATE, json.dumps(state, indent=1).encode("ascii"))

    def go_on(self) -> None:
        """Undo a finish that was interrupted after the array got its name."""
        if not self.growing.exists() and (self.folder / CROPS).exists():
            (self.folder / CROPS).replace(self.growing)

    def end(self) -> None:
        """Take away what only an unfinished set needs."""
        for name in UNFINISHED:
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path, key: str, *, force: bool) -> Iterator[Place]:
    """The folder for the plan ``key``, made if it is not there, locked meanwhile.

    Args:
        folder: a person's choice.
        key: of the plan.
        force: take away another set, or a half of one, first; other files are never touched.

    Raises:
        ConfigError: it holds other files, another set, or another process is at work in it.
        DataError: it cannot be made or written to.
    """
    _refuse_others(folder)
    with locked(folder):
        if force:
            for name in (*EXPORTED, *OURS):  # the manifest later, which says that the .rec is ours
                if name != LOCK:
                    (folder / name).unlink(missing_ok=True)
        else:
            _refuse_another(folder, key)
        place = Place(folder)
        if place.finished:
            place.end()  # all that a kill after the manifest can leave
        yield place


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time writes there. The folder is made if need be; what killed ones were writing goes.

    Raises:
        ConfigError: another process is at work in it.
        DataError: it cannot be made or written to.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout as err:
        raise ConfigError(f"{folder}: another prepare is at work in this folder; wait for it or name another") from err
    except OSError as err:
        raise DataError(f"{folder}: cannot be written to ({err.strerror or err}); choose another place") from err
    try:
        for path in folder.iterdir():
            if OUR_PART.fullmatch(path.name):
                path.unlink(missing_ok=True)
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def check_room(folder: Path, wanted: int) -> None:
    """
    Raises:
        DataError: fewer than ``wanted`` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"{folder}: the set needs {wanted / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free; make room, choose "
            "another disk or select less"
        )


def _refuse_others(folder: Path) -> None:
    """Before anything is written there."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder that is empty or not there yet")
    try:
        names = {path.name for path in folder.iterdir() if not OUR_PART.fullmatch(path.name)} - HARMLESS
    except OSError as err:
        raise DataError(f"{folder}: may not be read ({err.strerror}); choose another place") from err
    if names & {STATE, MANIFEST}:
        return
    if others := sorted(names - set(OURS).difference(EXPORTED)):  # a .rec without a manifest is somebody's data
        raise ConfigError(
            f"{folder}: holds other files ({ascii(others[0])[1:-1]}); name a folder that is empty or not there yet"
        )


def _refuse_another(folder: Path, key: str) -> None:
    if (folder / MANIFEST).exists():
        found = open_prepared(folder).manifest
        if found.facts.get(KEY) != key:
            raise ConfigError(
                f"{folder}: holds the set {found.name!r}, prepared from another source or with other options; name "
                "another folder, or replace it with --force"
            )
        return
    state = _state(folder)
    if state is not None and state.get("key") != key:
        raise ConfigError(
            f"{folder}: holds the half of another set ({state.get('what')}); go on with the same source and options, "
            "name another folder, or start over with --force"
        )
    if state is None and any((folder / name).exists() for name in (CROPS, LABELS, IMAGES, GROWING, NOTES)):
        raise ConfigError(f"{folder}: holds parts of a set without a manifest; name another folder, or use --force")


def _state(folder: Path) -> dict[str, str] | None:
    try:
        found = json.loads((folder / STATE).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {"what": f"{STATE} is damaged"}
    return found if isinstance(found, dict) else {"what": f"{STATE} is damaged"}
