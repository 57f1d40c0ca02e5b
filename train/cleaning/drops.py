"""What a cleaning decides: which images go, why, and who they seem to be.

Enters: a split, its angles, and an angle to drop from. Leaves: a ``Cleaning``, with the images to drop, the worst
first, and what is left of each subject.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from train.cleaning.angles import Angles, nearest_class, strangers
from train.cleaning.limits import Limit, limit_at, own_limit
from train.prepared import Split

# N images of the split; C subjects, K centres of each; D embedding
Float32 = NDArray[np.float32]

FEW: Final = 5
"""Images below which a class cannot say which of them are wrong: two against two is a tie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """One image that does not seem to be of its subject."""

    row: int
    """In the split."""
    name: str
    subject: str
    angle_deg: float
    """To its subject's dominant centre."""
    reason: str
    looks_like: str | None
    """The subject whose dominant centre is nearest, where that is nearer than the angle to drop from."""
    looks_like_deg: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cleaning:
    """What to drop of a split."""

    limit: Limit
    """The angle that was taken, and what the set says of it."""
    own: Limit
    """The angle that the set itself suggests."""
    centres: str
    """Whose centres these are, in words."""
    images: int
    people: int
    drops: tuple[Drop, ...]
    """Widest angle first."""
    emptied: tuple[str, ...]
    """Subjects of whom nothing is left; they go with their images."""
    doubtful: tuple[str, ...]
    """Subjects who lose half of their images or more: two people under one name, or more wrong labels than right."""
    few: int
    """Subjects with fewer than ``FEW`` images, whose angles say little."""
    own_N: Float32
    """Angle of every image of the split, degrees."""

    @property
    def kept_N(self) -> NDArray[np.bool_]:
        """Of the split's rows."""
        kept_N = np.ones(self.images, dtype=bool)
        kept_N[[drop.row for drop in self.drops]] = False
        return kept_N

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "people": self.people,
            "dropped": len(self.drops),
            "centres": self.centres,
            "limit": asdict(self.limit),
            "own_limit": asdict(self.own),
            "emptied": list(self.emptied),
            "doubtful": list(self.doubtful),
            "people_with_few_images": self.few,
        }


def decide(
    split: Split,
    embeddings_ND: Float32,
    angles: Angles,
    *,
    angle_deg: float | None,
    precision: float,
    centres: str,
    seed: int = 1,
) -> Cleaning:
    """
    Args:
        split: whose images.
        embeddings_ND: of them, as ``angles`` was measured on.
        angles: see there.
        angle_deg: to drop from; None takes the set's own, see ``limits.own_limit``.
        precision: wanted of the set's own angle.
        centres: whose they are, in words.
        seed: of the comparisons of strangers.
    """
    strange_M = strangers(embeddings_ND, split.labels_N, angles.dominant_CD, seed=seed)
    own = own_limit(angles.own_N, strange_M, precision=precision)
    limit = own if angle_deg is None else limit_at(angle_deg, angles.own_N, strange_M)
    drops = _drops(split, embeddings_ND, angles, limit.angle_deg)
    counts_C = np.bincount(split.labels_N, minlength=len(split.subjects))
    lost_C = np.bincount(split.labels_N[[drop.row for drop in drops]], minlength=len(split.subjects))
    here_C = counts_C > 0
    return Cleaning(
        limit=limit,
        own=own,
        centres=centres,
        images=len(split),
        people=int(here_C.sum()),
        drops=drops,
        emptied=_named(split, here_C & (lost_C == counts_C)),
        doubtful=_named(split, here_C & (2 * lost_C >= counts_C) & (lost_C < counts_C)),
        few=int((here_C & (counts_C < FEW)).sum()),
        own_N=angles.own_N,
    )


def drop_list(cleaning: Cleaning) -> bytes:
    """JSON lines, one for each image to drop."""
    return "".join(json.dumps(drop.to_json()) + "\n" for drop in cleaning.drops).encode("ascii")


def _drops(split: Split, embeddings_ND: Float32, angles: Angles, limit_deg: float) -> tuple[Drop, ...]:
    rows = np.flatnonzero(angles.own_N >= limit_deg)
    rows = rows[np.argsort(-angles.own_N[rows], kind="stable")]
    likes, likes_deg = nearest_class(embeddings_ND[rows], angles.dominant_CD)
    names = split.names if len(rows) else ()
    found = []
    for row, like, like_deg in zip(rows.tolist(), likes.tolist(), likes_deg.tolist(), strict=True):
        label, angle = int(split.labels_N[row]), float(angles.own_N[row])
        other = split.subjects[like] if like != label and like_deg < limit_deg else None
        drop = Drop(
            row=row,
            name=names[row],
            subject=split.subjects[label],
            angle_deg=round(angle, 2),
            reason=f"{angle:.0f} degrees from what most images of its subject look like, the limit is {limit_deg:g}",
            looks_like=other,
            looks_like_deg=None if other is None else round(like_deg, 2),
        )
        found.append(drop)
    return tuple(found)


def _named(split: Split, chosen_C: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(split.subjects[label] for label in np.flatnonzero(chosen_C).tolist())
