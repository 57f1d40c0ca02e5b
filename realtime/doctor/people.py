"""The gallery: who is in it, and whether this model can search it.

Enters: its path and the model's manifest. Leaves: findings. Makes and changes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from engines.manifest import Manifest
from realtime.doctor.report import Finding
from realtime.errors import GalleryError
from realtime.people.gallery import Gallery, default_gallery_path

MANY_PEOPLE: Final = 100
"""At a false match rate of 1e-5 a comparison, a stranger finds a namesake among 100 people once in 1,000 looks."""


def examine_gallery(path: Path, manifest: Manifest | None) -> Iterator[Finding]:
    """Open it as the program would; ``manifest`` None where the model itself could not be had."""
    if not path.exists():
        yield Finding(topic="gallery", name="file", value=f"{path}, not made yet", state="note", advice=_EMPTY_ADVICE)
        return
    try:
        with Gallery.open(path, manifest, create=False, read_only=True) as gallery:
            people = gallery.people()
            made_with = gallery.manifest
    except GalleryError as err:
        yield Finding(topic="gallery", name="file", value=f"{path}, not usable", state="problem", advice=str(err))
        return
    references = sum(person.references for person in people)
    if not people:
        yield Finding(topic="gallery", name="file", value=f"{path}, empty", state="note", advice=_EMPTY_ADVICE)
        return
    value = f"{path}: {_count(len(people), 'person', 'people')}, {_count(references, 'reference', 'references')}"
    yield Finding(topic="gallery", name="file", value=value)
    if made_with is not None:
        yield Finding(topic="gallery", name="made with", value=f"{made_with.name}, alignment {made_with.template}")
    yield from _advice(len(people), references, made_with)


def _advice(people: int, references: int, made_with: Manifest | None) -> Iterator[Finding]:
    if references < 2 * people:
        advice = "Two or three photos a person are recognised in many more frames: realtime enroll PHOTO... --name NAME"
        value = f"{references / people:.1f} photos a person"
        yield Finding(topic="gallery", name="photos", value=value, state="note", advice=advice)
    if people >= MANY_PEOPLE and made_with is not None and made_with.network.startswith("dlib"):
        advice = (
            "The embedded dlib model is a weak lock for so many people; bring an ArcFace model (see README, Safety)."
        )
        yield Finding(topic="gallery", name="size", value=f"{people} people", state="note", advice=advice)


def is_empty(findings: Sequence[Finding]) -> bool:
    """Whether nobody is enrolled, by what ``examine_gallery`` found."""
    return any(finding.topic == "gallery" and finding.advice == _EMPTY_ADVICE for finding in findings)


def flag(gallery: Path) -> str:
    """What to add to a command so that it uses this gallery; empty for the default one."""
    return "" if gallery == default_gallery_path() else f" --gallery {shlex.quote(str(gallery))}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


_EMPTY_ADVICE: Final = "Nobody is enrolled yet: realtime enroll PHOTO.jpg --name NAME"
