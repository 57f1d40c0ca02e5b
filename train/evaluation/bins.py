"""insightface's verification ``.bin`` as faces and a list.

Enters: the path of one. Leaves: its crops, each photo once however many pairs it is in, in a file of the cache
directory as those of other sets, and its list of comparisons.
"""

from __future__ import annotations

from pathlib import Path

from engines.store import cache_dir
from engines.verification.faces import FaceSet
from engines.verification.packed import pack
from engines.verification.pairs import PairList
from train.errors import DataError
from train.evaluation.progress import Progress
from train.recordio.verification_bin import BinPhotos, read_bin


def bin_faces(path: Path, size: int, progress: Progress | None = None) -> tuple[FaceSet, PairList]:
    """
    Args:
        path: of the file.
        size: side of its images, pixels.
        progress: told of photos decoded.

    Raises:
        DataError: the file cannot be read, or none of its images is a crop of that size.
    """
    photos = BinPhotos(read_bin(path), size)
    packed = pack(photos, range(len(photos.names)), size, cache_dir() / "crops", progress or (lambda done, total: None))
    if not packed.names:
        raise DataError(f"{path}: no image can be used ({next(iter(packed.failures.values()))})")
    faces = FaceSet(
        faces_NSS3=packed.faces_NSS3,
        names=packed.names,
        people=packed.people,
        source=f"{path.name}: {len(packed.names)} of {len(photos.names)} photos as they are",
        failures=packed.failures,
    )
    return faces, photos.pairs()
