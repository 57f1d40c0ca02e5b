"""A gallery moves to another model, without the photos.

Enters: an open gallery and the new model. Leaves: the same people and crops, with that model's embeddings, in one
transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest
from realtime.errors import GalleryError
from realtime.people.gallery import Gallery
from realtime.people.gallery_rows import SELECT, blob_of, reference_of
from realtime.records import RGB_HW3

# N crops, D embedding
BATCH: Final = 32
"""Crops in memory at once."""

Embed = Callable[[list[RGB_HW3]], NDArray[np.float32]]


def reembed(
    gallery: Gallery,
    embed: Embed,
    manifest: Manifest,
    *,
    drop_without_crop: bool = False,
    progress: Callable[[int], object] = lambda done: None,
) -> int:
    """Embed every stored crop anew. The gallery is unchanged until all of them are done.

    Args:
        gallery: opened without a manifest.
        embed: (N, D) embeddings of N crops in the manifest's template.
        manifest: of the model behind ``embed``.
        drop_without_crop: forget references that were stored without a crop, instead of refusing.
        progress: told how many more are done.

    Returns:
        How many references were embedded.

    Raises:
        GalleryError: references without a crop or with a damaged one; somebody was enrolled or removed meanwhile; the
            file cannot be written.
    """
    rows = gallery.query("SELECT refs.id, name, crop IS NULL FROM refs JOIN people ON people.id = person_id")
    bare = sorted({str(name) for _, name, without in rows if without})
    if bare and not drop_without_crop:
        raise GalleryError(
            f"{gallery.path}: {len(bare)} people have references without a crop ({', '.join(bare[:3])}); enrol them "
            "again from their photos, or add --drop to leave those references out"
        )
    ids = [int(row_id) for row_id, _, without in rows if not without]
    blobs: list[tuple[bytes, int]] = []
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        embeddings_ND = embed([_crop(gallery, row_id, manifest.template) for row_id in batch])
        blobs += [(blob_of(each_D, manifest), row_id) for each_D, row_id in zip(embeddings_ND, batch, strict=True)]
        progress(len(batch))
    _replace(gallery, {int(row[0]) for row in rows}, blobs, manifest)
    return len(blobs)


def _crop(gallery: Gallery, row_id: int, template: str) -> RGB_HW3:
    rows = gallery.query(f"{SELECT} WHERE id = ?", row_id)
    if not rows:
        raise GalleryError(_changed(gallery))
    crop = reference_of(rows[0], gallery.path).crop
    assert crop is not None
    try:
        return crop.aligned_to(template)
    except ValueError as err:
        raise GalleryError(f"{gallery.path}: a stored crop is damaged ({err}); see `realtime gallery check`") from err


def _replace(gallery: Gallery, expected: set[int], blobs: list[tuple[bytes, int]], manifest: Manifest) -> None:
    with gallery.transaction() as connection:
        if {row[0] for row in gallery.query("SELECT id FROM refs")} != expected:
            raise GalleryError(_changed(gallery))
        connection.execute("DELETE FROM refs WHERE crop IS NULL")
        connection.executemany("UPDATE refs SET embedding = ? WHERE id = ?", blobs)
        connection.execute(
            "UPDATE refs SET model_id = ?, weights_sha256 = ?, template = ?",
            (manifest.model_id, manifest.weights_sha256, manifest.template),
        )
        connection.execute("DELETE FROM people WHERE id NOT IN (SELECT person_id FROM refs)")
        gallery.move_to(manifest)


def _changed(gallery: Gallery) -> str:
    return f"{gallery.path}: somebody was enrolled or removed meanwhile; run it again"
