"""The people that the program knows: one SQLite file, one immutable snapshot to search.

Enters: references by name. Leaves: ``References`` for matching, reloaded when this or another process has changed the
file; people and their references for lists. An embedding belongs to one model: a gallery of another one is refused with
the command that re-embeds it. Every change is one transaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from engines.errors import ModelFileError
from engines.manifest import Manifest
from engines.store import DATA_VARIABLE
from realtime.errors import GalleryError
from realtime.people.gallery_file import BUSY_TIMEOUT_S, errors_as_sentences, open_file
from realtime.people.gallery_rows import INSERT, SELECT, reference_of, snapshot, values_of
from realtime.people.matching import References
from realtime.people.names import clean_name, name_key
from realtime.people.reference import Reference
from realtime.records import Person

__all__ = ["Gallery", "Reference", "default_gallery_path"]

_PEOPLE: Final = """
SELECT people.id, people.name, count(refs.id), people.created_at FROM people
LEFT JOIN refs ON refs.person_id = people.id {where} GROUP BY people.id ORDER BY people.name_key"""


def default_gallery_path() -> Path:
    """``gallery.sqlite`` in the user's data folder, or in ``$REALTIME_DATA``."""
    if folder := os.environ.get(DATA_VARIABLE):
        return Path(folder) / "gallery.sqlite"
    import platformdirs

    return Path(platformdirs.user_data_dir("realtime", appauthor=False)) / "gallery.sqlite"


class Gallery:
    """An open gallery. Any thread may call it; other processes may have the same file open."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.path = path
        self._connection = connection
        self._read_only = read_only
        self._lock = threading.RLock()
        self._depth = 0
        self._own_writes = 0
        self._snapshot: References | None = None
        self._snapshot_of: tuple[int, int] | None = None
        self._manifest: Manifest | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        manifest: Manifest | None = None,
        *,
        create: bool = True,
        read_only: bool = False,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> Gallery:
        """Open a gallery file.

        Args:
            path: the file; made, with its folders, for the owner alone where it is missing and ``create`` is on.
            manifest: of the model that will compare or add; None to look, rename, remove, export or re-embed.

        Raises:
            GalleryError: missing, not a gallery, damaged, locked, of a newer version, or of another model.
        """
        connection = open_file(path, create=create, read_only=read_only, busy_timeout_s=busy_timeout_s)
        gallery = cls(path, connection, read_only=read_only)
        try:
            if manifest is not None:
                gallery.claim(manifest)
        except BaseException:
            gallery.close()
            raise
        return gallery

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """May be called twice."""
        with self._lock, errors_as_sentences(self.path):
            self._connection.close()

    # who is there

    @property
    def manifest(self) -> Manifest | None:
        """Of the model that made the references; None in a gallery that was never written to."""
        return self._manifest if self._manifest is not None else self._stored_manifest()

    def people(self) -> list[Person]:
        """Everybody, in the order of their names."""
        return [_person(row) for row in self.query(_PEOPLE.format(where=""))]

    def person(self, name: str) -> Person:
        """By name, in any case.

        Raises:
            GalleryError: nobody has this name; the message has the nearest one.
        """
        rows = self.query(_PEOPLE.format(where="WHERE people.name_key = ?"), name_key(clean_name(name)))
        if not rows:
            raise GalleryError(f"{self.path}: {name!r} is not enrolled{self._nearest_name(name)}")
        return _person(rows[0])

    def references_of(self, name: str) -> list[Reference]:
        """A person's references, oldest first, with their crops.

        Raises:
            GalleryError: nobody has this name, or a row is damaged.
        """
        return [
            reference_of(row, self.path)
            for row in self.query(f"{SELECT} WHERE person_id = ? ORDER BY id", self.person(name).person_id)
        ]

    def has_photo(self, photo_sha256: str) -> list[str]:
        """Names under which this photo is enrolled."""
        query = (
            "SELECT name FROM people JOIN refs ON refs.person_id = people.id WHERE photo_sha256 = ? ORDER BY name_key"
        )
        return [str(row[0]) for row in self.query(query, photo_sha256)]

    def references(self) -> References:
        """What probes are compared with, now. The same object until the file has changed, so it may be asked often.

        Raises:
            GalleryError: damaged, or re-embedded for another model meanwhile.
        """
        with self._lock, errors_as_sentences(self.path):
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            state = (version, self._own_writes)
            if self._snapshot is not None and state == self._snapshot_of:
                return self._snapshot
            loaded = self._load(0 if self._snapshot is None else self._snapshot.version + 1)
            if self._depth == 0:  # inside a transaction it may yet be undone
                self._snapshot, self._snapshot_of = loaded, state
            return loaded

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the gallery's tables, for the modules beside this one.

        Raises:
            GalleryError: locked or damaged.
        """
        with self._lock, errors_as_sentences(self.path):
            return self._connection.execute(sql, values).fetchall()

    # changes

    def claim(self, manifest: Manifest) -> None:
        """Compare and add with this model from here on; an empty gallery becomes this model's.

        Raises:
            GalleryError: it holds references of another model; the message has the command that re-embeds them.
        """
        if self._is_of(manifest) is None and not self._read_only:
            with self.transaction():
                if self._is_of(manifest) is None:  # another process may have been first
                    self.move_to(manifest)
        self._manifest = manifest

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """All changes inside are made, or none; transactions nest into the outermost. Without ``write``: one moment.

        Raises:
            GalleryError: locked, full, damaged or read-only; the gallery is as it was.
        """
        with self._lock, errors_as_sentences(self.path):
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            self._depth += 1
            try:
                yield self._connection
                if self._depth == 1:
                    self._connection.execute("COMMIT")
                    self._own_writes += write
            finally:
                self._depth -= 1
                if self._depth == 0 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def add(self, name: str, references: Sequence[Reference]) -> int:
        """Enrol; a name that differs only in case from an enrolled one is that person.

        Returns:
            How many references were new: a photo that the person has already is not added again.

        Raises:
            GalleryError: the name cannot be one, or as ``transaction``.
            ValueError: an embedding is not one of the gallery's model.
        """
        name = clean_name(name)
        if not references:
            return 0
        with self.transaction() as connection:
            manifest = self._required_manifest()
            person_id = self._person_id(name)
            before = connection.total_changes
            for reference in references:
                connection.execute(INSERT, values_of(reference, person_id, manifest, _now()))
            return connection.total_changes - before

    def rename(self, old: str, new: str, *, merge: bool = False) -> Person:
        """Give a person another name; with ``merge``, where the other one exists, make them one person.

        Raises:
            GalleryError: nobody has the old name, somebody else has the new one, or as ``transaction``.
        """
        new = clean_name(new)
        with self.transaction() as connection:
            person = self.person(old)
            taken = self.query("SELECT id, name FROM people WHERE name_key = ?", name_key(new))
            if not taken or taken[0][0] == person.person_id:
                connection.execute(
                    "UPDATE people SET name = ?, name_key = ? WHERE id = ?", (new, name_key(new), person.person_id)
                )
            elif merge:
                connection.execute(
                    "UPDATE OR IGNORE refs SET person_id = ? WHERE person_id = ?", (taken[0][0], person.person_id)
                )
                connection.execute("DELETE FROM people WHERE id = ?", (person.person_id,))
            else:
                raise GalleryError(
                    f"{self.path}: {taken[0][1]!r} is enrolled already; if both are one person, add --merge"
                )
            return self.person(new)

    def remove(self, name: str) -> Person:
        """Forget a person: their rows and crops are overwritten in the file.

        Raises:
            GalleryError: nobody has this name, or as ``transaction``.
        """
        with self.transaction() as connection:
            person = self.person(name)
            connection.execute("DELETE FROM people WHERE id = ?", (person.person_id,))
        with self._lock, errors_as_sentences(self.path):
            # the log still holds old pages; another reader may hold it open, then the next close empties it
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return person

    # inside

    def _is_of(self, manifest: Manifest) -> Manifest | None:
        """What the file says, where that is the same model; None where it may become this one's."""
        stored = self._stored_manifest()
        if stored is None or stored.model_id == manifest.model_id:
            return stored
        if self._count():
            raise GalleryError(self._other_model(stored, manifest))
        return None

    def _other_model(self, stored: Manifest, wanted: Manifest) -> str:
        return (
            f"{self.path}: was made with {stored.name} ({stored.template}), this run uses {wanted.name} "
            f"({wanted.template}), and their embeddings cannot be compared; re-embed it with "
            f"`realtime gallery reembed --gallery {self.path}` and this run's --config and --set"
        )

    def _required_manifest(self) -> Manifest:
        """Of the model that is being written for; another process may have moved the file to another one."""
        stored = self._stored_manifest()
        if self._manifest is None or stored is None:
            raise ValueError("a gallery must be opened with a manifest to be added to")
        if stored.model_id != self._manifest.model_id:
            raise GalleryError(self._other_model(stored, self._manifest))
        return self._manifest

    def _stored_manifest(self) -> Manifest | None:
        rows = self.query("SELECT value FROM meta WHERE key = 'manifest'")
        try:
            return Manifest.from_json(str(rows[0][0]), str(self.path)) if rows else None
        except ModelFileError as err:
            raise GalleryError(f"{self.path}: does not say which model made it; restore it from a backup") from err

    def move_to(self, manifest: Manifest) -> None:
        """Say that all embeddings are now this model's; for whoever made them so, in the same transaction."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('manifest', ?)", (manifest.to_json(),))

    def _count(self) -> int:
        return int(self.query("SELECT count(*) FROM refs")[0][0])

    def _person_id(self, name: str) -> int:
        """Of the enrolled or newly made person; inside a transaction."""
        self._connection.execute(
            "INSERT OR IGNORE INTO people (name, name_key, created_at) VALUES (?, ?, ?)", (name, name_key(name), _now())
        )
        return int(self.query("SELECT id FROM people WHERE name_key = ?", name_key(name))[0][0])

    def _nearest_name(self, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, [person.name for person in self.people()], n=1, cutoff=0.6)
        return f"; did you mean {near[0]!r}?" if near else "; `realtime gallery list` shows who is"

    def _load(self, version: int) -> References:
        with self.transaction(write=False):  # rows and model of one moment
            stored = self._stored_manifest()
            rows = self.query(
                "SELECT name, embedding FROM refs JOIN people ON people.id = person_id ORDER BY person_id, refs.id"
            )
        own = self._manifest
        if rows and own is not None and stored is not None and stored.model_id != own.model_id:
            raise GalleryError(self._other_model(stored, own))
        try:
            return snapshot(rows, own or stored, version=version)
        except ValueError as err:
            raise GalleryError(
                f"{self.path}: {err}; remove them with `realtime gallery remove` and enrol again"
            ) from err


def _person(row: tuple[Any, ...]) -> Person:
    return Person(person_id=row[0], name=row[1], references=row[2], created_at=row[3])


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
