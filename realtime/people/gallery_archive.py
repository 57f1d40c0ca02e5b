"""A gallery as one .zip that another machine can read, and back.

Enters: an open gallery, or an archive from anywhere. Leaves: one file of ``gallery.json`` (people and references),
``embeddings.npy`` (float32 (M, D)) and ``crops/*.png``; or everybody of an archive in the gallery, or nobody. An
archive is hostile until read: nothing is unpacked to disk or unpickled, every size is bounded before it is believed.
"""

from __future__ import annotations

import io
import os
import secrets
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import ModelFileError
from engines.manifest import Manifest
from realtime.errors import GalleryError
from realtime.people.gallery import Gallery
from realtime.people.reference import Reference
from realtime.people.reference_crop import ReferenceCrop

# M references, D embedding, P points
FORMAT: Final = "realtime-gallery"
VERSION: Final = 1

MAX_JSON_BYTES: Final = 256 << 20
"""Some 300,000 references."""

MAX_EMBEDDINGS_BYTES: Final = 1 << 30

MAX_CROP_BYTES: Final = 4 << 20
"""A PNG of 1024 x 1024 noise; real crops have 60,000 bytes."""

Text = Annotated[str, Field(max_length=4096)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Crop(_Record):
    file: Annotated[str, Field(pattern=r"^crops/[0-9]{1,9}\.png$")]
    points: Annotated[list[tuple[Number, Number]], Field(min_length=5, max_length=68)]
    template: Text
    margin_px: Annotated[int, Field(ge=0, le=1024)]


class _Reference(_Record):
    photo_sha256: Sha256
    source: Text
    quality: Number
    size_px: Number
    sharpness: Number
    yaw_deg: Number
    created_at: Text
    crop: _Crop | None


class _Person(_Record):
    name: Text
    references: list[_Reference]


class _Contents(_Record):
    format: Literal["realtime-gallery"]
    version: Literal[1]
    manifest: dict[str, Any]
    people: list[_Person]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    people: int
    """In the archive."""
    references: int
    """In the archive."""
    new: int
    """References that the gallery did not have."""


def export_gallery(gallery: Gallery, path: Path) -> int:
    """Write everybody to ``path`` (for the owner alone), which is replaced only once the archive is whole.

    Returns:
        How many references were written.

    Raises:
        GalleryError: the gallery is empty or damaged, or the file cannot be written.
    """
    manifest = gallery.manifest
    if manifest is None or not gallery.people():
        raise GalleryError(f"{gallery.path}: nobody is enrolled, there is nothing to export")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with (
                os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
                zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            ):
                count = _write(gallery, manifest, archive)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as err:
        raise GalleryError(f"{path}: cannot be written ({err.strerror or err}); give another file") from err
    return count


def _write(gallery: Gallery, manifest: Manifest, archive: zipfile.ZipFile) -> int:
    people: list[_Person] = []
    embeddings: list[NDArray[np.float32]] = []
    with gallery.transaction(write=False):  # everybody as of one moment
        for person in gallery.people():
            records = []
            for reference in gallery.references_of(person.name):
                crop = None
                if reference.crop is not None:
                    crop = _crop_record(reference.crop, f"crops/{len(embeddings)}.png")
                    archive.writestr(zipfile.ZipInfo(crop.file), reference.crop.png)
                records.append(_record(reference, crop))
                embeddings.append(reference.embedding_D)
            people.append(_Person(name=person.name, references=records))
    contents = _Contents(format=FORMAT, version=VERSION, manifest=_plain(manifest), people=people)
    buffer = io.BytesIO()
    np.save(buffer, np.stack(embeddings).astype("<f4"), allow_pickle=False)
    archive.writestr("embeddings.npy", buffer.getvalue())
    archive.writestr("gallery.json", contents.model_dump_json(indent=1))
    return len(embeddings)


def _plain(manifest: Manifest) -> dict[str, Any]:
    import json

    values: dict[str, Any] = json.loads(manifest.to_json())
    return values


def _record(reference: Reference, crop: _Crop | None) -> _Reference:
    return _Reference(
        photo_sha256=reference.photo_sha256,
        source=reference.source,
        quality=reference.quality,
        size_px=reference.size_px,
        sharpness=reference.sharpness,
        yaw_deg=reference.yaw_deg,
        created_at=reference.created_at,
        crop=crop,
    )


def _crop_record(crop: ReferenceCrop, file: str) -> _Crop:
    points = [(float(x), float(y)) for x, y in crop.points_P2]
    return _Crop(file=file, points=points, template=crop.template, margin_px=crop.margin_px)


def import_gallery(gallery: Gallery, path: Path) -> Imported:
    """Add everybody of an archive; people with an enrolled name get its references, photos known already are skipped.

    Raises:
        GalleryError: not an archive, damaged, hostile, newer, or of another model; the gallery is as it was.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            contents = _contents(archive, path)
            manifest = _manifest(contents, path)
            references = sum(len(person.references) for person in contents.people)
            embeddings_MD = _embeddings(archive, references, manifest)
            with gallery.transaction():
                gallery.claim(manifest)
                new = 0
                row = 0
                for person in contents.people:
                    rows = range(row, row + len(person.references))
                    row += len(person.references)
                    made = [
                        _reference(archive, record, embeddings_MD[number])
                        for record, number in zip(person.references, rows, strict=True)
                    ]
                    new += gallery.add(person.name, made)
    except OSError as err:
        raise GalleryError(f"{path}: cannot be read ({err.strerror or err}); check the path") from err
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as err:
        raise GalleryError(f"{path}: is not a whole gallery archive; export it again") from err
    except ValueError as err:
        raise GalleryError(f"{path}: is not a gallery archive that can be trusted ({err}); export it again") from err
    return Imported(people=len(contents.people), references=references, new=new)


def _read(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """One member, never more than ``limit`` bytes of it, whatever its header says.

    Raises:
        ValueError: it is larger. KeyError: it is missing.
    """
    with archive.open(name) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{name} is larger than {limit >> 20} MB")
    return data


def _contents(archive: zipfile.ZipFile, path: Path) -> _Contents:
    data = _read(archive, "gallery.json", MAX_JSON_BYTES)
    try:
        return _Contents.model_validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "version":
            raise GalleryError(f"{path}: is of another version of realtime; update realtime") from err
        raise ValueError(f"gallery.json: {where}: {first['msg'].lower()}") from err


def _manifest(contents: _Contents, path: Path) -> Manifest:
    import json

    try:
        return Manifest.from_json(json.dumps(contents.manifest), str(path))
    except ModelFileError as err:
        raise GalleryError(str(err)) from err


def _embeddings(archive: zipfile.ZipFile, count: int, manifest: Manifest) -> NDArray[np.float32]:
    """(M, D); the file's header is compared with what must be there before its size is believed."""
    data = io.BytesIO(_read(archive, "embeddings.npy", MAX_EMBEDDINGS_BYTES))
    if np.lib.format.read_magic(data) != (1, 0):
        raise ValueError("embeddings.npy: not of version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(data)
    payload = data.read()
    if shape != (count, manifest.dimensions) or fortran or dtype != np.dtype("<f4"):
        raise ValueError(f"embeddings.npy: {dtype} {shape}, expected float32 {(count, manifest.dimensions)}")
    if len(payload) != 4 * count * manifest.dimensions:
        raise ValueError("embeddings.npy: cut short")
    return np.frombuffer(payload, dtype="<f4").reshape(shape).astype(np.float32)


def _reference(archive: zipfile.ZipFile, record: _Reference, embedding_D: NDArray[np.float32]) -> Reference:
    crop = None
    if record.crop is not None:
        crop = ReferenceCrop(
            png=_read(archive, record.crop.file, MAX_CROP_BYTES),
            points_P2=np.array(record.crop.points, dtype=np.float32),
            template=record.crop.template,
            margin_px=record.crop.margin_px,
        )
        crop.pixels()
    return Reference(
        embedding_D=embedding_D,
        photo_sha256=record.photo_sha256,
        source=record.source,
        quality=record.quality,
        size_px=record.size_px,
        sharpness=record.sharpness,
        yaw_deg=record.yaw_deg,
        crop=crop,
        created_at=record.created_at,
    )
