"""What the codes of K-FACE mean: accessory, light, expression, camera, resolution, and a person's eight digits.

Enters: a name such as ``19062531/S001/L1/E01/C7.jpg``. Leaves: a ``Condition``, its yaw, pitch and lux, and the name
again. Sources: KIST's README of k-face/k-face_2019 and the paper (arXiv 2103.02211, tables of section 3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

ACCESSORIES: Final = {
    1: "none",
    2: "glasses",
    3: "horn-rimmed glasses",
    4: "sunglasses",
    5: "cap",
    6: "cap and horn-rimmed glasses",
}

EXPRESSIONS: Final = {1: "neutral", 2: "broad smile", 3: "frown"}


class Light(NamedTuple):
    lux: int
    direction: str
    """``round``, or the axis and angle in degrees it comes from: ``vertical +30``."""


def _lights() -> dict[int, Light]:
    table = [Light(lux, "round") for lux in (1000, 400, 200, 150, 100, 40, 0)]
    table += [Light(lux, f"vertical {angle}") for angle in ("+30", "-15") for lux in (400, 200, 100, 40)]
    table += [
        Light(lux, f"horizontal {angle}") for angle in ("+90", "+45", "0", "-45", "-90") for lux in (400, 200, 100)
    ]
    return dict(enumerate(table, start=1))


LIGHTS: Final = _lights()


class Pose(NamedTuple):
    yaw_deg: int
    """Positive: the camera stands to the subject's left."""
    pitch_deg: int
    """Positive: it looks down."""


CAMERAS: Final = {
    **{number: Pose(90 - 15 * (number - 1), 0) for number in range(1, 14)},
    **{14: Pose(45, 30), 15: Pose(15, 30), 16: Pose(0, 30), 17: Pose(-15, 30), 18: Pose(-45, 30)},
    **{19: Pose(30, -15), 20: Pose(-30, -15)},
}

RESOLUTIONS: Final = {"high": (864, 576), "middle": (346, 230), "low": (173, 115)}
"""Width and height, pixels."""

ANNOTATED_ACCESSORY: Final = 1
ANNOTATED_LIGHTS: Final = (1, 3, 6, 7)
"""Only S001 with these lights has annotations, whatever the expression and the camera."""

_CONDITION = re.compile(r"S(\d{1,3})/L(\d{1,2})/E(\d{1,2})/C(\d{1,2})", re.ASCII)
_NAME = re.compile(r"(?:.*/)?(\d{8})/(S\d{3}/L\d{1,2}/E\d\d/C\d{1,2})\.jpg", re.ASCII)
_SUBJECT = re.compile(r"(\d{8})(?!\d)", re.ASCII)


class Condition(NamedTuple):
    """How one image was taken. Sorts by number, not by text: C9 before C10."""

    accessory: int
    light: int
    expression: int
    camera: int

    @property
    def stem(self) -> str:
        """Where its files lie in a person's zip, without suffix: ``S001/L1/E01/C7``."""
        return f"S{self.accessory:03d}/L{self.light}/E{self.expression:02d}/C{self.camera}"

    @property
    def annotated(self) -> bool:
        """Whether the release has an annotation of it."""
        return self.accessory == ANNOTATED_ACCESSORY and self.light in ANNOTATED_LIGHTS

    @property
    def lux(self) -> int:
        return LIGHTS[self.light].lux

    @property
    def pose(self) -> Pose:
        return CAMERAS[self.camera]


REFERENCE: Final = Condition(1, 1, 1, 7)
"""Nothing worn, 1000 lux from all sides, neutral, frontal."""


@dataclass(frozen=True, slots=True)
class SubjectId:
    """The eight digits of a person: YYMMDD of the session, rig 1 to 4, place in that day's order."""

    date: str
    rig: int
    order: int


def subject_id(text: str) -> SubjectId:
    """
    Raises:
        ValueError: not eight digits.
    """
    if not re.fullmatch(r"\d{8}", text, re.ASCII):
        raise ValueError(f"{text!r} is no K-FACE id; one has eight digits, as 19062531")
    return SubjectId(date=text[:6], rig=int(text[6]), order=int(text[7]))


def subject_of(file_name: str) -> str | None:
    """The id that a file or folder name begins with: also of ``19062531 (1).zip``; None where there is none."""
    found = _SUBJECT.match(file_name)
    return found.group(1) if found else None


def name_of(subject: str, condition: Condition) -> str:
    """``19062531/S001/L1/E01/C7.jpg``: how an image is called in prepared sets and in pair lists."""
    return f"{subject}/{condition.stem}.jpg"


def parse_stem(stem: str) -> Condition | None:
    """``S001/L1/E01/C7``, zero-padded or not; None where it is none, or a code does not exist."""
    found = _CONDITION.fullmatch(stem)
    if found is None:
        return None
    condition = Condition(*(int(digits) for digits in found.groups()))
    known = (
        condition.accessory in ACCESSORIES
        and condition.light in LIGHTS
        and condition.expression in EXPRESSIONS
        and condition.camera in CAMERAS
    )
    return condition if known else None


def parse_name(name: str) -> tuple[str, Condition] | None:
    """Person and condition of an image's name, with or without folders before it; None of other names."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    condition = parse_stem(found.group(2))
    return None if condition is None else (found.group(1), condition)
