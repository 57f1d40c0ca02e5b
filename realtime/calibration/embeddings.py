"""Every photo of a set as an embedding, computed once.

Enters: a labelled set and what finds and embeds faces. Leaves: ``Embedded``: one face a photo, and each photo that gave
none, with the reason. Kept as .npz (arrays only, nothing in it is executed), so that a second call is quick and one
that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from realtime.calibration.images import ImageSet, Item
from realtime.errors import PhotoError
from realtime.records import RGB_HW3

# N photos with a face; D embedding

CHUNK: Final = 16
"""Photos that are embedded together; what a stop with Ctrl-C loses at most."""

NO_FACE: Final = "no face found"


class Quality(Protocol):
    @property
    def weight(self) -> float: ...


class View(Protocol):
    @property
    def box(self) -> tuple[float, float, float, float]: ...
    @property
    def crop_SS3(self) -> RGB_HW3: ...
    @property
    def quality(self) -> Quality: ...


AnyView = TypeVar("AnyView", bound=View)


class Analyser(Protocol):
    """What ``realtime.faces.analysis.FaceAnalyser`` is used for here."""

    def views(self, rgb_HW3: RGB_HW3) -> Sequence[Any]:
        """``View``s of every face, largest first."""

    def embed(self, crops_NSS3: list[RGB_HW3]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What is known of a set: ``names`` and ``people`` of the photos with a face, row by row of ``embeddings_ND``."""

    names: tuple[str, ...]
    people: tuple[str, ...]
    embeddings_ND: NDArray[np.float32]
    weights_N: NDArray[np.float32]
    """Quality of each face, 0..1."""
    failures: dict[str, str] = field(default_factory=dict)
    """Name of a photo -> why it gave no embedding (FTA)."""

    @property
    def persons_N(self) -> NDArray[np.int64]:
        """(N,) index of each photo's person among the sorted people."""
        _, persons_N = np.unique(np.array(self.people, dtype=object), return_inverse=True)
        return persons_N.astype(np.int64)

    def __len__(self) -> int:
        return len(self.names)


def choose_view(views: Sequence[AnyView], width: int, height: int) -> AnyView | None:
    """Whom a photo is of: the largest face over the picture's centre, else the largest; None without faces."""
    for view in views:
        x1, y1, x2, y2 = view.box
        if x1 <= width / 2 < x2 and y1 <= height / 2 < y2:
            return view
    return views[0] if views else None


def embed_set(images: ImageSet, analyser: Analyser, *, done: Embedded | None = None) -> Iterator[Embedded]:
    """Embed every photo of the set that ``done`` does not have.

    Yields:
        Parts of at most ``CHUNK`` photos, in the set's order, so that a caller that is stopped has all finished ones.
    """
    known = set() if done is None else {*done.names, *done.failures}
    items = [item for item in images.items if item.name not in known]
    for start in range(0, len(items), CHUNK):
        yield _embed_chunk(images, analyser, items[start : start + CHUNK])


def _embed_chunk(images: ImageSet, analyser: Analyser, chunk: list[Item]) -> Embedded:
    failures: dict[str, str] = {}
    found: list[tuple[Item, View]] = []
    for item in chunk:
        try:
            rgb_HW3 = images.read(item)
        except PhotoError as err:
            failures[item.name] = str(err)
            continue
        view = choose_view(analyser.views(rgb_HW3), rgb_HW3.shape[1], rgb_HW3.shape[0])
        if view is None:
            failures[item.name] = NO_FACE
        else:
            found.append((item, view))
    return Embedded(
        names=tuple(item.name for item, _ in found),
        people=tuple(item.person for item, _ in found),
        embeddings_ND=analyser.embed([view.crop_SS3 for _, view in found]),
        weights_N=np.array([view.quality.weight for _, view in found], dtype=np.float32),
        failures=failures,
    )


def join(parts: Iterable[Embedded]) -> Embedded | None:
    """One result of several; None of none."""
    parts = list(parts)
    if not parts:
        return None
    return Embedded(
        names=tuple(name for part in parts for name in part.names),
        people=tuple(person for part in parts for person in part.people),
        embeddings_ND=np.concatenate([part.embeddings_ND for part in parts]),
        weights_N=np.concatenate([part.weights_N for part in parts]),
        failures={name: reason for part in parts for name, reason in part.failures.items()},
    )


def cache_key(set_digest: str, model_id: str, *how: object) -> str:
    """Name of a cache file: changes with the set, the model and how faces are found. 24 hex digits."""
    return hashlib.sha256(repr((set_digest, model_id, *how)).encode()).hexdigest()[:24]


def save(embedded: Embedded, path: Path) -> None:
    """Write under a temporary name first, so that a stop leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            names=np.array(embedded.names, dtype=np.str_),
            people=np.array(embedded.people, dtype=np.str_),
            embeddings=embedded.embeddings_ND,
            weights=embedded.weights_N,
            failed_names=np.array(list(embedded.failures), dtype=np.str_),
            failed_reasons=np.array(list(embedded.failures.values()), dtype=np.str_),
        )
    partial.replace(path)


def load(path: Path) -> Embedded | None:
    """What ``save`` wrote; None where there is nothing, or a file that is cut short or of another form."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            embedded = Embedded(
                names=tuple(arrays["names"].tolist()),
                people=tuple(arrays["people"].tolist()),
                embeddings_ND=arrays["embeddings"],
                weights_N=arrays["weights"],
                failures=dict(zip(arrays["failed_names"].tolist(), arrays["failed_reasons"].tolist(), strict=True)),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    count = len(embedded.names)
    fits = (
        len(embedded.people) == count
        and embedded.weights_N.shape == (count,)
        and embedded.embeddings_ND.ndim == 2
        and embedded.embeddings_ND.shape[0] == count
        and embedded.embeddings_ND.dtype == np.float32
    )
    return embedded if fits else None
