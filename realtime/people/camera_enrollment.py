"""A person in front of a camera becomes a few references that differ from each other.

Enters: an open source. Leaves: views of one face, good enough for a gallery and not all the same: five frames of one
second are one photo five times.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from realtime.capture.source import Source
from realtime.errors import SourceError
from realtime.faces.analysis import FaceAnalyser, View
from realtime.people.enrollment import quality_problem
from realtime.records import RGB_HW3
from realtime.settings import GallerySettings

# D embedding
WANTED: Final = 5
"""Views of a person; with three to five the second photo's gain is had, the tenth brings nothing more."""

LOOK_EVERY_S: Final = 0.2
"""Between frames that are looked at: a person moves slower than that."""

TIMEOUT_S: Final = 60.0

APART: Final = 0.35
"""Two views count as different from this share of the threshold on. Frames 0.2 s apart of a man who talks and moves are
0.2 to 0.9 apart (median 0.7), of one who holds still less than 0.1."""

APART_DEG: Final = 8.0
"""Or when the head has turned so far."""

PATIENCE_S: Final = 3.0
"""Who holds still is enrolled all the same: after so long without a different view, the next good one is taken."""

SAME_PERSON: Final = 3.0
"""Thresholds beyond which a view is somebody else than the first one (identity.same_face_sure has the same reason)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveView:
    """One view that was taken, with the picture it was found in."""

    view: View
    embedding_D: NDArray[np.float32]
    rgb_HW3: RGB_HW3


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How an enrolment is going, for the screen."""

    taken: int
    wanted: int
    hint: str
    """What the person can do, in a few words; empty when a view was just taken."""


def views_from_source(
    source: Source,
    analyser: FaceAnalyser,
    settings: GallerySettings,
    *,
    threshold: float,
    wanted: int = WANTED,
    timeout_s: float = TIMEOUT_S,
    progress: Callable[[Progress], object] = lambda progress: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[LiveView]:
    """Watch until enough different, good views of one face are there, the time is over, or the source ends.

    Returns:
        1 to ``wanted`` views.

    Raises:
        SourceError: nothing could be taken, and what was in the way most of the time; or the source failed.
    """
    taken: list[LiveView] = []
    hints: Counter[str] = Counter()
    deadline_s = clock() + timeout_s
    looked_s, took_s = -LOOK_EVERY_S, 0.0
    while len(taken) < wanted and clock() < deadline_s:
        frame = source.read()
        if frame is None:
            break
        if frame.time_s - looked_s < LOOK_EVERY_S:
            continue
        looked_s = frame.time_s
        patient = frame.time_s - took_s < PATIENCE_S
        found = _look(frame.rgb, analyser, settings, taken, threshold, patient=patient)
        if isinstance(found, LiveView):
            taken.append(found)
            took_s = frame.time_s
        else:
            hints[found] += 1
        progress(Progress(taken=len(taken), wanted=wanted, hint="" if isinstance(found, LiveView) else found))
    if not taken:
        why = hints.most_common(1)[0][0] if hints else "no frame came"
        raise SourceError(f"{source.name}: no view could be enrolled within {timeout_s:.0f} s: {why}; try again")
    return taken


def _look(
    rgb_HW3: RGB_HW3,
    analyser: FaceAnalyser,
    settings: GallerySettings,
    taken: list[LiveView],
    threshold: float,
    *,
    patient: bool,
) -> LiveView | str:
    """A view worth taking, or what the person can do about it."""
    views = analyser.views(rgb_HW3)
    if not views:
        return "no face is in view"
    if len(views) > 1:
        return f"{len(views)} faces are in view, only one person may be"
    problem = quality_problem(views[0].quality, settings)
    if problem is not None:
        return {"too small": "come nearer", "too blurred": "hold still", "turned away": "look at the camera"}.get(
            problem[0], problem[1]
        )
    embedding_D = analyser.embed([views[0].crop_SS3])[0]
    candidate = LiveView(view=views[0], embedding_D=embedding_D, rgb_HW3=rgb_HW3)
    distances = [float(((each.embedding_D - embedding_D) ** 2).sum()) for each in taken]
    if distances and min(distances) > SAME_PERSON * threshold:
        return "another face is in view than at first"
    if patient and not _differs(candidate, taken, distances, threshold):
        return "turn the head a little"
    return candidate


def _differs(candidate: LiveView, taken: list[LiveView], distances: list[float], threshold: float) -> bool:
    if not taken or min(distances) > APART * threshold:
        return True
    yaw = candidate.view.quality.yaw_deg
    return min(abs(yaw - each.view.quality.yaw_deg) for each in taken) > APART_DEG
