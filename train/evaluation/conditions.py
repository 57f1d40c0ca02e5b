"""What yaw, light, accessory, expression and resolution cost: heat maps over the conditions of K-FACE.

Enters: sets whose images are called as in K-FACE, and their embeddings. Leaves: a ``ConditionMap`` for each two factors
that vary. Each person's photo of the reference condition (S001, L1, E01, C7) is compared with the same person's photos
of every other condition; factors that a map does not show are held at the reference. One threshold serves all cells,
so what changes from cell to cell is the condition alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.errors import DataError
from train.evaluation.sets import VerificationSet
from train.kface.codes import ACCESSORIES, CAMERAS, EXPRESSIONS, LIGHTS, REFERENCE, RESOLUTIONS, parse_name

# N rows; D embedding; T comparisons; R rows and C columns of a map
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FAR: Final = 1e-3


class Place(NamedTuple):
    """A condition, and the resolution that it was taken from."""

    resolution: str
    accessory: int
    light: int
    expression: int
    camera: int


@dataclass(frozen=True, slots=True)
class Factor:
    """One axis."""

    name: str
    field: str
    """Of ``Place``."""
    label: Callable[[Any], str]
    order: Callable[[Any], Any]


def _camera(number: int) -> str:
    pose = CAMERAS[number]
    return f"C{number} {_degrees(pose.yaw_deg)}" + (f" pitch {_degrees(pose.pitch_deg)}" if pose.pitch_deg else "")


def _degrees(angle: int) -> str:
    return f"{angle:+d}°" if angle else "0°"


def _light(number: int) -> str:
    light = LIGHTS[number]
    return f"L{number} {light.lux} lx" + ("" if light.direction == "round" else f" {light.direction}°")


FACTORS: Final = (
    Factor("yaw", "camera", _camera, lambda number: (abs(CAMERAS[number].pitch_deg), *CAMERAS[number][::-1])),
    Factor("light", "light", _light, lambda number: number),
    Factor("accessory", "accessory", lambda number: f"S{number:03d} {ACCESSORIES[number]}", lambda number: number),
    Factor("expression", "expression", lambda number: f"E{number:02d} {EXPRESSIONS[number]}", lambda number: number),
    Factor("resolution", "resolution", lambda name: name or "as it is", lambda name: (*RESOLUTIONS, "").index(name)),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionMap:
    """Two factors against each other. A cell without a comparison is not a number."""

    rows: Factor
    columns: Factor
    row_values: tuple[Any, ...]
    column_values: tuple[Any, ...]
    tar_RC: Float64
    """At the threshold of ``Conditions``."""
    cosine_RC: Float64
    """Mean of the mated comparisons."""
    count_RC: NDArray[np.int64]
    """Comparisons, one a person."""
    reference: tuple[int, int]
    """The cell of the reference condition itself."""

    @property
    def title(self) -> str:
        return f"{self.rows.name} by {self.columns.name}"

    @property
    def row_labels(self) -> tuple[str, ...]:
        return tuple(map(self.rows.label, self.row_values))

    @property
    def column_labels(self) -> tuple[str, ...]:
        return tuple(map(self.columns.label, self.column_values))

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows.name,
            "columns": self.columns.name,
            "row_labels": list(self.row_labels),
            "column_labels": list(self.column_labels),
            "tar": _numbers(self.tar_RC),
            "mean_cosine": _numbers(self.cosine_RC),
            "comparisons": self.count_RC.tolist(),
        }


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Maps with one threshold."""

    people: int
    """With a photo of the reference condition."""
    without_reference: int
    far: float
    threshold: float
    """Squared L2 of unit embeddings."""
    allowed: int
    """Non-mated comparisons that match below the threshold."""
    non_mated: int
    """Comparisons that set it."""
    basis: str
    """Which those are, in words."""
    maps: tuple[ConditionMap, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "people": self.people,
            "people_without_reference": self.without_reference,
            "far": self.far,
            "threshold": self.threshold,
            "false_matches_allowed": self.allowed,
            "non_mated": self.non_mated,
            "basis": self.basis,
            "maps": [one.to_json() for one in self.maps],
        }


def conditions_of(embeddings: Sequence[Float32], sets: Sequence[VerificationSet], *, far: float = FAR) -> Conditions:
    """Compare with the reference condition.

    Args:
        embeddings: of each set, row by row.
        sets: of K-FACE; several resolutions of the same people are several sets.
        far: of the threshold.

    Raises:
        DataError: names that are not K-FACE's, or nobody was taken in the reference condition.
    """
    photos = _photos(embeddings, sets)
    first = next(name for name in (*RESOLUTIONS, "") if any(place.resolution == name for _, place in photos))
    reference = Place(first, *REFERENCE)
    references = {person: row for (person, place), row in photos.items() if place == reference}
    if len(references) < 2:
        raise DataError(
            f"{sets[0].name}: {len(references)} people have a photo of the reference condition {REFERENCE.stem}, two "
            "are needed; prepare S001, L1, E01 and C7 too"
        )
    if len({place for _, place in photos}) < 2:
        raise DataError(f"{sets[0].name}: was taken in one condition; prepare others to compare it with")
    allowed, non_mated, threshold, basis = _threshold(photos, references, far)
    maps = tuple(
        _map(rows, columns, photos, references, reference, threshold)
        for rows, columns in _shown({place for _, place in photos})
    )
    return Conditions(
        people=len(references),
        without_reference=len({person for person, _ in photos}) - len(references),
        far=far,
        threshold=threshold,
        allowed=allowed,
        non_mated=non_mated,
        basis=basis,
        maps=maps,
    )


def is_kface(wanted: VerificationSet) -> bool:
    """Whether its images are called as K-FACE's."""
    return len(wanted) > 0 and all(parse_name(name) is not None for name in wanted.names)


Photos = dict[tuple[str, Place], Float32]
"""(Person, place) -> embedding of length 1."""


def _photos(embeddings: Sequence[Float32], sets: Sequence[VerificationSet]) -> Photos:
    photos: Photos = {}
    for embeddings_ND, one in zip(embeddings, sets, strict=True):
        resolution = str(one.facts.get("resolution", "")).lower()
        resolution = resolution if resolution in RESOLUTIONS else ""
        for name, row_D in zip(one.names, embeddings_ND, strict=True):
            if (parsed := parse_name(name)) is None:
                raise DataError(
                    f"{one.name}: {name!r} is not called as in K-FACE (19062531/S001/L1/E01/C7.jpg), so how it was "
                    "taken is not known"
                )
            person, condition = parsed
            photos[person, Place(resolution, *condition)] = row_D / max(float(np.linalg.norm(row_D)), 1e-12)
    return photos


def _threshold(photos: Photos, references: dict[str, Float32], far: float) -> tuple[int, int, float, str]:
    """From the reference condition alone; where that is too small, from reference photos against everything."""
    rows = list(references.items())
    distances_T = _different(rows, rows)
    basis = "photos of the reference condition of different people"
    if far * len(distances_T) < 1:
        distances_T = _different(rows, [(person, row) for (person, _), row in photos.items()])
        basis = "photos of the reference condition and all photos of other people, as the former alone are too few"
    allowed = math.floor(far * len(distances_T))
    return allowed, len(distances_T), float(np.sort(distances_T)[allowed]), basis


def _different(first: Sequence[tuple[str, Float32]], second: Sequence[tuple[str, Float32]]) -> Float32:
    """Squared distances of photos of different people; both ways round where the two are the same."""
    distances_NM = 2 - 2 * (np.stack([row for _, row in first]) @ np.stack([row for _, row in second]).T)
    people_N, people_M = (np.array([person for person, _ in each]) for each in (first, second))
    wanted_NM = people_N[:, None] != people_M
    if first is second:
        wanted_NM = np.triu(wanted_NM)
    distances_T: Float32 = distances_NM[wanted_NM]
    return distances_T


def _shown(places: set[Place]) -> list[tuple[Factor, Factor]]:
    """Each two factors that vary; a factor that varies alone against one that does not."""
    varying = [factor for factor in FACTORS if len({getattr(place, factor.field) for place in places}) > 1]
    if len(varying) == 1:
        return [(next(factor for factor in FACTORS if factor not in varying), varying[0])]
    pairs = combinations(varying, 2)
    return [(second, first) if second.field == "light" else (first, second) for first, second in pairs]


def _map(
    rows: Factor,
    columns: Factor,
    photos: Photos,
    references: dict[str, Float32],
    reference: Place,
    threshold: float,
) -> ConditionMap:
    def values(factor: Factor) -> tuple[Any, ...]:
        return tuple(sorted({getattr(place, factor.field) for _, place in photos}, key=factor.order))

    row_values, column_values = values(rows), values(columns)
    shape = (len(row_values), len(column_values))
    tar_RC, cosine_RC = np.full(shape, np.nan), np.full(shape, np.nan)
    count_RC = np.zeros(shape, dtype=np.int64)
    for r, row in enumerate(row_values):
        for c, column in enumerate(column_values):
            place = reference._replace(**{rows.field: row, columns.field: column})
            if place == reference:
                continue
            cosines = [
                float(references[person] @ photos[person, place]) for person in references if (person, place) in photos
            ]
            if cosines:
                count_RC[r, c] = len(cosines)
                cosine_RC[r, c] = np.mean(cosines)
                tar_RC[r, c] = np.mean([2 - 2 * cosine < threshold for cosine in cosines])
    return ConditionMap(
        rows=rows,
        columns=columns,
        row_values=row_values,
        column_values=column_values,
        tar_RC=tar_RC,
        cosine_RC=cosine_RC,
        count_RC=count_RC,
        reference=(
            row_values.index(getattr(reference, rows.field)),
            column_values.index(getattr(reference, columns.field)),
        ),
    )


def _numbers(values_RC: Float64) -> list[list[float | None]]:
    """JSON has no value that is not a number."""
    return [[None if math.isnan(value) else value for value in row] for row in values_RC.tolist()]
