"""Who a track is, from all that it has shown so far: won with evidence, lost as soon as the evidence goes.

Enters: embeddings of views of tracked faces, and the gallery's references. Leaves: for each face of a frame a
``Sighting`` (named, unknown or pending), and the wish which faces to look at next. One ``Identities`` serves one
source; its owner holds the lock.

A name needs three things: the fused distance below the threshold, a margin to the second person, and agreement of at
least ``min_views`` views. A track keeps being verified, and a view that cannot be of the same face ends it: the face
under the box is somebody else, who starts from nothing under a new track number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from realtime.faces.analysis import View, clip_box
from realtime.faces.embedding import fuse
from realtime.faces.tracking import Followed, TrackedFace
from realtime.people.matching import References, match
from realtime.records import Sighting, State
from realtime.settings import IdentitySettings

MAX_VIEWS: Final = 12
"""Views that a track's embedding is made of; then the worst of the older half goes."""

NEARER: Final = 1.3
"""A face that has grown by this factor since its best view shows more: it is worth a look before its time."""

FIRST_GAP_FRAMES: Final = 2
"""Frames between the first views of a new face: neighbours show the same picture twice."""

FORGET_S: Final = 1.0
"""A track is kept so long after its last frame: the thread that shows may be a little behind the one that looks."""

SMALL_GAP_S: Final = 0.1
"""An unnamed face is looked at this often until it has ``eager_views`` views."""


@dataclass(slots=True)
class _Identity:
    """What is known of one track."""

    public: int
    born_s: float
    """A name that is won reaches back to here: the track's first frame, or the last view that belied it."""
    views_ND: list[NDArray[np.float32]] = field(default_factory=list)
    weights_N: list[float] = field(default_factory=list)
    fused_D: NDArray[np.float32] | None = None
    best: View | None = None
    state: State = "pending"
    name: str | None = None
    distance: float | None = None
    second_distance: float | None = None
    looked_s: float = -1e9
    looked_index: int = -(10**9)
    supported_s: float = -1e9
    """Time of the last view that supported the name."""
    doubts: int = 0
    """Views in a row that did not support the name."""
    settled_doubt: int = 0
    """``TrackedFace.doubt`` up to which a view has shown that it is still the same face."""
    seen_s: float = 0.0
    version: int = -1
    """Of the references that the verdict was made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A face worth embedding in this frame; lower ``urgency`` first."""

    face: TrackedFace
    urgency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What a verdict says of frames that are already past: who the track was, or that its name was not proved."""

    track: int
    """Public number."""
    name: str | None
    """None: the name that it bore since ``since_s`` is taken back."""
    since_s: float
    distance: float | None = None
    second_distance: float | None = None


class Identities:
    """The people of one source.

    Args:
        settings: thresholds and intervals.
        threshold: squared L2 below which a name may be given (from the settings or the model's manifest).
        unit_length: whether the model's embeddings have length 1.
        fuse_views: judge a track by the mean of its views; off where a face is seen only once (photos, no tracking).
    """

    def __init__(
        self, settings: IdentitySettings, *, threshold: float, unit_length: bool, fuse_views: bool = True
    ) -> None:
        self._settings = settings
        self._threshold = threshold
        self._unit = unit_length
        self._fuse = fuse_views
        self._tracks: dict[int, _Identity] = {}
        self._next_public = 1
        self._revisions: list[Revision] = []

    # -- what to look at ----------------------------------------------------------------------------------------------

    def candidates(self, followed: Followed) -> list[Candidate]:
        """Faces that are due for an embedding in this frame, most urgent first: doubtful, new, unnamed, named.

        Also forgets the tracks that are gone.
        """
        now_s = followed.frame.time_s
        for gone in [track for track, identity in self._tracks.items() if now_s - identity.seen_s > FORGET_S]:
            del self._tracks[gone]
        out = []
        for face in followed.faces:
            identity = self._known(face, followed)
            urgency = self._urgency(identity, face, followed)
            if urgency is not None:
                out.append(Candidate(face=face, urgency=urgency))
        return sorted(out, key=lambda candidate: candidate.urgency)

    def _known(self, face: TrackedFace, followed: Followed) -> _Identity:
        if face.track not in self._tracks:
            self._tracks[face.track] = _Identity(public=self._next_public, born_s=followed.frame.time_s)
            self._next_public += 1
        identity = self._tracks[face.track]
        identity.seen_s = max(identity.seen_s, followed.frame.time_s)
        return identity

    def _urgency(self, identity: _Identity, face: TrackedFace, followed: Followed) -> int | None:
        frame = followed.frame
        since_s = frame.time_s - identity.looked_s
        since_frames = frame.index - identity.looked_index
        seen = len(identity.views_ND)
        if not self._fuse:
            return 1
        if identity.name is not None and face.doubt > identity.settled_doubt and since_frames > 0:
            return 0
        if seen < self._settings.min_views:
            return 1 if since_frames >= FIRST_GAP_FRAMES else None
        if identity.name is not None and identity.doubts and since_frames >= FIRST_GAP_FRAMES:
            return 0
        if identity.state != "named":
            due_s = SMALL_GAP_S if seen < self._settings.eager_views else self._settings.retry_every_s
            return 2 if since_s >= due_s else None
        width = float(face.box_4[2] - face.box_4[0])
        if identity.best is not None and width > NEARER * identity.best.quality.size_px and since_s >= SMALL_GAP_S:
            return 3
        due_s = self._settings.verify_every_s
        # flow's boxes are a little looser than the detector's: wait for one of those, but not for ever
        return 3 if since_s >= (due_s if face.detected else 1.5 * due_s) else None

    # -- what was seen ------------------------------------------------------------------------------------------------

    def observe(
        self,
        followed: Followed,
        face: TrackedFace,
        view: View,
        embedding_D: NDArray[np.float32],
        references: References,
    ) -> None:
        """Take one more view of a face into account and judge again."""
        frame = followed.frame
        identity = self._tracks.get(face.track)
        if identity is None:
            return
        if identity.version != references.version and identity.fused_D is not None:
            self._judge(identity, references)  # a name that was changed or removed is no contradiction
        before = identity.name
        if self._is_somebody_else(identity, face, embedding_D):
            self._take_back(identity, before)
            before = None
            identity = _Identity(public=self._next_public, born_s=frame.time_s, seen_s=frame.time_s)
            self._next_public += 1
            self._tracks[face.track] = identity
        identity.looked_s, identity.looked_index = frame.time_s, frame.index
        supported = self._supports(identity, embedding_D, references)
        identity.doubts = 0 if supported else identity.doubts + 1
        self._remember(identity, view, embedding_D)
        self._judge(identity, references)
        if supported:
            identity.supported_s = frame.time_s
        if supported or identity.name is None:
            identity.settled_doubt = face.doubt
        if identity.name is None and self._belied(identity, references):
            identity.born_s = frame.time_s
        if before is not None and identity.name != before:
            self._take_back(identity, before)
        elif before is None and identity.name is not None:
            self._revisions.append(
                Revision(
                    track=identity.public,
                    name=identity.name,
                    since_s=identity.born_s,
                    distance=identity.distance,
                    second_distance=identity.second_distance,
                )
            )

    def _take_back(self, identity: _Identity, name: str | None) -> None:
        """The name is withdrawn from all frames after the last view that supported it."""
        if name is not None:
            self._revisions.append(Revision(track=identity.public, name=None, since_s=identity.supported_s))

    def revisions(self) -> list[Revision]:
        """What was found out of past frames since the last call."""
        found, self._revisions = self._revisions, []
        return found

    def _is_somebody_else(self, identity: _Identity, face: TrackedFace, embedding_D: NDArray[np.float32]) -> bool:
        """A view too far from the track's own face. Poor views wander, so only suspicion or a good view counts."""
        if identity.fused_D is None or not self._fuse:
            return False
        far = float(((identity.fused_D - embedding_D) ** 2).sum())
        doubtful = face.doubt > identity.settled_doubt
        limit = self._settings.same_face if doubtful else self._settings.same_face_sure
        return far > limit * self._threshold

    def _supports(self, identity: _Identity, embedding_D: NDArray[np.float32], references: References) -> bool:
        """Whether this one view is near enough to the person that the track is named after."""
        if identity.name is None:
            return True
        if identity.name not in references.names:
            return False
        return self._is_near(references.names.index(identity.name), embedding_D, references)

    def _is_near(self, person: int, embedding_D: NDArray[np.float32], references: References) -> bool:
        rows_M = references.persons_M == person
        distances = ((references.embeddings_MD[rows_M] - embedding_D) ** 2).sum(axis=1)
        return bool(len(distances)) and float(distances.min()) < self._settings.support * self._threshold

    def _belied(self, identity: _Identity, references: References) -> bool:
        """The newest view is not near the person whom the track as a whole resembles."""
        person = int(match(identity.fused_D[None], references).persons_N[0]) if identity.fused_D is not None else -1
        return person >= 0 and not self._is_near(person, identity.views_ND[-1], references)

    def _remember(self, identity: _Identity, view: View, embedding_D: NDArray[np.float32]) -> None:
        if not self._fuse:
            identity.views_ND.clear()
            identity.weights_N.clear()
        identity.views_ND.append(embedding_D)
        identity.weights_N.append(view.quality.weight)
        if len(identity.views_ND) > MAX_VIEWS:
            worst = int(np.argmin(identity.weights_N[: MAX_VIEWS // 2]))
            del identity.views_ND[worst], identity.weights_N[worst]
        if identity.best is None or view.quality.weight > identity.best.quality.weight:
            identity.best = view
        identity.fused_D = fuse(
            np.stack(identity.views_ND), np.array(identity.weights_N, dtype=np.float32), unit_length=self._unit
        )

    # -- the verdict --------------------------------------------------------------------------------------------------

    def _judge(self, identity: _Identity, references: References) -> None:
        identity.version = references.version
        if identity.fused_D is None:
            return
        found = match(identity.fused_D[None], references)
        person = int(found.persons_N[0])
        identity.distance = float(found.distances_N[0]) if person >= 0 else None
        second = float(found.second_distances_N[0])
        identity.second_distance = second if np.isfinite(second) else None
        name = references.names[person] if person >= 0 else None
        kept = name is not None and name == identity.name
        limit = self._threshold * (self._settings.keep if kept else 1.0)
        close = identity.distance is not None and identity.distance < limit
        clear = identity.distance is None or second - identity.distance > self._settings.margin
        enough = len(identity.views_ND) >= (self._settings.min_views if self._fuse else 1)
        # a name that fell does not come back with the very views that felled it
        agreed = kept or (person >= 0 and self._is_near(person, identity.views_ND[-1], references))
        if close and clear and enough and agreed and identity.doubts < 2:
            identity.name, identity.state = name, "named"
        else:
            identity.name = None
            identity.state = "unknown" if enough else "pending"

    def sightings(self, followed: Followed, references: References) -> tuple[Sighting, ...]:
        """The faces of a frame with what is known of them by now. A name stands on one face of a frame only."""
        shown = []
        for face in followed.faces:
            identity = self._known(face, followed)
            if identity.version != references.version and identity.fused_D is not None:
                self._judge(identity, references)
            shown.append((face, identity))
        holders: dict[str, _Identity] = {}
        # sure faces before tentative ones, near ones before far ones: the first of a name has it
        for _, identity in sorted(shown, key=lambda pair: (pair[0].tentative, pair[1].distance or 0.0)):
            if identity.name is not None:
                holders.setdefault(identity.name, identity)
        return tuple(self._sighting(face, identity, followed, holders) for face, identity in shown)

    def _sighting(
        self, face: TrackedFace, identity: _Identity, followed: Followed, holders: dict[str, _Identity]
    ) -> Sighting:
        trusted = not (face.doubt > identity.settled_doubt or identity.doubts) and (
            identity.name is None or holders[identity.name] is identity
        )
        state: State = identity.state if trusted or identity.state != "named" else "pending"
        box = clip_box(face.box_4, followed.frame.width, followed.frame.height)
        return Sighting(
            track=identity.public,
            box=box,
            state=state,
            name=identity.name if state == "named" else None,
            distance=identity.distance,
            second_distance=identity.second_distance,
            detector_score=face.score,
        )

    def tentative(self, followed: Followed) -> frozenset[int]:
        """Public numbers of the faces of a frame that are not to be shown yet: too weak to be sure that they are faces,
        and nobody's who is enrolled."""
        return frozenset(
            identity.public
            for face in followed.faces
            if face.tentative and (identity := self._known(face, followed)).name is None
        )

    def best_view(self, public: int) -> tuple[View, NDArray[np.float32]] | None:
        """The best view of a track by its public number and its fused embedding, to enrol it; None when it is gone."""
        for identity in self._tracks.values():
            if identity.public == public and identity.best is not None and identity.fused_D is not None:
                return identity.best, identity.fused_D
        return None
