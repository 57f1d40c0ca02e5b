"""Aligned faces of a set, to compare and calibrate engines on.

Enters: a folder of crops or an .npy file of them, or photos (a folder, a tar) and the name of an alignment template.
Leaves: a ``FaceSet``: crops of a model's size, who they are of, and each photo that gave none with its reason. Cameras
and detectors are no business of this package: photos are aligned by a package above, found by its entry point.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Final, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.store import cache_dir
from engines.verification.packed import NPY_ERRORS, Packed, pack

# N faces; S side of a crop, pixels; 3 channels RGB
Crop_SS3 = NDArray[np.uint8]
Progress = Callable[[int, int], object]
"""Told (photos done, photos in all)."""

Form = Literal["auto", "crops", "photos"]
"""What a path holds; ``auto``: crops if the first image has exactly the model's size, else photos."""

GROUP: Final = "realtime.aligners"
"""Entry points that turn photos into crops; see ``Aligner``."""

SUFFIXES: Final = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
"""Of crops in a folder."""

FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP")
"""Pillow's names of these; no other decoder is tried."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSet:
    """Crops of one size, row by row."""

    faces_NSS3: NDArray[np.uint8]
    """Read-only where they lie in a file."""
    names: tuple[str, ...]
    """``person/file.jpg``, or ``file.jpg``."""
    people: tuple[str, ...]
    """Who each is of: the image's folder; empty where it lies in none."""
    source: str
    """In words: what was read, and how."""
    failures: dict[str, str] = field(default_factory=dict)
    """Name of a photo -> why it gave no crop."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labelled(self) -> bool:
        """Whether it is known of every face who it is, and there are two people."""
        return all(self.people) and len(set(self.people)) > 1


class Photos(Protocol):
    """A set of photos that an aligner has opened; one thread at a time."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def people(self) -> Sequence[str]:
        """Of each photo; empty where it is not known."""

    @property
    def digest(self) -> str:
        """Changes when a photo or the way of aligning does."""

    def crop(self, index: int) -> Crop_SS3 | str:
        """(S, S, 3) uint8 RGB, or why there is none."""

    def close(self) -> None: ...


class Aligner(Protocol):
    """What an entry point of ``GROUP`` names."""

    def __call__(self, path: Path, *, template: str, size: int, options: Mapping[str, str]) -> Photos:
        """Raises EngineError: nothing to align there, or an option or a template that is not known."""


def read_faces(
    path: Path,
    *,
    template: str,
    size: int,
    options: Mapping[str, str] | None = None,
    form: Form = "auto",
    limit: int | None = None,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
) -> FaceSet:
    """Read crops, or align photos; crops of photos are kept in the cache directory, so a second call is quick.

    Args:
        path: a folder of images or of people's folders, a tar of one, or an .npy file (N, S, S, 3) uint8.
        template: alignment template of the model.
        size: side of its input, pixels.
        options: of the aligner, as ``{"detect.kind": "cnn"}``.
        form: see ``Form``.
        limit: so many photos at most, evenly over the set.
        only: names without suffix, with or without their folders; other photos are passed over.
        progress: see ``Progress``.

    Raises:
        EngineError: nothing usable there, or photos and nothing installed that aligns them.
    """
    told = progress or (lambda done, total: None)
    if path.suffix == ".npy":
        return _from_array(path, size, limit)
    if not path.exists():
        raise EngineError(f"{path}: no such file or folder; give a folder of face crops or of photos")
    if form == "crops" or (form == "auto" and path.is_dir() and _holds_crops(path, size)):
        return _from_crops(path, size, limit, only, told)
    return _from_photos(path, template, size, options or {}, limit, only, told)


def _from_array(path: Path, size: int, limit: int | None) -> FaceSet:
    try:
        faces = np.load(path, mmap_mode="r", allow_pickle=False)
    except NPY_ERRORS as err:
        raise EngineError(f"{path}: cannot be read as an array of crops ({err}); give one saved by numpy.save") from err
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1:] != (size, size, 3) or not len(faces):
        raise EngineError(
            f"{path}: holds {faces.dtype} of shape {faces.shape}; "
            f"uint8 crops of shape (N, {size}, {size}, 3) are needed"
        )
    rows = _thinned(range(len(faces)), limit)
    return FaceSet(
        faces_NSS3=faces if len(rows) == len(faces) else faces[rows],
        names=tuple(str(row) for row in rows),
        people=("",) * len(rows),
        source=f"{path.name}: {len(rows)} crops",
    )


def _holds_crops(folder: Path, size: int) -> bool:
    """By the first image that can be opened."""
    return next((found == (size, size) for path in _images(folder) if (found := _dimensions(path))), False)


def _from_crops(
    folder: Path, size: int, limit: int | None, only: Collection[str] | None, progress: Progress
) -> FaceSet:
    paths = [path for path in _images(folder) if _asked_for(path.relative_to(folder), only)]
    paths = _thinned(paths, limit)
    crops: list[Crop_SS3] = []
    found: list[tuple[str, str]] = []
    failures: dict[str, str] = {}
    for done, path in enumerate(paths, start=1):
        name = path.relative_to(folder).as_posix()
        crop = _read_crop(path, size)
        if isinstance(crop, str):
            failures[name] = crop
        else:
            crops.append(crop)
            found.append((name, path.parent.name if path.parent != folder else ""))
        progress(done, len(paths))
    if not crops:
        reason = next(iter(failures.values()), "it holds no images")
        raise EngineError(f"{folder}: no crop of {size}x{size} pixels can be read ({reason})")
    return FaceSet(
        faces_NSS3=np.stack(crops),
        names=tuple(name for name, _ in found),
        people=tuple(person for _, person in found),
        source=f"{folder.name}: {len(crops)} crops as they are",
        failures=failures,
    )


def _from_photos(
    path: Path,
    template: str,
    size: int,
    options: Mapping[str, str],
    limit: int | None,
    only: Collection[str] | None,
    progress: Progress,
) -> FaceSet:
    with closing(_aligner()(path, template=template, size=size, options=options)) as photos:
        rows = [row for row, name in enumerate(photos.names) if _asked_for(PurePosixPath(name), only)]
        rows = _thinned(rows, limit)
        packed: Packed = pack(photos, rows, size, cache_dir() / "crops", progress)
    if not len(packed.names):
        reason = next(iter(packed.failures.values()), "none of the photos that are asked for is there")
        raise EngineError(f"{path}: no face in any of {len(rows)} photos ({reason}); are they photos of faces?")
    return FaceSet(
        faces_NSS3=packed.faces_NSS3,
        names=packed.names,
        people=packed.people,
        source=f"{path.name}: {len(packed.names)} of {len(rows)} photos aligned to {template}",
        failures=packed.failures,
    )


def _aligner() -> Aligner:
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    if not found:
        raise EngineError(
            "these are photos, and nothing is installed that aligns faces; give crops of the model's size, or install "
            "realtime with `pip install realtime-arcface`"
        )
    try:
        return cast(Aligner, found[0].load())
    except (ImportError, AttributeError) as err:
        raise EngineError(f"the aligner {found[0].value} does not load ({err}); install its package again") from err


def _asked_for(name: PurePath, only: Collection[str] | None) -> bool:
    return only is None or name.stem in only or name.with_suffix("").as_posix() in only


def _images(folder: Path) -> Iterator[Path]:
    for directory, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(directory) / name


def _dimensions(path: Path) -> tuple[int, int] | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _read_crop(path: Path, size: int) -> Crop_SS3 | str:
    """Pixels, or why they are no crop; nothing is decoded that has another size."""
    from PIL import Image

    if (found := _dimensions(path)) is None:
        return "cannot be decoded"
    if found != (size, size):
        return f"has {found[0]}x{found[1]} pixels, crops have {size}x{size}"
    try:
        with Image.open(path, formats=FORMATS) as image:
            return np.array(image.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError):
        return "is damaged or cut short"


def _thinned(items: Sequence[Any], limit: int | None) -> list[Any]:
    """At most ``limit`` of them, evenly over all."""
    if limit is None or limit >= len(items):
        return list(items)
    if limit < 1:
        raise EngineError(f"{limit} faces are asked for; at least 1 is needed")
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, limit)]
