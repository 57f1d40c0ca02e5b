"""The files of one person, wherever they lie: in a zip, in a zip within a zip, or in a folder.

Enters: a ``Home`` that tree.py found. Leaves: ``Files``: which of a person's images and annotations are there, and
their bytes. Names are those of the release: ``S001/L1/E01/C7.jpg``.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from train.errors import DataError
from train.kface.archive import Index, Member, decoded, is_unsafe, read_index
from train.kface.failures import Unusable
from train.kface.members import DEFLATED, STORED, read_member, stretch
from train.kface.spans import Span, inflated, open_span

MAX_IMAGE_BYTES: Final = 16 << 20
"""A photo of the High resolution has 0.1 MB."""

MAX_NESTED_BYTES: Final = 16 << 30
"""A person's zip of the High resolution has 1 GB."""

MISSING: Final = "missing"

_OWNER = re.compile(rb"(?:.*/)?(\d{8})/")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a person's files lie."""

    subject: str
    path: Path
    """A zip, or the folder with ``S001`` in it."""
    member: Member | None = None
    """The person's zip where ``path`` is a zip of zips."""

    @property
    def where(self) -> str:
        """For messages, without the folders above the tree."""
        return self.path.name if self.member is None else f"{self.path.name}:{self.member.text}"


class Files(Protocol):
    """Opened; one thread at a time."""

    @property
    def identity(self) -> bytes:
        """Changes with names, sizes and checksums of the files (of a folder: with their times)."""

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What lies there and is never read: ``name: reason``."""

    def trouble(self, name: str) -> str | None:
        """Why a file cannot be had, as far as that is known without reading it; None where it can.

        Raises:
            DataError: its folder may not be listed.
        """

    def read(self, name: str, most: int) -> bytes:
        """Raises Unusable: missing, damaged, or larger than ``most`` bytes."""

    def close(self) -> None: ...


def open_files(home: Home) -> Files:
    """
    Raises:
        DataError: the zip or folder cannot be read, or is damaged as a whole.
    """
    if home.path.is_dir():
        return FolderFiles(home.path)
    span = open_span(home.path)
    try:
        return ZipFiles(span if home.member is None else _nested(span, home.member), home.subject)
    except Unusable as err:
        span.close()
        raise DataError(f"{home.where}: {err}") from err
    except BaseException:
        span.close()
        raise


def _nested(outer: Span, member: Member) -> Span:
    """A stored zip is read where it lies; a deflated one has to be unpacked into a temporary file first."""
    inner = stretch(outer, member)
    if member.size > MAX_NESTED_BYTES:
        raise Unusable(f"too large for a person's zip (it claims {member.size >> 30} GB)")
    if member.method == STORED:
        return inner
    if member.method != DEFLATED:
        raise Unusable(f"packed in a way that is not read (method {member.method}; pack it with deflate)")
    unpacked = inflated(inner, member.size)
    outer.close()
    return unpacked


class ZipFiles:
    """Names may have folders before them, in any encoding; folders of another person are passed over."""

    def __init__(self, span: Span, subject: str) -> None:
        self._span = span
        self._index: Index = read_index(span)
        self._subject = subject.encode()
        names = self._index.names
        if b"\\" in self._index.joined:  # some Windows programs separate so
            names = tuple(name.replace(b"\\", b"/") for name in names)
        self._rows = dict(zip(names, range(len(names)), strict=True))
        self._names = names
        self._twice = frozenset(_twice(names)) if len(self._rows) < len(names) else frozenset()
        prefixes = {
            b"" if name.startswith(b"S0") else name[: name.rfind(b"S0")] for name in names if name[-4:] == b".jpg"
        }
        safe = sorted(prefix for prefix in prefixes if not is_unsafe(prefix))
        self._prefixes = [prefix for prefix in safe if self._own(prefix)]
        self._foreign = [prefix for prefix in safe if not self._own(prefix)]

    def _own(self, prefix: bytes) -> bool:
        owner = _OWNER.match(prefix)
        return owner is None or owner.group(1) == self._subject

    @property
    def identity(self) -> bytes:
        return self._index.digest

    @cached_property
    def passed_over(self) -> tuple[str, ...]:
        unsafe = [f"{name}: never read (its name leaves the zip)" for name in self._index.unsafe]
        return (
            *unsafe,
            *(f"{decoded(prefix, 0)}: never read (it belongs to another person)" for prefix in self._foreign),
        )

    def trouble(self, name: str) -> str | None:
        try:
            self._find(name)
        except Unusable as err:
            return str(err)
        return None

    def read(self, name: str, most: int) -> bytes:
        return read_member(self._span, self._find(name), most)

    def _find(self, name: str) -> Member:
        wanted = [prefix + name.encode() for prefix in self._prefixes]
        rows = [self._rows[full] for full in wanted if full in self._rows]
        if not rows:
            raise Unusable(MISSING)
        if len(rows) > 1 or self._names[rows[0]] in self._twice:
            return self._same([row for full in wanted for row in self._all_rows(full)])
        return self._index.member(rows[0])

    def _all_rows(self, full: bytes) -> list[int]:
        if full in self._twice:
            return [row for row, name in enumerate(self._names) if name == full]
        return [self._rows[full]] if full in self._rows else []

    def _same(self, rows: list[int]) -> Member:
        """The first, if all have the same contents."""
        members = [self._index.member(row) for row in rows]
        if len({(member.crc, member.size) for member in members}) > 1:
            raise Unusable(f"in the zip {len(members)} times with different contents")
        return members[0]

    def close(self) -> None:
        self._span.close()


def _twice(names: tuple[bytes, ...]) -> set[bytes]:
    seen: set[bytes] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


class FolderFiles:
    """An extracted person: a folder with ``S001`` in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[str, frozenset[str]] = {}
        self.passed_over: tuple[str, ...] = ()

    @cached_property
    def identity(self) -> bytes:
        """Of everything that has been asked for until now."""
        digest = hashlib.sha256()
        for directory, names in sorted(self._listed.items()):
            for name in sorted(names):
                status = (self._folder / directory / name).lstat()
                digest.update(f"{directory}/{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.digest()

    def trouble(self, name: str) -> str | None:
        directory, _, file = name.rpartition("/")
        if directory not in self._listed:
            self._listed[directory] = _listing(self._folder / directory)
        return None if file in self._listed[directory] else MISSING

    def read(self, name: str, most: int) -> bytes:
        if trouble := self.trouble(name):
            raise Unusable(trouble)
        try:
            with (self._folder / name).open("rb") as file:
                content = file.read(most + 1)
        except OSError as err:
            raise Unusable(f"cannot be read ({err.strerror})") from err
        if len(content) > most:
            raise Unusable(f"too large (more than {most} bytes)")
        return content

    def close(self) -> None:
        """Nothing is held."""


def _listing(folder: Path) -> frozenset[str]:
    """Names of its files; none where there is no such folder. A pipe is no file: reading it would wait for ever."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as err:
        raise DataError(f"{folder}: may not be listed ({err.strerror}); check its permissions") from err
