"""Who is in a photo, and whether two faces are one person.

Enters: embeddings of the faces of one picture, and references. Leaves: an answer a face. Video has more to go by, see
identity: there a name needs several views that agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest
from realtime.faces.analysis import View
from realtime.people.matching import References, match

# N faces, D embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One face of a photo."""

    box: tuple[float, float, float, float]
    state: Literal["named", "unknown"]
    name: str | None
    distance: float | None
    """Squared L2 to the nearest person, named or not; None where nobody is enrolled."""
    second_distance: float | None
    """Squared L2 to the nearest other person; None where there is none."""
    detector_score: float

    def to_json(self) -> dict[str, Any]:
        return {
            "box": [round(value, 1) for value in self.box],
            "state": self.state,
            "name": self.name,
            "distance": _rounded(self.distance),
            "second_distance": _rounded(self.second_distance),
            "detector_score": round(self.detector_score, 3),
        }


def identify(
    views: Sequence[View],
    embeddings_ND: NDArray[np.float32],
    references: References,
    *,
    threshold: float,
    margin: float,
) -> list[Answer]:
    """Name the faces of one photo, in their order.

    A name needs a distance below the threshold, and the margin to the second person. Nobody is in a photo twice: of two
    faces that would get one name, only the nearer one does.
    """
    found = match(embeddings_ND, references)
    answers = []
    for number, view in enumerate(views):
        person = int(found.persons_N[number])
        distance, second = float(found.distances_N[number]), float(found.second_distances_N[number])
        named = person >= 0 and distance < threshold and second - distance > margin
        answers.append(
            Answer(
                box=view.box,
                state="named" if named else "unknown",
                name=references.names[person] if named else None,
                distance=distance if np.isfinite(distance) else None,
                second_distance=second if np.isfinite(second) else None,
                detector_score=view.detector_score,
            )
        )
    return _once_each(answers)


def _once_each(answers: list[Answer]) -> list[Answer]:
    nearest: dict[str, Answer] = {}
    for answer in answers:
        if answer.name is not None:
            rival = nearest.get(answer.name)
            if rival is None or (answer.distance or 0.0) < (rival.distance or 0.0):
                nearest[answer.name] = answer
    return [
        answer if answer.name is None or nearest[answer.name] is answer else replace(answer, state="unknown", name=None)
        for answer in answers
    ]


def _rounded(distance: float | None) -> float | None:
    return None if distance is None else round(distance, 4)


def describe(answers: Sequence[Answer]) -> str:
    """The faces of one photo in words: ``Ana (0.041), unknown (0.312)``."""
    if not answers:
        return "no face"
    return ", ".join(
        f"{answer.name or 'unknown'}{'' if answer.distance is None else f' ({answer.distance:.3f})'}"
        for answer in answers
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether two faces are one person."""

    same: bool
    distance: float
    threshold: float
    false_match_rate: float | None
    """Of the threshold, a comparison of two strangers; None where it was set by hand or not measured."""

    def sentence(self) -> str:
        side = "below" if self.same else "not below"
        rate = ""
        if self.false_match_rate is not None:
            rate = f" ({self.false_match_rate * 1e6:.3g} in a million pairs of strangers are)"
        return (
            f"{'the same person' if self.same else 'not the same person'}: distance {self.distance:.3f} is {side} the "
            f"threshold {self.threshold:.3f}{rate}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "same": self.same,
            "distance": round(self.distance, 4),
            "threshold": self.threshold,
            "false_match_rate": self.false_match_rate,
        }


def verify(
    a_D: NDArray[np.float32], b_D: NDArray[np.float32], manifest: Manifest, threshold: float | None = None
) -> Verdict:
    """Compare two embeddings at the model's threshold, or at another one whose false match rate nobody knows."""
    distance = max(0.0, float(((a_D.astype(np.float64) - b_D) ** 2).sum()))
    limit = manifest.threshold if threshold is None else threshold
    rate = manifest.threshold_fmr if limit == manifest.threshold else None
    return Verdict(same=distance < limit, distance=distance, threshold=limit, false_match_rate=rate)
