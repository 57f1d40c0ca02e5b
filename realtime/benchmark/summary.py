"""What can be said of a loop's answers when nobody knows the truth: how much was named, and how soon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from realtime.benchmark.answers import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    frames: int
    frames_with_faces: int
    frames_with_names: int
    faces: int
    """Boxes over all frames."""
    faces_named: int
    names: Mapping[str, int]
    """Name -> frames in which it stands, the most frequent first."""
    first_face_s: float | None
    first_name_s: float | None
    """Time of the clip at which the first name stood on a face; None: never."""

    @property
    def seconds_to_name(self) -> float | None:
        """From the first face to the first name."""
        if self.first_face_s is None or self.first_name_s is None:
            return None
        return self.first_name_s - self.first_face_s


def summarise(answers: Sequence[Answer]) -> Summary:
    """Count faces and names over the answers of one clip."""
    names: Counter[str] = Counter()
    for answer in answers:
        names.update({shown.name for shown in answer.faces if shown.name is not None})
    with_faces = [answer for answer in answers if answer.faces]
    with_names = [answer for answer in answers if any(shown.name is not None for shown in answer.faces)]
    return Summary(
        frames=len(answers),
        frames_with_faces=len(with_faces),
        frames_with_names=len(with_names),
        faces=sum(len(answer.faces) for answer in answers),
        faces_named=sum(shown.name is not None for answer in answers for shown in answer.faces),
        names=dict(names.most_common()),
        first_face_s=with_faces[0].time_s if with_faces else None,
        first_name_s=with_names[0].time_s if with_names else None,
    )
