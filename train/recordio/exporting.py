"""A prepared split as the files that other trainers read.

Enters: rows of a prepared set. Leaves: ``train.rec/.idx/.lst`` or ``val.*``, labels and file names in sorted order as
the tutorial's folders give them: ``subject/subject_name.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from train.errors import DataError
from train.prepared import Split
from train.recordio.images import QUALITY, encode_crop
from train.recordio.layouts import Entry, Layout, Progress, write_im2rec, write_recbuilder

_JPEG: Final = (".jpg", ".jpeg")
_BREAKS: Final = re.compile(r"[\t\r\n]")
"""No .lst can hold them."""


def export_rec(
    split: Split,
    prefix: Path,
    *,
    layout: Layout = "recbuilder",
    quality: int = QUALITY,
    progress: Progress | None = None,
) -> int:
    """Write one split. Returns the number of images.

    Args:
        split: of a prepared set; crops are encoded as JPEG.
        prefix: path without suffix: ``OUT/train``, ``OUT/val``. Its folder's ``property`` is written with ``train``.
        layout: ``recbuilder`` (insightface) or ``im2rec`` (the tutorial).
        quality: of the JPEGs, 1 to 100.
        progress: told (images done, images in all).

    Raises:
        DataError: an empty split, labels or names that the files cannot hold, or the folder cannot be written to.
    """
    entries = _entries(split, quality, progress or (lambda done, total: None))
    if layout == "im2rec":
        return write_im2rec(prefix, entries)
    side = split.crops_NSS3.shape[1]
    if missing := set(range(len(split.subjects))) - set(split.labels_N.tolist()):
        subject = split.subjects[min(missing)]
        raise DataError(
            f"{split.folder}: {subject} has no image in {split.name}, RecBuilder's layout needs one of each"
        )
    return write_recbuilder(prefix, entries, side=side, with_property=split.name == "train")


def lst_name(name: str, subject: str) -> str:
    """The tutorial's name of an image's file: ``19062531/19062531_S001_L1_E01_C7.jpg``."""
    rest = _BREAKS.sub("_", name.removeprefix(f"{subject}/").replace("/", "_"))
    subject = _BREAKS.sub("_", subject)
    return f"{subject}/{subject}_{rest}" + ("" if rest.lower().endswith(_JPEG) else ".jpg")


def _entries(split: Split, quality: int, progress: Progress) -> Iterator[Entry]:
    labels = split.labels_N.tolist()
    named = [lst_name(name, split.subjects[label]) for name, label in zip(split.names, labels, strict=True)]
    for done, row in enumerate(sorted(range(len(split)), key=lambda row: (labels[row], named[row])), start=1):
        yield Entry(encode_crop(split.crops_NSS3[row], quality), labels[row], named[row])
        progress(done, len(split))
