"""Following faces between detections, by optical flow, and noticing when a track is no longer sure of its face.

Enters: prepared frames of one source in order (``scenes.Prepared``). Leaves: the faces of each frame with their track
numbers. A detection costs 15 to 80 ms, a step of flow a third of one for each face, so most frames see flow only. Every
doubt (a flow that failed, a jump of the box, a detector that no longer finds the face) raises the track's ``doubt``, so
that whoever named it looks again at once; a scene cut ends all tracks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from realtime.faces.assignment import assign
from realtime.faces.boxes import iou
from realtime.faces.detection import Detector, detect_in_region
from realtime.faces.motion import flow_boxes, likeness
from realtime.faces.scenes import Prepared
from realtime.records import Faces, Frame
from realtime.settings import TrackSettings

# N tracks, M detections, 4 = x1, y1, x2, y2 in frame pixels
JUMP_IOU: Final = 0.45
"""A detection that overlaps its track by less may be another face that took its place."""

TENTATIVE_LOOKS: Final = 4
"""Looks, the first one included, that decide whether a weak face is one; the latest so many."""

TENTATIVE_GAP_FRAMES: Final = 2
"""Frames between the first of them."""

TENTATIVE_SLOW_FRAMES: Final = 12
"""Frames between the later ones, while it is neither."""

TENTATIVE_FACE: Final = 0.2
"""Mean score of the looks from which on it is a face; a look that finds nothing counts ``TENTATIVE_MISS``. A badge on
the demo's suit reaches .17. A face that scores less but is somebody's who is enrolled is shown all the same."""

TENTATIVE_NONE: Final = 0.05
"""Mean score below which it is none: patterns in cloth. In between it is watched, and not shown."""

TENTATIVE_MISS: Final = -0.2

ALIKE: Final = 0.75
"""Correlation of a box with itself one frame later from which on nothing is suspected: a lively face on the sample clip
keeps .79 and more, boxes of two different people on LFW correlate by .22 (median) and .63 (95 %)."""

BLEND: Final = 0.6
"""Weight of a detection's box in its track's box: HOG boxes come in steps of a fifth of their size, flow is smooth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedFace:
    """One face of one frame, with the number that stays with it."""

    track: int
    box_4: NDArray[np.float32]
    """xyxy frame pixels."""
    score: float
    """Of its last detection."""
    detected: bool
    """The detector saw it in this very frame; else flow moved it here."""
    doubt: int = 0
    """Grows whenever something happened that another face could hide behind: verify before trusting a name."""
    missed: int = 0
    """Detections in a row that did not find it."""
    looks: tuple[float, ...] | None = None
    """Scores of a tentative face so far: its first one was too weak to show it. None: it is a face."""
    born_index: int = 0

    @property
    def tentative(self) -> bool:
        """Not to be shown yet: it may turn out to be none."""
        return self.looks is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A frame and the faces in it, before anybody knows who they are."""

    frame: Frame
    faces: tuple[TrackedFace, ...]
    cut: bool = False


class Tracker:
    """The tracks of one source; one thread.

    Args:
        settings: the ``track`` section.
        detector: gives the calling thread's own detector, for looks at single regions.
    """

    def __init__(self, settings: TrackSettings, detector: Callable[[], Detector]) -> None:
        self._settings = settings
        self._detector = detector
        self._tracks: list[TrackedFace] = []
        self._last_small: NDArray[np.uint8] | None = None
        self._next_id = 1

    def step(self, prepared: Prepared) -> Followed:
        """Advance by one frame; frames must come in order, dropped ones may be missing."""
        frame = prepared.frame
        if prepared.cut or not self._settings.enabled:
            self._tracks = []
        self._tracks = self._flow(prepared)
        if prepared.detection is not None:
            self._tracks = self._associate(frame, prepared.detection.result())
        self._tracks = [
            kept for track in _without_doubles(self._tracks) if (kept := self._examined(frame, track)) is not None
        ]
        self._last_small = prepared.small_grey
        return Followed(frame=frame, faces=tuple(self._tracks), cut=prepared.cut)

    def _flow(self, prepared: Prepared) -> list[TrackedFace]:
        """Move every track by the median flow of its points; one that is lost is looked for around where it was."""
        if not self._tracks or self._last_small is None or self._last_small.shape != prepared.small_grey.shape:
            return []
        boxes_N4 = np.stack([track.box_4 for track in self._tracks])
        moved_N4, good_N = flow_boxes(
            self._last_small, prepared.small_grey, boxes_N4 * prepared.small_scale, prepared.small_scale
        )
        out = []
        for track, box_4, good in zip(self._tracks, moved_N4, good_N, strict=True):
            if good and _sane(box_4, prepared.frame):
                alike = self._looks_alike(prepared, track.box_4, box_4)
                out.append(replace(track, box_4=box_4, detected=False, doubt=track.doubt + (not alike)))
            elif (again := self._look_again(prepared.frame, track)) is not None:
                out.append(replace(again, doubt=track.doubt + 1))
        return out

    def _looks_alike(self, prepared: Prepared, before_4: NDArray[np.float32], after_4: NDArray[np.float32]) -> bool:
        """Whether a box holds much the same picture as one frame ago: no face took the place of another."""
        assert self._last_small is not None
        scale = np.float32(prepared.small_scale)
        return likeness(self._last_small, before_4 * scale, prepared.small_grey, after_4 * scale) >= ALIKE

    def _look_again(self, frame: Frame, track: TrackedFace) -> TrackedFace | None:
        found = detect_in_region(self._detector(), frame, track.box_4)
        ious_1M = iou(track.box_4[None], found.boxes_N4)
        if not len(found) or ious_1M.max() < self._settings.min_iou:
            return None
        best = int(ious_1M.argmax())
        return replace(
            track,
            box_4=found.boxes_N4[best],
            score=float(found.scores_N[best]),
            detected=True,
            missed=0,
        )

    def _associate(self, frame: Frame, found: Faces) -> list[TrackedFace]:
        """Give detections to tracks one to one with the greatest total overlap; the rest are new faces."""
        overlaps_NM = iou(np.array([t.box_4 for t in self._tracks], np.float32).reshape(-1, 4), found.boxes_N4)
        usable_NM = np.where(overlaps_NM >= self._settings.min_iou, overlaps_NM, 0)
        taken = {row: column for row, column in assign(usable_NM) if usable_NM[row, column] > 0}
        out = []
        for row, track in enumerate(self._tracks):
            if row in taken:
                sure = self._detector().sure_score
                out.append(_confirm(track, found, taken[row], float(overlaps_NM[row, taken[row]]), sure))
            elif (kept := self._missed(frame, track)) is not None:
                out.append(kept)
        for column in sorted(set(range(len(found))) - set(taken.values())):
            out.append(self._new(frame, found, column))
        return out

    def _missed(self, frame: Frame, track: TrackedFace) -> TrackedFace | None:
        """A coarse look does not see small faces, and HOG no turned ones: ask its own region before doubting it."""
        again = self._look_again(frame, track)
        if again is not None:
            jumped = float(iou(track.box_4[None], again.box_4[None])[0, 0]) < JUMP_IOU
            return replace(again, box_4=_blend(track.box_4, again.box_4, jumped), doubt=track.doubt + jumped)
        if track.missed >= self._settings.max_missed:
            return None
        return replace(track, missed=track.missed + 1, doubt=track.doubt + 1)

    def _new(self, frame: Frame, found: Faces, column: int) -> TrackedFace:
        score = float(found.scores_N[column])
        sure = score >= self._detector().sure_score or not self._settings.enabled
        track = TrackedFace(
            track=self._next_id,
            box_4=found.boxes_N4[column],
            score=score,
            detected=True,
            looks=None if sure else (score,),
            born_index=frame.index,
        )
        self._next_id += 1
        return track

    def _examined(self, frame: Frame, track: TrackedFace) -> TrackedFace | None:
        """Look at a tentative face a few times at once, then now and then: it becomes a face, or goes."""
        if track.looks is None or frame.index < track.born_index + _next_look(len(track.looks)):
            return track
        again = self._look_again(frame, track)
        looks = (*track.looks, TENTATIVE_MISS if again is None else again.score)
        track = replace(track if again is None else again, looks=looks)
        latest = looks[-TENTATIVE_LOOKS:]
        if len(latest) < TENTATIVE_LOOKS:
            return track
        mean = sum(latest) / len(latest)
        if mean >= TENTATIVE_FACE:
            return replace(track, looks=None)
        return track if mean >= TENTATIVE_NONE else None


def _next_look(count: int) -> int:
    """Frames after its first look at which a tentative face of ``count`` looks gets another."""
    slow = max(0, count - TENTATIVE_LOOKS + 1)
    return TENTATIVE_GAP_FRAMES * min(count, TENTATIVE_LOOKS - 1) + TENTATIVE_SLOW_FRAMES * slow


def _confirm(track: TrackedFace, found: Faces, column: int, overlap: float, sure: float) -> TrackedFace:
    jumped = overlap < JUMP_IOU
    score = float(found.scores_N[column])
    box_4 = _blend(track.box_4, found.boxes_N4[column], jumped)
    return replace(
        track,
        box_4=box_4,
        score=score,
        detected=True,
        doubt=track.doubt + jumped,
        missed=0,
        looks=None if score >= sure else track.looks,
    )


def _blend(track_4: NDArray[np.float32], detection_4: NDArray[np.float32], jumped: bool) -> NDArray[np.float32]:
    if jumped:
        return detection_4
    blended: NDArray[np.float32] = np.float32(BLEND) * detection_4 + np.float32(1 - BLEND) * track_4
    return blended


def _without_doubles(tracks: list[TrackedFace]) -> list[TrackedFace]:
    """Two tracks that slid onto one face: the older one stays."""
    kept: list[TrackedFace] = []
    for track in sorted(tracks, key=lambda t: (t.missed > 0, t.track)):
        if not kept or iou(track.box_4[None], np.stack([k.box_4 for k in kept])).max() < 0.5:
            kept.append(track)
    return sorted(kept, key=lambda t: t.track)


def _sane(box_4: NDArray[np.float32], frame: Frame) -> bool:
    """A face's box whose centre is in the picture and whose size is a face's."""
    centre_x, centre_y = (box_4[0] + box_4[2]) / 2, (box_4[1] + box_4[3]) / 2
    width = float(box_4[2] - box_4[0])
    return 0 <= centre_x < frame.width and 0 <= centre_y < frame.height and 8 <= width <= max(frame.width, frame.height)
