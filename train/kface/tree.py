"""Where K-FACE's people lie under a path, in whatever form they were downloaded.

Enters: ROOT and a resolution. Leaves: a home for each person. Found are ``ROOT/Middle_Resolution/<ID8>.zip``, the zip
of zips ``ROOT/Middle_Resolution.zip``, extracted ``ROOT/Middle_Resolution/<ID8>/S001``, the same one folder deeper, and
any of these given as ROOT itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from train.errors import ConfigError, DataError
from train.kface.archive import is_unsafe, read_index
from train.kface.codes import RESOLUTIONS, subject_of
from train.kface.failures import Unusable
from train.kface.person import Home
from train.kface.spans import open_span


@dataclass
class Found:
    """Homes by person; more than one where a person was found twice."""

    homes: dict[str, list[Home]] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)
    """File -> why nothing of it is used."""

    def add(self, home: Home) -> None:
        self.homes.setdefault(home.subject, []).append(home)


def find_people(root: Path, resolution: str) -> Found:
    """
    Args:
        root: folder or zip.
        resolution: ``high``, ``middle`` or ``low``.

    Raises:
        ConfigError: another resolution lies there.
        DataError: nothing there, or nobody of K-FACE in it.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; give the folder that K-FACE was downloaded to")
    _refuse_other(root, root, resolution)
    found = Found()
    for place in _places(root, resolution):
        if place.is_dir():
            _in_folder(place, found)
        elif subject := subject_of(place.name):
            found.add(Home(subject, place))
        else:
            _in_zip(place, found)
    for homes in found.homes.values():  # 19062531.zip before 19062531 (1).zip
        homes.sort(key=lambda home: (len(home.where), home.where))
    if not found.homes:
        _refuse_others_inside(root, resolution)
        name = f"{resolution.capitalize()}_Resolution"
        raise DataError(f"{root}: nobody of K-FACE in it; {name}/19062531.zip and so on, or {name}.zip, are expected")
    return found


def _places(root: Path, resolution: str) -> list[Path]:
    """Folders with people first, then zips of people, so that what was unpacked is preferred."""
    if root.is_file() or _is_named(root, resolution):
        return [root]
    named = [child for child in _children(root) if _is_named(child, resolution)]
    deeper = (_children(child) for child in _children(root) if child.is_dir() and not subject_of(child.name))
    named = named or [child for children in deeper for child in children if _is_named(child, resolution)]
    return sorted(named, key=lambda place: (place.is_file(), place)) or [root]


def _is_named(path: Path, resolution: str) -> bool:
    name = path.name.casefold()
    plain = name.removesuffix(".zip") if path.is_file() else name
    return plain == f"{resolution}_resolution" and (path.is_dir() or name.endswith(".zip"))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as err:
        raise DataError(f"{folder}: may not be listed ({err.strerror}); check its permissions") from err


def _in_folder(folder: Path, found: Found) -> None:
    for path in _children(folder):
        subject = subject_of(path.name)
        if path.is_dir() and subject == path.name:
            if _has_zip(found, subject):
                found.passed_over[path.name + "/"] = "unpacked beside its zip, which is read"
            else:
                found.add(Home(subject, path))
        elif path.suffix.casefold() == ".zip" and subject:
            _prefer_zip(found, subject)
            found.add(Home(subject, path))
        elif path.suffix.casefold() == ".zip":
            found.passed_over[path.name] = "begins with no K-FACE id of eight digits"


def _has_zip(found: Found, subject: str) -> bool:
    return any(home.path.is_file() for home in found.homes.get(subject, ()))


def _prefer_zip(found: Found, subject: str) -> None:
    """``19062531`` sorts before ``19062531.zip``."""
    homes = found.homes.get(subject, [])
    for home in [home for home in homes if home.path.is_dir()]:
        homes.remove(home)
        found.passed_over[home.path.name + "/"] = "unpacked beside its zip, which is read"


def _in_zip(path: Path, found: Found) -> None:
    before = set(found.homes)
    span = open_span(path)
    try:
        index = read_index(span)
        folders = 0
        for row, name in enumerate(index.names):
            if is_unsafe(name):
                found.passed_over[f"{path.name}:{index.member(row).text}"] = "never read (its name leaves the zip)"
                continue
            file = PurePosixPath(name.decode("latin1").replace("\\", "/"))
            subject = subject_of(file.name)
            folders += subject is None and any(subject_of(part) == part for part in file.parts)
            if subject is None or file.suffix.casefold() != ".zip":
                continue
            home = Home(subject, path, index.member(row))
            if subject in before:
                found.passed_over[home.where] = "unpacked beside it, which is read"
            else:
                found.add(home)
    except Unusable as err:
        raise DataError(f"{path}: {err}; get it again") from err
    finally:
        span.close()
    if folders and not found.homes:
        raise DataError(f"{path}: holds folders of people, not a zip for each; unpack it and give the folder")


def _refuse_other(path: Path, root: Path, resolution: str) -> None:
    for other in RESOLUTIONS:
        if other != resolution and _is_named(path, other):
            raise ConfigError(
                f"{root}: holds {path.name}, and the {resolution} resolution is asked for; add --resolution {other}"
            )


def _refuse_others_inside(root: Path, resolution: str) -> None:
    for child in _names_inside(root):
        _refuse_other(child, root, resolution)


def _names_inside(root: Path) -> Iterator[Path]:
    if root.is_dir():
        for child in _children(root):
            yield child
            if child.is_dir():
                yield from _children(child)
