"""The faces that a gallery keeps, as pictures: what a model is calibrated on and compared by on this very machine.

Enters: a gallery file. Leaves: crops in any template. The gallery may be another model's, or missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realtime.errors import GalleryError
from realtime.faces.alignment import template_named
from realtime.people.gallery import Gallery
from realtime.people.gallery_rows import SELECT, reference_of


def enrolled_crops(path: Path, template: str, limit: int) -> NDArray[np.uint8]:
    """Stored crops of everybody, evenly over people and photos.

    Args:
        path: of the gallery; where there is no file, nobody is enrolled.
        template: that the crops are to be aligned to, whatever they were stored in.
        limit: so many at most.

    Returns:
        (N, S, S, 3) uint8 RGB, N from 0 to ``limit``; the same for the same gallery.

    Raises:
        GalleryError: it cannot be read, or a reference is damaged.
    """
    size = template_named(template).size
    crops_NSS3 = [np.empty((0, size, size, 3), dtype=np.uint8)]
    if not path.exists():
        return crops_NSS3[0]
    with Gallery.open(path, create=False, read_only=True) as gallery:
        ids = [row[0] for row in gallery.query("SELECT id FROM refs WHERE crop IS NOT NULL ORDER BY person_id, id")]
        for row_id in ids[:: max(1, -(-len(ids) // limit))]:
            for row in gallery.query(f"{SELECT} WHERE id = ?", row_id):  # none where it was removed meanwhile
                crop = reference_of(row, path).crop
                assert crop is not None
                try:
                    crops_NSS3.append(crop.aligned_to(template)[None])
                except ValueError as err:
                    raise GalleryError(
                        f"{path}: a stored crop is damaged ({err}); see `realtime gallery check`"
                    ) from err
    return np.concatenate(crops_NSS3)
