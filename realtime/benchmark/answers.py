"""What a loop says of a clip, whichever loop it is, in a form that crosses a process as JSON.

Enters: results of this pipeline or of a peer's loop. Leaves: frozen ``Answer`` records, one a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from realtime.records import Result

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One box that a person would see: ``box`` xyxy pixels of the frame, ``name`` None where no name stands on it."""

    box: Box
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Everything that stands on one frame."""

    frame: int
    time_s: float
    width: int
    height: int
    faces: tuple[Shown, ...]

    def to_json(self) -> list[Any]:
        return [
            self.frame,
            self.time_s,
            self.width,
            self.height,
            [[[round(edge, 2) for edge in face.box], face.name] for face in self.faces],
        ]

    @classmethod
    def from_json(cls, values: list[Any]) -> Answer:
        frame, time_s, width, height, faces = values
        return cls(
            frame=frame,
            time_s=time_s,
            width=width,
            height=height,
            faces=tuple(Shown(box=(box[0], box[1], box[2], box[3]), name=name) for box, name in faces),
        )


def answers_of(results: Iterable[Result]) -> Iterator[Answer]:
    """Results of this pipeline as answers; lets go of each frame, so that memory is the pipeline's own."""
    for result in results:
        frame = result.frame
        yield Answer(
            frame=frame.index,
            time_s=frame.time_s,
            width=frame.width,
            height=frame.height,
            faces=tuple(Shown(box=sighting.box, name=sighting.name) for sighting in result.sightings),
        )
