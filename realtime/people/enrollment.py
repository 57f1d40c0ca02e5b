"""A photo becomes a reference, or one sentence that says why not.

Enters: photos with the names of their people. Leaves: for each an ``Accepted`` (and a row in the gallery) or a
``Refused``. A gallery is as good as its worst photo: what is blurred, turned away or somebody else gives wrong names
later, so it is refused here, where the person can still do something about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest
from realtime.capture.photo import find_photos, load_photo, photo_sha256
from realtime.errors import GalleryError, PhotoError
from realtime.faces.analysis import FaceAnalyser, View
from realtime.faces.quality import Quality
from realtime.people.gallery import Gallery
from realtime.people.matching import squared_distances
from realtime.people.names import clean_name, name_key, name_of_file, name_of_folder
from realtime.people.reference import Reference
from realtime.people.reference_crop import ReferenceCrop
from realtime.records import RGB_HW3
from realtime.settings import GallerySettings, Settings

Reason = Literal[
    "unreadable",
    "no name",
    "no face",
    "several faces",
    "too small",
    "too blurred",
    "turned away",
    "somebody else",
    "already there",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accepted:
    """A photo that is now a reference."""

    source: str
    name: str
    reference: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A photo that is not, and why."""

    source: str
    name: str | None
    reason: Reason
    message: str
    """One sentence, with what to do."""


Outcome = Accepted | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One photo and whose it is said to be."""

    path: Path
    name: str | None
    problem: str = ""
    """Why the name could not be had, where it is None."""


def wishes(paths: Sequence[Path], name: str | None = None) -> list[Wish]:
    """What there is to enrol: with ``name``, every photo is that person's; else a photo in a folder of a given folder
    is that folder's, and a loose one is the person whom its file is named after.

    Raises:
        GalleryError: ``name`` cannot be a name.
        PhotoError: a path does not exist, or a folder holds no photos.
    """
    everybody = None if name is None else clean_name(name)
    found: dict[Path, Wish] = {}
    for root in paths:
        for path in find_photos(root):
            found.setdefault(path.absolute(), _wish(path, root, everybody))
    return list(found.values())


def _wish(path: Path, root: Path, everybody: str | None) -> Wish:
    if everybody is not None:
        return Wish(path=path, name=everybody)
    try:
        if path.parent != root and path != root:
            return Wish(path=path, name=name_of_folder(root / path.relative_to(root).parts[0]))
        return Wish(path=path, name=name_of_file(path))
    except GalleryError as err:
        return Wish(path=path, name=None, problem=str(err))


class Enroller:
    """Takes photos into one gallery, one at a time, each in a transaction of its own.

    Args:
        gallery: opened with the analyser's manifest.
        analyser: finds, aligns and embeds.
        settings: what is accepted (``gallery``) and the threshold (``identity``).
        largest: of several faces take the largest.
        force: enrol although another person looks the same.
    """

    def __init__(
        self,
        gallery: Gallery,
        analyser: FaceAnalyser,
        settings: Settings,
        *,
        largest: bool = False,
        force: bool = False,
    ) -> None:
        self._gallery = gallery
        self._analyser = analyser
        self._settings = settings.gallery
        self._threshold = settings.identity.threshold or analyser.manifest.threshold
        self._largest = largest
        self._force = force

    def enroll(self, wish: Wish) -> Outcome:
        """Judge one photo and store it if it is good.

        Raises:
            GalleryError: the gallery cannot be read or written.
        """
        source = str(wish.path)
        if wish.name is None:
            return Refused(source=source, name=None, reason="no name", message=wish.problem)
        name = self._spelling(wish.name)
        try:
            sha256 = photo_sha256(wish.path)
            if name in self._gallery.has_photo(sha256):
                message = f"{source}: is enrolled as {name!r} already; nothing to do"
                return Refused(source=source, name=name, reason="already there", message=message)
            rgb_HW3 = load_photo(wish.path)
        except PhotoError as err:
            return Refused(source=source, name=name, reason="unreadable", message=str(err))
        view = self._the_face(source, name, self._analyser.views(rgb_HW3))
        if isinstance(view, Refused):
            return view
        reference = self._reference(view, rgb_HW3, sha256, wish.path.name)
        if not self._force and (other := self.somebody_else(reference.embedding_D, name)) is not None:
            message = (
                f"{source}: {other}; if both names are one person use that name, if they only look alike add --force"
            )
            return Refused(source=source, name=name, reason="somebody else", message=message)
        self._gallery.add(name, [reference])
        return Accepted(source=source, name=name, reference=reference)

    def somebody_else(self, embedding_D: NDArray[np.float32], name: str) -> str | None:
        """Who else than ``name`` is nearer than the threshold, in words; None where nobody is."""
        references = self._gallery.references()
        names = np.array([name_key(each) for each in references.names])
        others_M = names[references.persons_M] != name_key(name) if len(references) else np.zeros(0, dtype=bool)
        if not others_M.any():
            return None
        distances_M = np.where(others_M, squared_distances(embedding_D[None], references)[0], np.inf)
        nearest = int(distances_M.argmin())
        if distances_M[nearest] >= self._threshold:
            return None
        who = references.names[references.persons_M[nearest]]
        return (
            f"looks like {who!r}, who is enrolled (distance {distances_M[nearest]:.3f}, below the threshold "
            f"{self._threshold:.3f})"
        )

    def _spelling(self, name: str) -> str:
        """As the gallery has it: ``ana`` is the Ana who is there."""
        rows = self._gallery.query("SELECT name FROM people WHERE name_key = ?", name_key(name))
        return str(rows[0][0]) if rows else name

    def _the_face(self, source: str, name: str, views: list[View]) -> View | Refused:
        if not views:
            message = f"{source}: no face was found; use a photo where it is larger, upright and turned to the camera"
            return Refused(source=source, name=name, reason="no face", message=message)
        if len(views) > 1 and not self._largest:
            message = f"{source}: {len(views)} faces are in it; cut the photo, or add --largest to take the largest one"
            return Refused(source=source, name=name, reason="several faces", message=message)
        problem = quality_problem(views[0].quality, self._settings)
        if problem is not None:
            return Refused(source=source, name=name, reason=problem[0], message=f"{source}: {problem[1]}")
        return views[0]

    def _reference(self, view: View, rgb_HW3: RGB_HW3, sha256: str, source: str) -> Reference:
        embedding_D = self._analyser.embed([view.crop_SS3])[0]
        return reference_of_view(
            view, embedding_D, self._analyser.manifest, self._settings, source=source, rgb_HW3=rgb_HW3, sha256=sha256
        )


def quality_problem(quality: Quality, settings: GallerySettings) -> tuple[Reason, str] | None:
    """Why a view is too poor to be compared with for years, or None."""
    if quality.size_px < settings.min_face_px:
        return "too small", (
            f"the face is {quality.size_px:.0f} pixels wide, {settings.min_face_px} are needed; use a larger photo"
        )
    if quality.sharpness < settings.min_sharpness:
        return "too blurred", (
            f"the face is blurred (sharpness {quality.sharpness:.0f}, {settings.min_sharpness:.0f} is needed); "
            "use a sharper photo"
        )
    if abs(quality.yaw_deg) > settings.max_yaw_deg:
        return "turned away", (
            f"the face is turned {abs(quality.yaw_deg):.0f} degrees to the side, {settings.max_yaw_deg:.0f} are "
            "allowed; use a photo that looks at the camera"
        )
    return None


def reference_of_view(
    view: View,
    embedding_D: NDArray[np.float32],
    manifest: Manifest,
    settings: GallerySettings,
    *,
    source: str,
    rgb_HW3: RGB_HW3 | None = None,
    sha256: str | None = None,
) -> Reference:
    """A view on its way into the gallery.

    Args:
        view: the face as it was found.
        embedding_D: of it, or of its whole track.
        manifest: of the model that embedded it.
        settings: whether to keep the crop.
        source: file or camera, for people.
        rgb_HW3: the picture it was found in; without it the kept crop has no margin for other templates.
        sha256: of the photo's bytes; of the crop where there is no photo.
    """
    crop = None
    if settings.store_crops and rgb_HW3 is not None:
        crop = ReferenceCrop.of(rgb_HW3, view.points_P2, manifest.template)
    elif settings.store_crops:
        crop = ReferenceCrop.of_aligned(view.crop_SS3, view.points_P2, manifest.template)
    return Reference(
        embedding_D=np.ascontiguousarray(embedding_D, dtype=np.float32),
        photo_sha256=sha256 or hashlib.sha256(np.ascontiguousarray(view.crop_SS3).tobytes()).hexdigest(),
        source=source.encode("utf-8", "replace").decode(),  # a file's name may be no text
        quality=view.quality.weight,
        size_px=view.quality.size_px,
        sharpness=view.quality.sharpness,
        yaw_deg=view.quality.yaw_deg,
        crop=crop,
    )


def as_json_line(outcome: Outcome) -> dict[str, Any]:
    """The line of ``enroll --json``."""
    accepted = isinstance(outcome, Accepted)
    return {
        "source": outcome.source,
        "name": outcome.name,
        "accepted": accepted,
        "reason": None if isinstance(outcome, Accepted) else outcome.reason,
        "message": None if isinstance(outcome, Accepted) else outcome.message,
    }
