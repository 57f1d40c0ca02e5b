"""What may be wrong with a gallery, and what to do about it.

Enters: an open gallery and the threshold it is searched at. Leaves: ``Problem``s, errors first; nothing is changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from engines.manifest import Manifest
from realtime.errors import GalleryError
from realtime.people.gallery import Gallery
from realtime.people.gallery_rows import SELECT, blob_of, reference_of
from realtime.people.matching import References, squared_distances

# M references, D embedding
BLOCK: Final = 1024
"""References compared at once with all others: 40 MB of distances with 10,000 of them."""

Kind = Literal["file", "permissions", "orphan", "model", "embedding", "crop", "collision", "duplicate", "few"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong (``error``), will give wrong names (``warning``), or could be better (``advice``)."""

    severity: Literal["error", "warning", "advice"]
    kind: Kind
    message: str
    """One sentence, with what to do."""


def check(gallery: Gallery, threshold: float | None = None) -> list[Problem]:
    """Look at everything.

    Args:
        gallery: opened without a manifest.
        threshold: squared L2 below which two people are confused; the model's own if None.

    Raises:
        GalleryError: so damaged that it cannot be read.
    """
    problems = [*_file(gallery), *_rows(gallery), *_duplicates(gallery), *_few(gallery)]
    if gallery.manifest is not None and not any(problem.severity == "error" for problem in problems):
        problems += _collisions(gallery.references(), gallery.manifest.threshold if threshold is None else threshold)
    order = ("error", "warning", "advice")
    return sorted(problems, key=lambda problem: order.index(problem.severity))


def _file(gallery: Gallery) -> Iterator[Problem]:
    for (answer,) in gallery.query("PRAGMA integrity_check(5)"):
        if answer != "ok":
            message = f"the file is damaged ({answer}); restore it from a backup"
            yield Problem(severity="error", kind="file", message=message)
    for _ in gallery.query("PRAGMA foreign_key_check"):
        message = "references of nobody are in the file; export it and import it into a new one"
        yield Problem(severity="error", kind="orphan", message=message)
        break
    if os.name == "posix" and stat.S_IMODE(gallery.path.stat().st_mode) & 0o077:
        message = f"other users of this machine can read the faces; run `chmod 600 {gallery.path}`"
        yield Problem(severity="warning", kind="permissions", message=message)


def _rows(gallery: Gallery) -> Iterator[Problem]:
    manifest = gallery.manifest
    if manifest is None:
        return
    rows = gallery.query(
        "SELECT refs.id, name, model_id, crop IS NULL FROM refs JOIN people ON people.id = person_id "
        "ORDER BY name_key, refs.id"
    )
    for row_id, name, model_id, _ in rows:
        if model_id != manifest.model_id:
            message = f"a reference of {name!r} was made by another model; run `realtime gallery reembed`"
            yield Problem(severity="error", kind="model", message=message)
        else:
            yield from _row(gallery, int(row_id), str(name), manifest)
    for name in dict.fromkeys(name for _, name, _, bare in rows if bare):
        message = f"{name!r} has references without a crop, which cannot move to another model; keep the photos"
        yield Problem(severity="advice", kind="crop", message=message)


def _row(gallery: Gallery, row_id: int, name: str, manifest: Manifest) -> Iterator[Problem]:
    """One at a time: the crops of a large gallery do not fit into memory."""
    again = f"remove {name!r} and enrol again"
    try:
        reference = reference_of(gallery.query(f"{SELECT} WHERE id = ?", row_id)[0], gallery.path)
        blob_of(reference.embedding_D, manifest)
    except (GalleryError, ValueError, IndexError) as err:
        yield Problem(severity="error", kind="embedding", message=f"a reference of {name!r}: {err}; {again}")
        return
    try:
        if reference.crop is not None:
            reference.crop.pixels()
    except ValueError as err:
        yield Problem(severity="error", kind="crop", message=f"a reference of {name!r}: {err}; {again}")


def _duplicates(gallery: Gallery) -> Iterator[Problem]:
    rows = gallery.query(
        "SELECT min(source), group_concat(name, ', ') FROM refs JOIN people ON people.id = person_id "
        "GROUP BY photo_sha256 HAVING count(DISTINCT person_id) > 1 ORDER BY 1"
    )
    for source, names in rows:
        message = f"the photo {source} is enrolled as {names}; remove it from all but one of them"
        yield Problem(severity="warning", kind="duplicate", message=message)


def _few(gallery: Gallery) -> Iterator[Problem]:
    for person in gallery.people():
        if person.references < 2:
            message = (
                f"{person.name!r} has {person.references} photo; with three or more, different ones, names come sooner"
            )
            yield Problem(severity="advice", kind="few", message=message)


def _collisions(references: References, threshold: float) -> Iterator[Problem]:
    """Pairs of people who have references nearer to each other than the threshold; the nearest first."""
    nearest: dict[tuple[int, int], float] = {}
    persons_M = references.persons_M
    for start in range(0, len(references), BLOCK):
        distances = squared_distances(references.embeddings_MD[start : start + BLOCK], references)
        rows, columns = np.nonzero(distances < threshold)
        for row, column in zip(rows, columns, strict=True):
            pair = int(persons_M[start + row]), int(persons_M[column])
            if pair[0] < pair[1]:
                nearest[pair] = min(nearest.get(pair, np.inf), float(distances[row, column]))
    for (one, other), distance in sorted(nearest.items(), key=lambda item: item[1]):
        message = (
            f"{references.names[one]!r} and {references.names[other]!r} are {distance:.3f} apart, nearer than the "
            f"threshold {threshold:.3f}; if they are one person, `realtime gallery rename --merge`"
        )
        yield Problem(severity="warning", kind="collision", message=message)
