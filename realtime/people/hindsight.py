"""Names written back into the frames of a file just before they were known, and taken out where they were not proved.

Enters: a file's frames with their sightings in order, and what the identities found out of past frames. Leaves: the
same frames, a fraction of a second later, as they look with that knowledge. A file is not live: nobody waits for its
frames, so its first half second with a face need not be nameless. Live sources never pass through here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from realtime.faces.tracking import Followed
from realtime.people.identity import Revision
from realtime.records import Sighting

HELD_BYTES: Final = 1 << 30
FRAME_BYTES_A_PIXEL: Final = 4.5
"""The decoder's planes, and RGB where somebody looked."""

Seen = tuple[Followed, tuple[Sighting, ...]]


def without(sightings: tuple[Sighting, ...], hidden: Collection[int]) -> tuple[Sighting, ...]:
    """Without the faces that may turn out to be none."""
    return tuple(seen for seen in sightings if seen.track not in hidden)


class Hindsight:
    """Holds the frames of one source back by ``seconds`` of its own time, or by what ``HELD_BYTES`` hold: 27 frames of
    4K video, 250 of 720p."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: deque[Seen] = deque()
        self._hidden: frozenset[int] = frozenset()

    def push(
        self,
        followed: Followed,
        sightings: tuple[Sighting, ...],
        hidden: frozenset[int],
        revisions: Iterable[Revision],
    ) -> list[Seen]:
        """Take the next frame; give out those that nothing can change any more.

        Args:
            followed, sightings: the frame with all its faces.
            hidden: tracks that are not to be shown yet. One that is shown later was a face all along.
            revisions: what was found out of past frames.
        """
        gone = self._hidden - hidden - {seen.track for seen in sightings}
        self._hidden = hidden
        self._held.append((followed, sightings))
        if gone:
            self._held = deque((past, without(seen, gone)) for past, seen in self._held)
        for revision in revisions:
            self._held = deque((past, _revised(past, seen, revision, hidden)) for past, seen in self._held)
        out = []
        frame = followed.frame
        most = max(4, int(HELD_BYTES / (FRAME_BYTES_A_PIXEL * frame.width * frame.height)))
        while self._held and (frame.time_s - self._held[0][0].frame.time_s >= self._seconds or len(self._held) > most):
            past, seen = self._held.popleft()
            out.append((past, without(seen, self._hidden)))
        return out

    def flush(self) -> list[Seen]:
        """The rest, at the end of the file."""
        out = [(past, without(seen, self._hidden)) for past, seen in self._held]
        self._held = deque()
        return out


def _revised(
    followed: Followed, sightings: tuple[Sighting, ...], revision: Revision, hidden: frozenset[int]
) -> tuple[Sighting, ...]:
    if followed.frame.time_s < revision.since_s:
        return sightings
    if revision.name is None:
        if followed.frame.time_s == revision.since_s:  # the frame of the last supporting view itself
            return sightings
        return tuple(
            replace(seen, state="pending", name=None) if seen.track == revision.track and seen.name else seen
            for seen in sightings
        )
    if any(
        seen.name == revision.name and seen.track not in hidden for seen in sightings
    ):  # one face of a frame bears a name, not two
        return sightings
    return tuple(
        replace(
            seen,
            state="named",
            name=revision.name,
            distance=revision.distance,
            second_distance=revision.second_distance,
        )
        if seen.track == revision.track and seen.name is None
        else seen
        for seen in sightings
    )
