"""The gallery's tables, and how an older file becomes a newer one.

Enters: an open SQLite connection. Leaves: the same file at ``SCHEMA_VERSION``, or a sentence that says why not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from realtime.errors import GalleryError

APPLICATION_ID: Final = 0x52544647
"""``RTFG`` in the file's header: SQLite files of other programs are not touched."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE people (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL,
            name_key TEXT NOT NULL UNIQUE,
            created_at TEXT NOT NULL
        )""",
        """CREATE TABLE refs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            person_id INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
            embedding BLOB NOT NULL,
            model_id TEXT NOT NULL,
            weights_sha256 TEXT NOT NULL,
            template TEXT NOT NULL,
            quality REAL NOT NULL,
            size_px REAL NOT NULL,
            sharpness REAL NOT NULL,
            yaw_deg REAL NOT NULL,
            photo_sha256 TEXT NOT NULL,
            source TEXT NOT NULL,
            created_at TEXT NOT NULL,
            crop BLOB,
            crop_points BLOB,
            crop_template TEXT,
            crop_margin_px INTEGER,
            UNIQUE (person_id, photo_sha256)
        )""",
        "CREATE INDEX refs_photo ON refs (photo_sha256)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
)
"""Entry n takes a file from version n to n + 1. Entries are never changed, only added."""

SCHEMA_VERSION: Final = len(MIGRATIONS)


def schema_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def require_gallery(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Refuse what is not ours to write, before anything is written.

    Raises:
        GalleryError: an SQLite file of another program, or a gallery of a newer version.
    """
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    version = schema_version(connection)
    if application != APPLICATION_ID and (application or tables or version):
        raise GalleryError(f"{path}: is an SQLite file of another program; give another --gallery file")
    if version > len(migrations):
        raise GalleryError(
            f"{path}: was written by a newer version of realtime (schema {version}, this one reads up to "
            f"{len(migrations)}); update realtime"
        )


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the file to the newest version in one transaction; nothing is written where it is there already.

    Raises:
        GalleryError: as ``require_gallery``.
        sqlite3.Error: the file cannot be written; it is as it was.
    """
    require_gallery(connection, path, migrations)
    if schema_version(connection) == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # read again: another process may have been here first
        for migration in migrations[schema_version(connection) :]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
