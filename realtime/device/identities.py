"""Names over time of one camera whose every frame a device looks at.

Enters: what each frame shows. Leaves: sightings, judged by ``realtime.people.identity`` as everywhere else. There is no
optical flow between frames that are all detected: a face is the one of the frame before that it overlaps most.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from realtime.device.analyser import Seen
from realtime.faces.analysis import View, clip_box
from realtime.faces.assignment import assign
from realtime.faces.boxes import iou
from realtime.faces.quality import measure
from realtime.faces.tracking import Followed, TrackedFace
from realtime.people.identity import Identities
from realtime.people.matching import References
from realtime.records import Frame, Sighting
from realtime.settings import IdentitySettings, TrackSettings

SURE_IOU = 0.5
"""A face that moved further within a frame may be another one: a view has to show that it is not."""


class CameraNames:
    """The people before one camera; its frames come in their order."""

    def __init__(
        self, identity: IdentitySettings, track: TrackSettings, *, threshold: float, unit_length: bool
    ) -> None:
        """
        Args:
            identity: intervals and limits.
            track: how little a face may overlap with itself, and how many frames may miss it.
            threshold: squared distance below which a name may be given.
            unit_length: whether the model's embeddings have length 1.
        """
        self._identities = Identities(identity, threshold=threshold, unit_length=unit_length)
        self._track = track
        self._faces: list[TrackedFace] = []
        self._next = 1

    def see(self, frame: Frame, seen: Seen, references: References) -> tuple[Sighting, ...]:
        """
        Args:
            frame: that was looked at.
            seen: what it shows, with crops.
            references: that its faces are compared with.

        Returns:
            Its faces with what is known of them by now, in the order of the boxes.

        Raises:
            ValueError: no crops were asked for.
        """
        if seen.crops_NSS3 is None:
            raise ValueError("names over time weigh each view by its crop; ask for them: analyse(..., crops=True)")
        shown = self._associated(seen)
        followed = Followed(frame=frame, faces=tuple(shown))
        rows = {face.track: row for row, face in enumerate(shown)}
        for candidate in self._identities.candidates(followed):
            row = rows[candidate.face.track]
            view = _view(frame, seen, row)
            self._identities.observe(followed, candidate.face, view, seen.embeddings_ND[row], references)
        return self._identities.sightings(followed, references)

    def _associated(self, seen: Seen) -> list[TrackedFace]:
        """The faces of a frame, each with the number that it had before; those that are missed are kept for a while."""
        before_N4 = np.array([face.box_4 for face in self._faces], dtype=np.float32).reshape(-1, 4)
        overlaps_NM = iou(before_N4, seen.boxes_N4)
        usable_NM = np.where(overlaps_NM >= self._track.min_iou, overlaps_NM, 0)
        taken = {column: row for row, column in assign(usable_NM) if usable_NM[row, column] > 0}
        shown = []
        for column, (box_4, score) in enumerate(zip(seen.boxes_N4, seen.scores_N, strict=True)):
            if column in taken:
                known = self._faces[taken[column]]
                unsure = known.missed > 0 or overlaps_NM[taken[column], column] < SURE_IOU
                shown.append(replace(known, box_4=box_4, score=float(score), missed=0, doubt=known.doubt + int(unsure)))
            else:
                shown.append(TrackedFace(track=self._next, box_4=box_4, score=float(score), detected=True))
                self._next += 1
        missed = [
            replace(face, missed=face.missed + 1)
            for row, face in enumerate(self._faces)
            if row not in taken.values() and face.missed < self._track.max_missed
        ]
        self._faces = [*shown, *missed]
        return shown


def _view(frame: Frame, seen: Seen, row: int) -> View:
    assert seen.crops_NSS3 is not None
    box = clip_box(seen.boxes_N4[row], frame.width, frame.height)
    points_P2, crop_SS3 = seen.points_NP2[row], seen.crops_NSS3[row]
    return View(
        box=box,
        detector_score=float(seen.scores_N[row]),
        points_P2=points_P2,
        crop_SS3=crop_SS3,
        quality=measure(box, points_P2, crop_SS3),
    )
