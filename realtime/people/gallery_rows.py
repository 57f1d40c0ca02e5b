"""How a reference lies in a row of the gallery, and comes out of it checked.

Enters: a ``Reference`` or a row of ``refs``. Leaves: the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest
from realtime.errors import GalleryError
from realtime.people.matching import References
from realtime.people.reference import Reference
from realtime.people.reference_crop import ReferenceCrop

# M references, D embedding, P points
SELECT: Final = """
SELECT refs.embedding, refs.photo_sha256, refs.source, refs.quality, refs.size_px, refs.sharpness, refs.yaw_deg,
refs.created_at, refs.crop, refs.crop_points, refs.crop_template, refs.crop_margin_px FROM refs"""

INSERT: Final = """
INSERT INTO refs (person_id, embedding, model_id, weights_sha256, template, quality, size_px, sharpness, yaw_deg,
photo_sha256, source, created_at, crop, crop_points, crop_template, crop_margin_px)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (person_id, photo_sha256) DO NOTHING"""

UNIT_TOLERANCE: Final = 1e-3
"""How far from 1 the length of a unit embedding may be: bfloat16 arithmetic is off by a few 1e-4."""


def values_of(reference: Reference, person_id: int, manifest: Manifest, now: str) -> tuple[Any, ...]:
    """For ``INSERT``.

    Raises:
        ValueError: the embedding is not one of the manifest's model.
    """
    crop = reference.crop
    return (
        person_id,
        blob_of(reference.embedding_D, manifest),
        manifest.model_id,
        manifest.weights_sha256,
        manifest.template,
        float(reference.quality),
        float(reference.size_px),
        float(reference.sharpness),
        float(reference.yaw_deg),
        reference.photo_sha256,
        reference.source,
        reference.created_at or now,
        None if crop is None else crop.png,
        None if crop is None else crop.points_P2.astype("<f4").tobytes(),
        None if crop is None else crop.template,
        None if crop is None else crop.margin_px,
    )


def blob_of(embedding_D: NDArray[np.float32], manifest: Manifest) -> bytes:
    """Little-endian float32.

    Raises:
        ValueError: not the manifest's dimensions, not finite, or not of unit length where the model promises it.
    """
    if embedding_D.shape != (manifest.dimensions,):
        raise ValueError(f"embedding must have shape ({manifest.dimensions},), but got {embedding_D.shape}")
    length = float(np.linalg.norm(embedding_D))
    if not np.isfinite(length) or (manifest.unit_length and abs(length - 1) > UNIT_TOLERANCE):
        raise ValueError(f"embedding has length {length}; {manifest.name} gives unit length")
    return embedding_D.astype("<f4").tobytes()


def embedding_of(blob: bytes, dimensions: int) -> NDArray[np.float32]:
    """(D,) float32, read-only.

    Raises:
        ValueError: another length, or not finite.
    """
    if not isinstance(blob, bytes) or len(blob) != 4 * dimensions:
        raise ValueError(f"an embedding of {dimensions} dimensions was expected")
    embedding_D: NDArray[np.float32] = np.frombuffer(blob, dtype="<f4")
    if not np.isfinite(embedding_D).all():
        raise ValueError("an embedding is not finite")
    return embedding_D


def reference_of(row: tuple[Any, ...], path: Path) -> Reference:
    """Of one row of ``SELECT``.

    Raises:
        GalleryError: the row is damaged.
    """
    blob, sha256, source, quality, size_px, sharpness, yaw_deg, created_at, png, points, template, margin_px = row
    try:
        crop = None
        if png is not None:
            if not isinstance(png, bytes) or not isinstance(points, bytes):
                raise ValueError("its crop is no picture")
            points_P2 = np.frombuffer(points, dtype="<f4").reshape(-1, 2)
            crop = ReferenceCrop(png=png, points_P2=points_P2, template=template, margin_px=margin_px)
        return Reference(
            embedding_D=embedding_of(blob, len(blob) // 4).astype(np.float32),
            photo_sha256=sha256,
            source=source,
            quality=quality,
            size_px=size_px,
            sharpness=sharpness,
            yaw_deg=yaw_deg,
            crop=crop,
            created_at=created_at,
        )
    except (ValueError, TypeError) as err:
        raise GalleryError(f"{path}: a reference is damaged ({err}); see `realtime gallery check`") from err


def snapshot(rows: Sequence[tuple[Any, ...]], manifest: Manifest | None, *, version: int) -> References:
    """What probes are compared with, of (name, embedding) rows with each person's rows together.

    A person of several references gets their mean as one more: on LFW, 100 people of 3 photos each at one threshold,
    that names 94.5 % of their other photos instead of 88.1 %, and 0.5 % of strangers instead of 0.3 %.

    Raises:
        ValueError: an embedding is damaged; the message has the name.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name, _ in rows))}
    dimensions = 1 if manifest is None else manifest.dimensions
    embeddings_MD = np.empty((len(rows), dimensions), dtype=np.float32)
    for row, (name, blob) in enumerate(rows):
        try:
            embeddings_MD[row] = embedding_of(blob, dimensions)
        except ValueError as err:
            raise ValueError(f"a reference of {name!r} is damaged ({err})") from err
    persons_M = np.array([numbers[name] for name, _ in rows], dtype=np.int64)
    if manifest is not None and len(rows):
        embeddings_MD, persons_M = _with_means(embeddings_MD, persons_M, unit_length=manifest.unit_length)
    return References(
        embeddings_MD=embeddings_MD,
        persons_M=persons_M,
        names=tuple(numbers),
        model_id="" if manifest is None else manifest.model_id,
        version=version,
    )


def _with_means(
    embeddings_MD: NDArray[np.float32], persons_M: NDArray[np.int64], *, unit_length: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Each person's mean as one more reference, where there are two or more to average."""
    people, starts, counts = np.unique(persons_M, return_index=True, return_counts=True)
    several = people[counts > 1]
    if not len(several):
        return embeddings_MD, persons_M
    means = (np.add.reduceat(embeddings_MD, starts, axis=0) / counts[:, None])[counts > 1]
    if unit_length:
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return np.concatenate([embeddings_MD, means.astype(np.float32)]), np.concatenate([persons_M, several])
