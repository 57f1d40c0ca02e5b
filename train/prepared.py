"""A prepared set: aligned crops of labelled people in one mapped file, and what is known of each.

Enters: a folder that ``python -m train prepare`` wrote. Leaves: a ``PreparedSet`` whose crops are mapped, not loaded.
The folder holds ``crops.npy`` (N, S, S, 3) uint8 RGB with all training rows first, ``labels.npy`` (N,) int32 that count
from 0 in each split, ``images.jsonl`` (name and sha256 of each row's image, and a note on some), ``refused.jsonl``
(name and reason of each image that is not there) and ``manifest.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.packed import NPY_ERRORS
from train.errors import DataError

# N rows; S side of a crop, pixels; 3 channels RGB
Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A network, or an engine, as others call it: crops (N, S, S, 3) uint8 RGB -> embeddings (N, D) float32."""

SCHEMA: Final = 1
MANIFEST: Final = "manifest.json"
CROPS: Final = "crops.npy"
LABELS: Final = "labels.npy"
IMAGES: Final = "images.jsonl"
REFUSED: Final = "refused.jsonl"
SHEET: Final = "sheet.png"

MAX_MANIFEST_BYTES: Final = 64 << 20
"""Half a million subjects need 10 MB."""


@dataclass(frozen=True, kw_only=True)
class SetManifest:
    """What a prepared set says of itself."""

    name: str
    """For people: the source's name."""
    template: str
    """Alignment template of the crops, or ``kface_box``."""
    size: int
    """Side of a crop, pixels."""
    train_rows: int
    val_rows: int
    train_subjects: tuple[str, ...]
    """By label."""
    val_subjects: tuple[str, ...]
    expected: int | None
    """Images that the selection promises; None where nothing is promised."""
    refused: int
    """Images that should be there and are not, each in refused.jsonl. Those of people who were left out on purpose
    stand there too, and are counted in ``facts["images_left_out"]`` instead."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Kind of source, selection, split, versions: whatever made it what it is."""
    digest: str
    """sha256 over names, labels and sha256 of all images, and the way of cropping: which set this is."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for key in ("size", "train_rows", "val_rows", "refused", "schema"):
            if type(count := getattr(self, key)) is not int or count < 0:
                raise ValueError(f"{key} is {count!r}, a whole number is needed")
        for key in ("name", "template", "digest"):
            if not isinstance(text := getattr(self, key), str):
                raise ValueError(f"{key} is {text!r}, text is needed")
        if not isinstance(self.facts, dict):
            raise ValueError("facts is no table")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Rows of one split. No subject is in two splits."""

    name: str
    """``train`` or ``val``."""
    crops_NSS3: NDArray[np.uint8]
    """Read-only, mapped."""
    labels_N: NDArray[np.int64]
    """Places in ``subjects``."""
    subjects: tuple[str, ...]
    folder: Path
    first_row: int
    """In the folder's files."""

    def __len__(self) -> int:
        return len(self.labels_N)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of each row's image; read when asked for.

        Raises:
            DataError: images.jsonl is damaged.
        """
        path = self.folder / IMAGES
        try:
            with path.open(encoding="utf-8") as file:
                lines = [line for row, line in enumerate(file) if self.first_row <= row < self.first_row + len(self)]
            names = tuple(str(json.loads(line)["name"]) for line in lines)
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise DataError(f"{path}: cannot be read ({err}); prepare the set again") from err
        if len(names) != len(self):
            raise DataError(f"{path}: names fewer images than crops.npy holds; prepare the set again")
        return names


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedSet:
    folder: Path
    manifest: SetManifest
    train: Split
    val: Split | None
    """People kept back; None where there are none."""

    @cached_property
    def refused(self) -> dict[str, str]:
        """Name of an image that was selected and is not here -> why; read when asked for.

        Raises:
            DataError: refused.jsonl is damaged.
        """
        path = self.folder / REFUSED
        try:
            with path.open(encoding="utf-8") as file:
                return {str(one["name"]): str(one["reason"]) for one in map(json.loads, file)}
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise DataError(f"{path}: cannot be read ({err}); prepare the set again") from err


def is_prepared(folder: Path) -> bool:
    """Whether a path looks like a prepared set."""
    return (folder / MANIFEST).is_file() and (folder / CROPS).is_file()


def open_prepared(folder: Path) -> PreparedSet:
    """Map a prepared set.

    Raises:
        DataError: missing, half-written, damaged, or its files do not agree with each other.
    """
    manifest = _read_manifest(folder)
    crops, labels = _mapped(folder / CROPS), _mapped(folder / LABELS)
    rows, side = manifest.train_rows + manifest.val_rows, manifest.size
    if crops.dtype != np.uint8 or crops.shape != (rows, side, side, 3):
        raise DataError(
            f"{folder / CROPS}: holds {crops.dtype} of shape {crops.shape}, its manifest promises {rows} crops of "
            f"{side}x{side} pixels; prepare the set again"
        )
    if labels.shape != (rows,) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{folder / LABELS}: should hold {rows} labels; prepare the set again")
    if both := set(manifest.train_subjects) & set(manifest.val_subjects):
        raise DataError(
            f"{folder}: {sorted(both)[0]} is in train and in val; splits must share nobody, prepare it again"
        )
    labels_N = labels.astype(np.int64)
    train = _split(folder, "train", crops, labels_N, 0, manifest.train_rows, manifest.train_subjects)
    val = _split(folder, "val", crops, labels_N, manifest.train_rows, rows, manifest.val_subjects)
    return PreparedSet(folder=folder, manifest=manifest, train=train, val=val if len(val) else None)


def _split(
    folder: Path,
    name: str,
    crops: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    start: int,
    stop: int,
    subjects: tuple[str, ...],
) -> Split:
    own_N = labels_N[start:stop]
    if len(own_N) and not (own_N.min() >= 0 and own_N.max() < len(subjects)):
        wrong = int(start + np.flatnonzero((own_N < 0) | (own_N >= len(subjects)))[0])
        raise DataError(
            f"{folder / LABELS}: row {wrong} has label {labels_N[wrong]}, {name} has subjects 0 to "
            f"{len(subjects) - 1}; prepare the set again"
        )
    return Split(
        name=name, crops_NSS3=crops[start:stop], labels_N=own_N, subjects=subjects, folder=folder, first_row=start
    )


def _mapped(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as err:
        raise DataError(f"{path}: is not there; prepare the set with `python -m train prepare`") from err
    except NPY_ERRORS as err:
        raise DataError(f"{path}: is damaged or cut short ({err}); prepare the set again") from err
    return array


def _read_manifest(folder: Path) -> SetManifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; make one with `python -m train prepare`")
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise DataError(f"{path}: too large for a manifest; prepare the set again")
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("schema", 0) > SCHEMA:
            raise DataError(f"{path}: has schema {values['schema']}, this version reads up to {SCHEMA}; update it")
        known = {each.name for each in fields(SetManifest)}
        if unknown := sorted(set(values) - known):
            raise DataError(f"{path}: unknown field {unknown[0]!r}; prepare the set again")
        for key in ("train_subjects", "val_subjects"):
            values[key] = tuple(str(subject) for subject in values[key])
        return SetManifest(**values)
    except FileNotFoundError as err:
        raise DataError(
            f"{folder}: holds no {MANIFEST}, so it is no finished set; (re)start `python -m train prepare`"
        ) from err
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as err:
        raise DataError(f"{path}: cannot be read ({err}); prepare the set again") from err
