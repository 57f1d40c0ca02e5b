"""A labelled set of photos: a folder of people's folders, or a tar of it, read in place.

Enters: a path. Leaves: items with the person each shows, their pixels one by one, and what was passed over and why. A
tar is never unpacked: its members are read into memory, so no name in it can reach the disk.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from realtime.capture.photo import PHOTO_SUFFIXES, decode_photo, load_photo, photo_sha256
from realtime.errors import PhotoError, RealtimeError
from realtime.records import RGB_HW3

MAX_MEMBER_BYTES: Final = 64 << 20
"""A larger member of a tar is not read: a face photo is a few kilobytes to a few megabytes."""

_TAR_ERRORS: Final = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    name: str
    """``person/file.jpg``, unique in the set."""
    person: str
    """Empty where the photo lies in no folder."""


class ImageSet(Protocol):
    """Opened by ``open_set``; one thread at a time."""

    @property
    def items(self) -> tuple[Item, ...]: ...

    @property
    def passed_over(self) -> Mapping[str, str]:
        """Name -> why it is no item."""

    @property
    def digest(self) -> str:
        """Changes when the set does; 64 hex digits."""

    def read(self, item: Item) -> RGB_HW3:
        """Pixels of one item; raises PhotoError where they cannot be had."""

    def sha256(self, item: Item) -> str:
        """Of the item's bytes as they lie there, 64 hex digits; raises PhotoError where they cannot be had."""

    def close(self) -> None: ...


def open_set(path: Path, *, labelled: bool = True) -> ImageSet:
    """A folder ``person/image.jpg`` (at any depth: the person is the last folder) or a tar of one.

    Args:
        path: of the folder or the tar.
        labelled: pass over photos that lie in no person's folder.

    Raises:
        RealtimeError: nothing there, neither folder nor tar, or no photo in it.
    """
    if path.is_dir():
        images: ImageSet = FolderSet(path, labelled=labelled)
    elif path.is_file():
        images = TarSet(path, labelled=labelled)
    else:
        raise RealtimeError(f"{path}: no such folder or tar; give a folder with a subfolder of photos for each person")
    if not images.items:
        images.close()
        form = "; expected person/image.jpg for each person" if labelled else ""
        raise RealtimeError(f"{path}: no photos in it{form}")
    return images


class FolderSet:
    def __init__(self, folder: Path, *, labelled: bool = True) -> None:
        self._folder = folder
        items: list[Item] = []
        self.passed_over: dict[str, str] = {}
        digest = hashlib.sha256()
        for directory, subfolders, files in os.walk(folder, onerror=self._unlisted):
            subfolders.sort()
            for link in (Path(directory) / name for name in subfolders if (Path(directory) / name).is_symlink()):
                self.passed_over[link.relative_to(folder).as_posix()] = "a link to a folder, which is not followed"
            for file in sorted(files):
                path = Path(directory) / file
                name = path.relative_to(folder).as_posix()
                try:
                    status = path.stat()
                except OSError as err:
                    self.passed_over[name] = f"cannot be read ({err.strerror})"
                    continue
                digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
                item = _item(PurePosixPath(name), self.passed_over, labelled=labelled)
                if item is not None:
                    items.append(item)
        self.items = tuple(items)
        self.digest = digest.hexdigest()

    def _unlisted(self, err: OSError) -> None:
        name = os.path.relpath(str(err.filename), self._folder)
        self.passed_over[name] = f"a folder that may not be listed ({err.strerror})"

    def read(self, item: Item) -> RGB_HW3:
        return load_photo(self._folder / item.name)

    def sha256(self, item: Item) -> str:
        return photo_sha256(self._folder / item.name)

    def close(self) -> None:
        """Nothing is held."""


class TarSet:
    def __init__(self, path: Path, *, labelled: bool = True) -> None:
        self._path = path
        self._labelled = labelled
        self.passed_over: dict[str, str] = {}
        opened = ExitStack()
        try:
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(1 << 20):
                    digest.update(block)
            self.digest = digest.hexdigest()
            self._tar = tarfile.open(path, "r:*")  # noqa: SIM115 (closed by close)
            opened.callback(self._tar.close)
            members = self._tar.getmembers()
            opened.pop_all()
        except _TAR_ERRORS as err:
            opened.close()
            why = str(err).partition("\n")[0].rstrip(":")
            raise RealtimeError(f"{path}: cannot be read as a tar ({why}); give a folder or a whole tar file") from err
        self._members: dict[str, tarfile.TarInfo] = {}
        items: list[Item] = []
        for member in members:
            item = self._checked(member)
            if item is not None:
                self._members[item.name] = member
                items.append(item)
        self.items = tuple(items)

    def _checked(self, member: tarfile.TarInfo) -> Item | None:
        if member.isdir():
            return None
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not member.name.isprintable():
            self.passed_over[repr(member.name)] = "its name leaves the tar or cannot be printed"
        elif not member.isreg():
            self.passed_over[member.name] = "a link or a device, not a file"
        elif member.size > MAX_MEMBER_BYTES:
            self.passed_over[member.name] = f"{member.size >> 20} MB, too large for a photo"
        elif path.as_posix() in self._members:
            self.passed_over[member.name] = "a second member of this name"
        else:
            return _item(path, self.passed_over, labelled=self._labelled)
        return None

    def read(self, item: Item) -> RGB_HW3:
        return decode_photo(self._content(item), self._where(item))

    def sha256(self, item: Item) -> str:
        return hashlib.sha256(self._content(item)).hexdigest()

    def _content(self, item: Item) -> bytes:
        try:
            file = self._tar.extractfile(self._members[item.name])
            return b"" if file is None else file.read()
        except _TAR_ERRORS as err:
            raise PhotoError(f"{self._where(item)}: cannot be read from the tar ({err})") from err

    def _where(self, item: Item) -> Path:
        return Path(f"{self._path}:{item.name}")

    def close(self) -> None:
        self._tar.close()


def _item(path: PurePosixPath, passed_over: dict[str, str], *, labelled: bool) -> Item | None:
    name = path.as_posix()
    if path.name.startswith(".") or path.suffix.lower() not in PHOTO_SUFFIXES:
        passed_over[name] = "not a photo by its name"
        return None
    if len(path.parts) < 2 and labelled:
        passed_over[name] = "not in a person's folder"
        return None
    return Item(name=name, person=path.parts[-2] if len(path.parts) > 1 else "")
