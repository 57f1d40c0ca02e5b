"""A folder of people's folders, or a tar of one, as a source: each photo aligned as realtime aligns it.

Enters: a path. Leaves: a ``FolderSource``. The subject of a photo is the folder that it lies in. Photos go through the
detectors and landmarks of realtime/, so that a network learns from the crops that it will be given; crops that are
aligned already are taken as they are.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from realtime.calibration.crops import ALIGNER, align_photos
from realtime.calibration.images import ImageSet, open_set
from realtime.errors import PhotoError
from realtime.faces.alignment import template_named
from train.errors import ConfigError, DataError
from train.source import Item, Taken

# S side of a crop, pixels; 3 channels RGB
LOOSE: Final = "not in a person's folder"
AS_THEY_ARE: Final = "as they are"


class Photos(Protocol):
    """What ``align_photos`` gives, and crops that need no aligning; places are those of ``names``."""

    names: tuple[str, ...]
    people: tuple[str, ...]
    passed_over: Mapping[str, str]
    digest: str

    def crop(self, index: int) -> NDArray[np.uint8] | str: ...
    def sha256(self, index: int) -> str: ...
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Photos by person; see ``train.source``."""

    path: Path
    template: str
    size: int
    options: Mapping[str, str]
    """As ``align_photos`` takes them."""
    aligned: bool
    items: tuple[Item, ...]
    places: tuple[int, ...]
    """Of each item among the photos as they are found."""
    refused: Mapping[str, str]
    digest: str
    facts: Mapping[str, Any]
    expected: int | None = None

    def open(self) -> FolderReader:
        """
        Raises:
            DataError: the photos are others than at indexing.
        """
        photos = _open_photos(self.path, self.template, self.size, self.options, self.aligned)
        if photos.digest != self.digest:
            photos.close()
            raise DataError(f"{self.path}: has changed since it was listed; start over, with --force if asked for it")
        return FolderReader(photos, self.places)


class FolderReader:
    def __init__(self, photos: Photos, places: tuple[int, ...]) -> None:
        self._photos = photos
        self._places = places

    def take(self, index: int) -> Taken | str:
        place = self._places[index]
        crop = self._photos.crop(place)
        if not isinstance(crop, str):
            try:
                return Taken(crop_SS3=crop, sha256=self._photos.sha256(place))
            except PhotoError as err:
                crop = str(err)
        return crop.rpartition(f"{self._photos.names[place]}: ")[2]  # the name stands beside the reason

    def close(self) -> None:
        self._photos.close()


class AlignedCrops:
    """Images that are crops already."""

    def __init__(self, images: ImageSet, size: int) -> None:
        self.names = tuple(item.name for item in images.items)
        self.people = tuple(item.person for item in images.items)
        self.passed_over = images.passed_over
        self.digest = hashlib.sha256(f"{AS_THEY_ARE} {size} {images.digest}".encode()).hexdigest()
        self._images = images
        self._size = size

    def crop(self, index: int) -> NDArray[np.uint8] | str:
        try:
            rgb_HW3 = self._images.read(self._images.items[index])
        except PhotoError as err:
            return str(err)
        height, width, _ = rgb_HW3.shape
        if (width, height) != (self._size, self._size):
            return f"is no crop of {self._size}x{self._size} pixels (it has {width}x{height})"
        return rgb_HW3

    def sha256(self, index: int) -> str:
        return self._images.sha256(self._images.items[index])

    def close(self) -> None:
        self._images.close()


def open_folder(
    path: Path,
    *,
    template: str = "arcface_112",
    options: Mapping[str, str] | None = None,
    aligned: bool | None = None,
) -> FolderSource:
    """List the photos of a folder or a tar.

    Args:
        path: of ``person/image.jpg`` at any depth.
        template: alignment template of the crops.
        options: how photos are aligned, as ``{"detect.kind": "cnn"}``.
        aligned: the images are such crops already. None: no, but images of exactly a crop's size are asked about.

    Raises:
        ConfigError: an unknown template, or images that look aligned and nobody said whether they are.
        RealtimeError, EngineError: nothing there, or an option that is not known.
    """
    try:
        size = template_named(template).size
    except ValueError as err:
        raise ConfigError(str(err)) from err
    if aligned and options:
        raise ConfigError("crops that are aligned already take no options of alignment; leave out --align or --aligned")
    if aligned is None:
        _ask_about_crops(path, size)
    photos = _open_photos(path, template, size, options or {}, bool(aligned))
    photos.close()
    named = _readable(photos.names)
    labelled = [place for place, person in enumerate(photos.people) if person]
    labelled.sort(key=lambda place: (readable_name(photos.people[place]), named[place]))
    loose = {named[place]: LOOSE for place, person in enumerate(photos.people) if not person}
    return FolderSource(
        path=path.absolute(),
        template=template,
        size=size,
        options=dict(options or {}),
        aligned=bool(aligned),
        items=tuple(Item(named[place], readable_name(photos.people[place])) for place in labelled),
        places=tuple(labelled),
        refused={**{readable_name(name): why for name, why in photos.passed_over.items()}, **loose},
        digest=photos.digest,
        facts={
            "kind": "folder" if path.is_dir() else "tar",
            "name": readable_name(path.absolute().name),
            "cropping": AS_THEY_ARE if aligned else {"aligner": ALIGNER, "options": dict(options or {})},
        },
    )


def readable_name(name: str) -> str:
    """A file's name as text: UTF-8, else the cp949 of Korean Windows, else its bytes as escapes."""
    raw = os.fsencode(name)
    for encoding in ("utf-8", "cp949"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "backslashreplace")


def _readable(names: tuple[str, ...]) -> list[str]:
    """Of all names; where two would be the same, their bytes as escapes."""
    texts = [readable_name(name) for name in names]
    if len(set(texts)) == len(texts):
        return texts
    twice = {text for text, count in Counter(texts).items() if count > 1}
    return [
        os.fsencode(name).decode("utf-8", "backslashreplace") if text in twice else text
        for name, text in zip(names, texts, strict=True)
    ]


def _open_photos(path: Path, template: str, size: int, options: Mapping[str, str], aligned: bool) -> Photos:
    if aligned:
        return AlignedCrops(open_set(path, labelled=False), size)
    return align_photos(path, template=template, size=size, options=options)


def _ask_about_crops(path: Path, size: int) -> None:
    images = open_set(path, labelled=False)
    try:
        height, width, _ = images.read(images.items[0]).shape
    except PhotoError:
        return  # it will be named among the refused
    finally:
        images.close()
    if (width, height) == (size, size):
        raise ConfigError(
            f"{path}: its first image has {size}x{size} pixels, as an aligned crop has; say --aligned to take the "
            "images as they are, or --no-aligned to look for faces in them"
        )
