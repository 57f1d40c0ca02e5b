"""The files of a prepared set, written when all crops are made; the manifest comes last.

Enters: the growing array with its notes, and what was settled. Leaves: a folder that ``train.prepared`` opens. Killed
at any byte, the next start finds either the growing files whole, or the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from engines.export import write_atomically
from engines.verification.growing import whole_lines
from train.errors import DataError
from train.prepared import CROPS, IMAGES, LABELS, MANIFEST, REFUSED, SHEET, SetManifest
from train.preparing.place import KEY, Place, check_room
from train.preparing.plan import Plan
from train.preparing.settling import Fates, Settled, by_kind, planned_items
from train.preparing.sheet import contact_sheet
from train.source import Source

# R rows of the growing file; K rows that stay; S side of a crop, pixels; 3 channels RGB
COPIED: Final = 256
"""Crops copied at a time where some are taken out."""

Note = list[str | None]
"""Name, sha256 and reason of an image, one of the last two being None; and what is to be known of it, if anything."""


def has_crop(note: Note) -> bool:
    """Of a note; raises where it is none."""
    name, sha256, reason, *_ = note
    if not isinstance(name, str) or (sha256 is None) == (reason is None):
        raise ValueError("not a note")
    return sha256 is not None


def read_fates(place: Place, source: Source, plan: Plan) -> Fates:
    """What became of every image of the plan.

    Raises:
        DataError: the notes are not of this plan.
    """
    rows: list[int] = []
    sha256s = bytearray()
    reasons: dict[int, str] = {}
    notes: dict[int, str] = {}
    with place.notes.open("rb") as file:
        found = 0
        for item, (_, note) in zip(planned_items(plan), whole_lines(file), strict=False):
            name, sha256, reason, *known = note
            if name != source.items[item].name:
                break
            found += 1
            if sha256 is None:
                reasons[item] = str(reason)
            else:
                rows.append(item)
                sha256s += bytes.fromhex(sha256)
            if known:
                notes[item] = str(known[0])
    if found != plan.images:
        raise DataError(f"{place.notes}: is not of this set from line {found + 1} on; start over with --force")
    return Fates(
        items_R=np.array(rows, dtype=np.int64),
        sha256_R32=np.frombuffer(bytes(sha256s), dtype=np.uint8).reshape(len(rows), 32),
        reasons=reasons,
        notes=notes,
    )


def write_set(place: Place, source: Source, plan: Plan, fates: Fates, settled: Settled) -> SetManifest:
    """Write all but the refused images; see the module.

    Raises:
        OSError: no room, or no permission; start again when there is.
    """
    folder = place.folder
    digest = _write_images(folder / IMAGES, source, fates, settled)
    with (folder / LABELS).open("wb") as file:
        npy.write_array(file, settled.labels_K, version=(1, 0), allow_pickle=False)
        _settle_on_disk(file)
    _write_crops(place, settled, source.size)
    manifest = _manifest(source, plan, fates, settled, digest)
    crops_KSS3 = np.load(folder / CROPS, mmap_mode="r", allow_pickle=False)
    write_atomically(folder / SHEET, contact_sheet(crops_KSS3, settled.labels_K, manifest))
    write_atomically(folder / MANIFEST, manifest.to_json().encode("utf-8"))
    place.end()
    return manifest


def write_refused(folder: Path, settled: Settled) -> None:
    """Why each image is not there; also of a set that comes to nothing."""
    _write_lines(folder / REFUSED, ({"name": name, "reason": why} for name, why in settled.refused.items()))


def _write_images(path: Path, source: Source, fates: Fates, settled: Settled) -> str:
    """Lines of images.jsonl; gives the set's digest."""
    digest = hashlib.sha256(json.dumps(_way_of_cropping(source), sort_keys=True).encode())
    kept_K = fates.items_R[settled.rows_K].tolist()

    def lines() -> Iterator[dict[str, str]]:
        for place, item, row in zip(range(len(kept_K)), kept_K, settled.rows_K.tolist(), strict=True):
            line = {"name": source.items[item].name, "sha256": fates.sha256_R32[row].tobytes().hex()}
            in_train = place < settled.train_rows
            digest.update(json.dumps([line, in_train, int(settled.labels_K[place])]).encode())
            yield {**line, "note": note} if (note := fates.notes.get(item)) else line

    _write_lines(path, lines())
    return digest.hexdigest()


def _way_of_cropping(source: Source) -> dict[str, Any]:
    """What decides pixels besides the images; not where they lay."""
    return {"template": source.template, "size": source.size, "cropping": source.facts.get("cropping")}


def _write_lines(path: Path, values: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(json.dumps(value) + "\n" for value in values)
        _settle_on_disk(file)


def _settle_on_disk(file: IO[Any]) -> None:
    """Before the manifest says that it is there: a machine that loses its power keeps what was told to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _write_crops(place: Place, settled: Settled, size: int) -> None:
    """The growing file gets its name if all of it stays; else what stays is copied, and it goes when all is done."""
    whole = place.folder / CROPS
    growing = np.load(place.growing, mmap_mode="r", allow_pickle=False)
    if len(settled.rows_K) == len(growing):
        del growing
        place.growing.replace(whole)
        return
    check_room(place.folder, settled.rows_K.size * size * size * 3)
    with whole.open("wb") as file:
        shape = (len(settled.rows_K), size, size, 3)
        npy.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "|u1"})
        for start in range(0, len(settled.rows_K), COPIED):
            file.write(growing[settled.rows_K[start : start + COPIED]].data)
        _settle_on_disk(file)


def _manifest(source: Source, plan: Plan, fates: Fates, settled: Settled, digest: str) -> SetManifest:
    rows = len(settled.rows_K)
    absent = len(settled.refused) if source.expected is None else source.expected - rows
    return SetManifest(
        name=str(source.facts.get("name", "set")),
        template=source.template,
        size=source.size,
        train_rows=settled.train_rows,
        val_rows=rows - settled.train_rows,
        train_subjects=settled.train,
        val_subjects=settled.val,
        expected=source.expected,
        refused=absent - settled.left_out,
        facts={
            **source.facts,
            **asdict(plan.wishes),
            "duplicates": settled.duplicates,
            "shared_between_people": len(settled.shared),
            "people_left_out": settled.too_few,
            "images_left_out": settled.left_out,
            "notes": _noted(source, fates, settled),
            KEY: plan.key,
        },
        digest=digest,
    )


def _noted(source: Source, fates: Fates, settled: Settled) -> list[tuple[str, int, tuple[str, ...]]]:
    """Kinds of notes of the crops that stay, as ``by_kind``; each one stands in images.jsonl."""
    if not fates.notes:
        return []
    kept = fates.items_R[settled.rows_K].tolist()
    return by_kind({source.items[item].name: fates.notes[item] for item in kept if item in fates.notes})
