"""What a program gets: one line a frame, one line an event.

Enters: results. Leaves: JSON lines as ``schemas/frame.schema.json`` and ``schemas/event.schema.json`` describe them,
and the events themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from realtime.records import Event, EventKind, Frame, Result, Sighting
from realtime.show.lines import Lines

LEFT_AFTER_S: Final = 0.5
"""A face missing for less has not left: a detector blinks."""


class FramesOutput:
    """One line a result. A file that exists is replaced by the first line, as a video is."""

    def __init__(self, path: Path | str) -> None:
        """Raises OutputError where it cannot be written; ``-`` is standard output."""
        self._lines = Lines(path, append=False)

    def write(self, result: Result) -> None:
        """Raises OutputError where it cannot be written."""
        self._lines.write(frame_record(result))

    def close(self) -> None:
        """May be called twice."""
        self._lines.close()


class EventsOutput:
    """One line an event, after those that the file holds already: it is a log."""

    def __init__(self, path: Path | str) -> None:
        """Raises OutputError where it cannot be written; ``-`` is standard output."""
        self._lines = Lines(path, append=True)

    def write(self, event: Event) -> None:
        """Raises OutputError where it cannot be written."""
        self._lines.write(event_record(event))

    def close(self) -> None:
        """May be called twice."""
        self._lines.close()


def frame_record(result: Result) -> dict[str, Any]:
    """A frame's line."""
    return {
        "source": result.frame.source,
        "frame": result.frame.index,
        "time_s": round(result.frame.time_s, 4),
        "latency_ms": round(result.latency_ms, 1),
        "faces": [face_record(face) for face in result.sightings],
    }


def face_record(face: Sighting) -> dict[str, Any]:
    """A face of a frame's line."""
    return {
        "track": face.track,
        "box": [round(float(edge), 1) for edge in face.box],
        "state": face.state,
        "name": face.name,
        "distance": rounded(face.distance),
        "second_distance": rounded(face.second_distance),
        "detector_score": rounded(face.detector_score),
    }


def event_record(event: Event) -> dict[str, Any]:
    """An event's line."""
    return {
        "event": event.event,
        "source": event.source,
        "track": event.track,
        "name": event.name,
        "frame": event.frame,
        "time_s": round(event.time_s, 4),
        "distance": rounded(event.distance),
    }


def rounded(value: float | None) -> float | None:
    """Four decimals: a hundredth of what separates two people."""
    return None if value is None else round(float(value), 4)


@dataclass(slots=True)
class _Known:
    """The last that was seen of a track."""

    name: str | None
    distance: float | None
    frame: int
    time_s: float


class EventTracker:
    """Turns results into events, of any number of sources. Pure: no clock but the frames' own.

    ``appeared`` has no name; ``named`` follows as soon as there is one. ``renamed`` is a name that became another, or
    that fell (its name is null). A named face that is pending again keeps its name and makes no event. ``left`` has the
    last name, frame and time, and comes when the face was missing for ``left_after_s``, or with ``finish``.
    """

    def __init__(self, *, left_after_s: float = LEFT_AFTER_S) -> None:
        self._left_after_s = left_after_s
        self._known: dict[str, dict[int, _Known]] = {}

    def update(self, result: Result) -> list[Event]:
        """The events of ``result``, the next of its source."""
        frame = result.frame
        known = self._known.setdefault(frame.source, {})
        events: list[Event] = []
        for face in result.sightings:
            events += self._seen(frame, face, known)
        here = {face.track for face in result.sightings}
        gone = [
            track
            for track, last in known.items()
            if track not in here and not 0 <= frame.time_s - last.time_s <= self._left_after_s
        ]
        return events + [_event("left", frame.source, track, known.pop(track)) for track in gone]

    def finish(self, source: str) -> list[Event]:
        """``left`` for everybody who was there when ``source`` ended."""
        return [_event("left", source, track, last) for track, last in self._known.pop(source, {}).items()]

    @staticmethod
    def _seen(frame: Frame, face: Sighting, known: dict[int, _Known]) -> list[Event]:
        kinds: list[EventKind] = []
        last = known.get(face.track)
        if last is None:
            last = known[face.track] = _Known(None, face.distance, frame.index, frame.time_s)
            kinds.append("appeared")
        name = last.name if face.state == "pending" else face.name
        if name != last.name:
            kinds.append("named" if last.name is None else "renamed")
        last.name, last.distance, last.frame, last.time_s = name, face.distance, frame.index, frame.time_s
        return [_event(kind, frame.source, face.track, last) for kind in kinds]


def _event(kind: EventKind, source: str, track: int, last: _Known) -> Event:
    return Event(
        event=kind,
        source=source,
        track=track,
        name=None if kind == "appeared" else last.name,
        frame=last.frame,
        time_s=last.time_s,
        distance=last.distance,
    )
