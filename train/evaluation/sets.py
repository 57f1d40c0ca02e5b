"""Labelled faces to measure a model on, from whatever form they come in.

Enters: ``file.bin``, ``PHOTOS,pairs.txt``, ``PHOTOS,kface-list.txt``, a prepared set, or a folder of people's folders.
Leaves: a ``VerificationSet``: crops of the model's size, who they are of, and the comparisons that are asked for.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.faces import FaceSet, read_faces
from engines.verification.pairs import PairList
from train.errors import DataError
from train.evaluation.bins import bin_faces
from train.evaluation.everybody import MOST_MATED
from train.evaluation.lists import Listed, draw_pairs, read_list
from train.evaluation.progress import Progress
from train.kface.codes import parse_name
from train.prepared import CROPS, PreparedSet, Split, is_prepared, open_prepared

# N faces; S side of a crop, pixels; 3 channels RGB; D embedding; T comparisons
Ints = NDArray[np.int64]
BIN: Final = ".bin"
BIN_TEMPLATE: Final = "arcface_112"
"""What insightface's verification files are aligned to."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VerificationSet:
    """Faces and the comparisons between them. Rows are those of ``rows_N``, not all that ``faces`` holds."""

    name: str
    faces: FaceSet
    """Where the crops lie; they may be mapped, and more than are compared."""
    pairs: PairList | None
    """None: every face is compared with every other."""
    rows_N: Ints
    """Places in ``faces`` of what is compared."""
    people: tuple[str, ...] | None
    """Who each row is of; None where that is not known (a ``.bin`` says only which pairs are mated)."""
    keys: tuple[str, ...]
    """Names of the rows as the list calls them."""
    failed_keys: tuple[str, ...] = ()
    """Names of the images that gave no crop, as the list calls them."""
    dealt: bool = False
    """The list has no folds of its own, and its pairs were dealt to ten."""
    template: str = ""
    """Alignment template of the crops."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest of a prepared set says of it besides."""

    def __len__(self) -> int:
        return len(self.rows_N)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rows: ``person/file.jpg``, ``19062531/S001/L1/E01/C7.jpg``."""
        return tuple(self.faces.names[row] for row in self.rows_N)

    @cached_property
    def drawn(self) -> PairList:
        """A list for a set without one, by the numbers of its rows; drawn once, however often a run looks at the set.
        Empty where the set has one kind of comparison only, or does not say who is who."""
        return draw_pairs(self.people or (), where=self.name)

    def crops(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Crops of some rows, in memory; of a mapped file nothing else stays there."""
        rows, whole = self.rows_N[start:stop], self.faces.faces_NSS3
        in_a_row = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
        crops_NSS3 = np.array(whole[rows[0] : rows[-1] + 1] if in_a_row else whole[rows], order="C")
        _let_go(whole)
        return crops_NSS3


def open_verification(
    spec: str,
    *,
    template: str,
    size: int,
    options: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> VerificationSet:
    """Open a set for a model.

    Args:
        spec: ``FILE.bin`` of insightface; ``PHOTOS,LIST`` with a folder, a tar or a prepared set, and a list in the
            form of LFW's pairs.txt or of K-FACE's (``imgA imgB 1``); or alone a prepared set (its people kept back) or
            a folder of people's folders: then everybody is compared with everybody.
        template: alignment template that the model wants; photos are aligned to it.
        size: side of the model's input, pixels.
        options: of the aligner, as ``{"detect.kind": "cnn"}``.
        progress: told of photos read.

    Raises:
        DataError: no such set, nobody to compare, or crops that are not the model's.
        EngineError: photos that cannot be aligned, or a list that cannot be read.
    """
    path, listed = _parts(spec)
    if path.suffix == BIN:
        if listed is not None:
            raise DataError(f"{spec}: a .bin holds its own pairs; give it without a list")
        return _from_bin(path, template, size, progress)
    if path.is_dir() and is_prepared(path):
        prepared = open_prepared(path)
        check_crops(prepared, template, size)
        return from_split(prepared) if listed is None else _listed_in_prepared(prepared, read_list(listed))
    options = options or {}
    if listed is None:
        faces = read_faces(path, template=template, size=size, options=options, progress=progress)
        return _everybody(path, faces, template)
    wanted = read_list(listed)
    faces = read_faces(path, template=template, size=size, options=options, only=wanted.forms, progress=progress)
    return _with_list(path.name, faces, wanted, template)


def from_split(prepared: PreparedSet, split: str = "val") -> VerificationSet:
    """One split of a prepared set, everybody with everybody.

    Raises:
        DataError: the set has no such split, or only one person in it.
    """
    rows = prepared.val if split == "val" else prepared.train
    if rows is None:
        raise DataError(
            f"{prepared.folder}: keeps nobody back to evaluate on; prepare it with people in val, or name another set"
        )
    if len(np.unique(rows.labels_N)) < 2:
        raise DataError(f"{prepared.folder}: {split} shows one person; comparisons need two or more")
    subjects = set(rows.subjects)
    refused = {name: why for name, why in prepared.refused.items() if name.partition("/")[0] in subjects}
    manifest = prepared.manifest
    kept, thinned = _thinned(rows.labels_N)
    whose = "kept back" if split == "val" else "to train on"
    faces = FaceSet(
        faces_NSS3=rows.crops_NSS3,
        names=rows.names,
        people=_people(rows),
        source=f"{manifest.name}: {len(kept)} of {len(rows)} crops of people {whose}{thinned}",
        failures=refused,
    )
    return VerificationSet(
        name=f"{prepared.folder.resolve().name} {split}",
        faces=faces,
        pairs=None,
        rows_N=kept,
        people=tuple(faces.people[row] for row in kept),
        keys=tuple(faces.names[row] for row in kept),
        template=manifest.template,
        facts=manifest.facts,
    )


def _let_go(whole: NDArray[np.uint8]) -> None:
    """Pages of a mapped file count as memory of the process until they are needed elsewhere: LFW's are 520 MB."""
    mapped = getattr(whole, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def check_crops(prepared: PreparedSet, template: str, size: int) -> None:
    """Raises DataError unless the set's crops are what a model takes."""
    manifest = prepared.manifest
    if (manifest.template, manifest.size) != (template, size):
        raise DataError(
            f"{prepared.folder}: its crops are {manifest.template} of {manifest.size} pixels, the model takes "
            f"{template} of {size}; prepare the set for this model"
        )


def _thinned(labels_N: Ints) -> tuple[Ints, str]:
    """Rows whose comparisons of one person can be held, evenly over each person's photos, and words where some are
    left out: MixFace's T4 has 3,860 photos a person, and 7 million comparisons of each."""
    photos_P = np.bincount(labels_N)
    if (photos_P * (photos_P - 1) // 2).sum() <= MOST_MATED:
        return np.arange(len(labels_N)), ""
    most = max(2, math.isqrt(2 * MOST_MATED // len(photos_P)))
    kept = [
        own[np.linspace(0, len(own) - 1, min(most, len(own))).astype(np.int64)]
        for own in (np.flatnonzero(labels_N == label) for label in range(len(photos_P)))
    ]
    return np.sort(np.concatenate(kept)), f", evenly at most {most} of each"


def names_list(spec: str) -> bool:
    """Whether a spec needs no list besides: it names one, or is a ``.bin``."""
    return Path(spec).suffix == BIN or (not Path(spec).exists() and "," in spec)


def _parts(spec: str) -> tuple[Path, Path | None]:
    """A comma parts the photos from the list, unless a file of the whole name is there."""
    forms = "give FILE.bin, PHOTOS,LIST, a prepared set or a folder of people's folders"
    if Path(spec).exists():
        return Path(spec), None
    photos, comma, listed = spec.rpartition(",")
    if not comma:
        raise DataError(f"{spec}: no such file or folder; {forms}")
    for part, what in ((photos, "folder or tar of photos"), (listed, "list of pairs")):
        if not Path(part).exists():
            raise DataError(f"{spec}: there is no {what} {part!r}; {forms}")
    return Path(photos), Path(listed)


def _from_bin(path: Path, template: str, size: int, progress: Progress | None) -> VerificationSet:
    if template != BIN_TEMPLATE:
        raise DataError(
            f"{path}: holds faces aligned to {BIN_TEMPLATE}, the model takes {template}; give photos and their list"
        )
    faces, pairs = bin_faces(path, size, progress)
    return VerificationSet(
        name=path.stem,
        faces=faces,
        pairs=pairs,
        rows_N=np.arange(len(faces)),
        people=None,
        keys=faces.names,
        failed_keys=tuple(faces.failures),
        template=template,
    )


def _listed_in_prepared(prepared: PreparedSet, listed: Listed) -> VerificationSet:
    """The images of a list may lie in either split, so both are taken as one."""
    splits = [split for split in (prepared.train, prepared.val) if split is not None]
    faces = FaceSet(
        faces_NSS3=np.load(prepared.folder / CROPS, mmap_mode="r", allow_pickle=False),
        names=tuple(name for split in splits for name in split.names),
        people=tuple(person for split in splits for person in _people(split)),
        source=f"{prepared.manifest.name}: crops of a prepared set",
        failures=prepared.refused,
    )
    found = _with_list(prepared.folder.resolve().name, faces, listed, prepared.manifest.template)
    return replace(found, facts=prepared.manifest.facts)


def _everybody(path: Path, faces: FaceSet, template: str) -> VerificationSet:
    known = [parse_name(name) for name in faces.names]
    if all(known):  # K-FACE's own folders: an image lies in that of its expression
        faces = replace(faces, people=tuple(found[0] for found in known if found is not None))
    if not faces.labelled:
        raise DataError(f"{path}: does not say who is who; give a folder a person, or a list of pairs after a comma")
    return VerificationSet(
        name=path.name,
        faces=faces,
        pairs=None,
        rows_N=np.arange(len(faces)),
        people=faces.people,
        keys=faces.names,
        template=template,
    )


def _with_list(name: str, faces: FaceSet, listed: Listed, template: str) -> VerificationSet:
    """Only the faces that the list compares are rows."""
    wanted = listed.pairs.stems
    keys = [listed.key(face) for face in faces.names]
    rows = [row for row, key in enumerate(keys) if key in wanted]
    if not rows:
        raise DataError(
            f"{listed.pairs.where}: none of its images is in {name} (its first is {listed.example}); folders and files "
            "must be called as in the list"
        )
    owners = listed.pairs.owners
    return VerificationSet(
        name=f"{name}, {Path(listed.pairs.where).name}",
        faces=faces,
        pairs=listed.pairs,
        rows_N=np.array(rows, dtype=np.int64),
        people=tuple(owners[keys[row]] for row in rows) if listed.known else None,
        keys=tuple(keys[row] for row in rows),
        failed_keys=tuple(key for key in map(listed.key, faces.failures) if key in wanted),
        dealt=listed.dealt,
        template=template,
    )


def _people(split: Split) -> tuple[str, ...]:
    return tuple(split.subjects[label] for label in split.labels_N.tolist())
