"""One SQLite file, opened so that nobody else can read it and that every failure is a sentence.

Enters: a path. Leaves: a connection in WAL mode at the newest schema; errors of SQLite as ``GalleryError``.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from realtime.errors import GalleryError
from realtime.people.gallery_schema import migrate, require_gallery

BUSY_TIMEOUT_S: Final = 5.0
"""How long to wait for another process that is writing; an enrolment takes milliseconds."""

_SENTENCES: Final = (
    ("database is locked", "is being written by another program; wait for it or stop it, then try again"),
    ("database is busy", "is being written by another program; wait for it or stop it, then try again"),
    ("file is not a database", "is not a gallery; give another --gallery file"),
    ("malformed", "is damaged; restore it from a backup or a `realtime gallery export`"),
    ("disk is full", "there is no space left to write; nothing was changed, free some and try again"),
    ("disk i/o error", "cannot be read or written (disk full or failing?); nothing was changed"),
    ("readonly database", "may not be written; check its permissions and its folder's"),
    ("unable to open database file", "cannot be opened; check that its folder exists and may be written"),
)
"""SQLite's own fixed messages (sqlite3_errstr): Python 3.10 does not give the code."""


@contextmanager
def errors_as_sentences(path: Path) -> Iterator[None]:
    """Raises GalleryError where the block raised sqlite3.Error."""
    try:
        yield
    except sqlite3.Error as err:
        text = str(err).lower()
        sentence = next((words for part, words in _SENTENCES if part in text), f"SQLite says: {err}")
        raise GalleryError(f"{path}: {sentence}") from err


def open_file(
    path: Path, *, create: bool, read_only: bool, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> sqlite3.Connection:
    """Open, and where needed create or migrate, a gallery file.

    Raises:
        GalleryError: missing, a folder, not a gallery, damaged, locked, newer, or not permitted.
    """
    _require_file(path, create=create and not read_only)
    with errors_as_sentences(path):
        connection = _connect_to_read(path, busy_timeout_s) if read_only else _connect(path, "mode=rw", busy_timeout_s)
        try:
            if read_only:
                require_gallery(connection, path)
            else:
                _prepare(connection, path, busy_timeout_s)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, busy_timeout_s: float) -> None:
    require_gallery(connection, path)
    _use_wal(connection, busy_timeout_s)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # a removed person's face is overwritten, not only forgotten
    migrate(connection, path)


def _require_file(path: Path, *, create: bool) -> None:
    try:
        if path.is_dir():
            raise GalleryError(f"{path}: is a folder; --gallery takes a file")
        if path.exists():
            if not path.is_file():
                raise GalleryError(f"{path}: is not a regular file; give another --gallery file")
            if not path.stat().st_size and not create:
                raise GalleryError(f"{path}: is empty, nobody is enrolled; start with `realtime enroll`")
            return
        if not create:
            raise GalleryError(f"{path}: no such gallery; enrol somebody first, with `realtime enroll PHOTO`")
        _make_private_folders(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives -wal and -shm the same mode
    except (OSError, ValueError) as err:
        raise GalleryError(f"{path}: cannot be created or opened ({getattr(err, 'strerror', None) or err})") from err


def _make_private_folders(folder: Path) -> None:
    """Those that are missing, each for the owner alone (``Path.mkdir`` gives only the last one its mode)."""
    missing = [folder, *folder.parents]
    for parent in reversed([each for each in missing if not each.exists()]):
        parent.mkdir(mode=0o700, exist_ok=True)


def _connect(path: Path, how: str, busy_timeout_s: float) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.resolve()))}?{how}"
    # used under the gallery's lock by whichever thread asks; transactions are begun and ended by hand
    return sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)


def _connect_to_read(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """In a folder that may not be written, WAL's -shm cannot be made: without a -wal, the file alone is the gallery."""
    connection = _connect(path, "mode=ro", busy_timeout_s)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise
        return _connect(path, "mode=ro&immutable=1", busy_timeout_s)
    return connection


def _use_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Switching to WAL needs the file alone for a moment, and SQLite does not wait for it by itself."""
    deadline = time.monotonic() + busy_timeout_s
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        with suppress(sqlite3.OperationalError):
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        if time.monotonic() > deadline:
            return  # some network file systems have no WAL; the rollback journal is as safe, only slower
        time.sleep(0.02)
