"""The set without what was dropped, as a prepared set of its own.

Enters: a prepared set and its ``Cleaning``. Leaves: a new folder; the old one stays as it is. Labels are counted anew,
because subjects of whom nothing is left are gone; people kept back are copied. The folder appears when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import compress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from engines.export import write_atomically
from train.cleaning.drops import Cleaning
from train.errors import ConfigError, DataError
from train.prepared import CROPS, IMAGES, LABELS, MANIFEST, REFUSED, SHEET, PreparedSet, SetManifest, open_prepared
from train.preparing.place import KEY
from train.preparing.sheet import contact_sheet

# R rows of the old set, train before val; K rows that stay; S side of a crop
Progress = Callable[[int, int], object]
"""Told (crops copied, crops in all)."""

COPIED: Final = 256
"""Crops copied at a time."""


def apply(prepared: PreparedSet, cleaning: Cleaning, out: Path, *, progress: Progress | None = None) -> PreparedSet:
    """Write the cleaned set.

    Args:
        prepared: the set that was cleaned.
        cleaning: of it.
        out: a folder that is not there yet, or empty.
        progress: see ``Progress``.

    Raises:
        ConfigError: the folder is taken.
        DataError: fewer than two people would be left, or it cannot be written.
    """
    check_free(out)
    if cleaning.people - len(cleaning.emptied) < 2:
        raise DataError(f"{prepared.folder}: cleaning would leave fewer than two people to train on; widen --angle")
    part = out.with_name(f".{out.name}.{secrets.token_hex(8)}.part")
    try:
        part.mkdir(parents=True)
        _write(prepared, cleaning, part, progress or (lambda done, total: None))
        part.replace(out)
    except OSError as err:
        raise DataError(f"{out}: cannot be written ({err.strerror or err}); make room or choose another place") from err
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return open_prepared(out)


def check_free(out: Path) -> None:
    """
    Raises:
        ConfigError: there is something at ``out``.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is taken; name a folder that is empty or not there yet")


def _write(prepared: PreparedSet, cleaning: Cleaning, folder: Path, told: Progress) -> None:
    before = prepared.manifest
    kept_R = np.concatenate([cleaning.kept_N, np.ones(before.val_rows, dtype=bool)])
    labels_K, train = _relabelled(prepared, cleaning)
    np.save(folder / LABELS, labels_K, allow_pickle=False)
    _copy_crops(prepared, kept_R, folder / CROPS, told)
    with (prepared.folder / IMAGES).open("rb") as lines:
        (folder / IMAGES).write_bytes(b"".join(compress(lines, kept_R.tolist())))
    dropped = {drop.name: f"cleaned away ({drop.reason})" for drop in cleaning.drops}
    refused = [{"name": name, "reason": why} for name, why in (prepared.refused | dropped).items()]
    (folder / REFUSED).write_text("".join(json.dumps(line) + "\n" for line in refused), encoding="ascii")
    manifest = _manifest(before, cleaning, kept_R, train)
    crops_KSS3 = np.load(folder / CROPS, mmap_mode="r", allow_pickle=False)
    (folder / SHEET).write_bytes(contact_sheet(crops_KSS3, labels_K, manifest))
    write_atomically(folder / MANIFEST, manifest.to_json().encode("utf-8"))


def _relabelled(prepared: PreparedSet, cleaning: Cleaning) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Labels of the rows that stay, and the subjects of train by label."""
    split = prepared.train
    kept_labels = split.labels_N[cleaning.kept_N]
    left = np.unique(kept_labels)
    labels = [np.searchsorted(left, kept_labels), *([] if prepared.val is None else [prepared.val.labels_N])]
    return np.concatenate(labels).astype(np.int32), tuple(split.subjects[label] for label in left.tolist())


def _copy_crops(prepared: PreparedSet, kept_R: NDArray[np.bool_], path: Path, told: Progress) -> None:
    crops_RSS3 = np.load(prepared.folder / CROPS, mmap_mode="r", allow_pickle=False)
    rows = np.flatnonzero(kept_R)
    with path.open("wb") as file:
        shape = (len(rows), *crops_RSS3.shape[1:])
        npy.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "|u1"})
        for start in range(0, len(rows), COPIED):
            file.write(crops_RSS3[rows[start : start + COPIED]].data)
            told(min(start + COPIED, len(rows)), len(rows))


def _manifest(
    before: SetManifest, cleaning: Cleaning, kept_R: NDArray[np.bool_], train: tuple[str, ...]
) -> SetManifest:
    facts = {key: value for key, value in before.facts.items() if key != KEY}
    facts["cleaned"] = {
        "from": before.digest,
        "dropped": len(cleaning.drops),
        "emptied": list(cleaning.emptied),
        "centres": cleaning.centres,
        **asdict(cleaning.limit),
    }
    facts["images_left_out"] = before.facts.get("images_left_out", 0) + len(cleaning.drops)
    return replace(
        before,
        train_rows=int(cleaning.kept_N.sum()),
        train_subjects=train,
        facts=facts,
        digest=hashlib.sha256(before.digest.encode() + np.packbits(kept_R).tobytes()).hexdigest(),
    )
