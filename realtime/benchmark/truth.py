"""Who is where in every frame of a clip, and how right a loop's answers are.

Enters: a truth file (JSON: ``size`` of the clip's frames, ``cuts``, ``frames`` with ``box`` and ``who`` of each face)
and the answers of a loop. Leaves: a ``Score``: frames named right, names that are wrong and how, time to the first
name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from realtime.benchmark.answers import Answer, Box
from realtime.errors import RealtimeError
from realtime.faces.assignment import assign
from realtime.faces.boxes import iou

STRANGER: Final = "stranger"
"""``who`` of a face that must never get a name."""

MATCH_IOU: Final = 0.3
"""Overlap from which a box stands on a truth face. Our boxes are square, brow to chin; the truth's (YuNet) are tall,
hair to chin: on the Hamilton clip a HOG box and the truth of the same face overlap by .48 to .78, two truth faces by
at most .14, a HOG box and somebody else's truth by 0. Between the two there is room for the drift of a tracked
box."""

WrongKind = Literal["other person", "stranger", "no face", "twice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthFace:
    """``box`` xyxy pixels of the truth's own size; ``who`` None for an unsure box: a name there counts neither way."""

    box: Box
    who: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    width: int
    height: int
    cuts: tuple[int, ...]
    """First frames of new scenes, rising."""
    frames: tuple[tuple[TruthFace, ...], ...]

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody with an identity, in order of appearance."""
        whos = (face.who for faces in self.frames for face in faces if face.who not in (None, STRANGER))
        return tuple(dict.fromkeys(who for who in whos if who is not None))

    @property
    def scenes(self) -> tuple[tuple[int, int], ...]:
        """First and last frame of each scene, both inclusive."""
        starts = [0, *self.cuts]
        ends = [start - 1 for start in self.cuts] + [len(self.frames) - 1]
        return tuple(zip(starts, ends, strict=True))


def load_truth(path: Path) -> Truth:
    """Read and check a truth file.

    Raises:
        RealtimeError: missing, not JSON, or not of the form that this module's docstring gives.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        width, height = values["size"]
        frames: list[tuple[TruthFace, ...]] = []
        for index, frame in enumerate(values["frames"]):
            if frame["frame"] != index:
                raise ValueError(f"frame {frame['frame']} stands where frame {index} belongs")
            frames.append(tuple(_face(face) for face in frame["faces"]))
        cuts = tuple(int(cut) for cut in values.get("cuts", ()))
        if list(cuts) != sorted({cut for cut in cuts if 0 < cut < len(frames)}):
            raise ValueError(f"cuts {list(cuts)} must rise between 0 and {len(frames)}")
        return Truth(width=int(width), height=int(height), cuts=cuts, frames=tuple(frames))
    except OSError as err:
        raise RealtimeError(f"{path}: cannot be read ({err.strerror}); give the truth file of the clip") from err
    except (ValueError, KeyError, TypeError) as err:
        raise RealtimeError(
            f"{path}: not a truth file ({err!s}); expected size, cuts and frames with box and who"
        ) from err


def _face(values: Mapping[str, Any]) -> TruthFace:
    x1, y1, x2, y2 = (float(edge) for edge in values["box"])
    who = values["who"]
    if not (who is None or isinstance(who, str)):
        raise ValueError(f"who is {who!r}")
    return TruthFace(box=(x1, y1, x2, y2), who=who)


def pair_names(people: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Which enrolled name is which person of the truth: equal, or one of the name's words, in any case.

    Returns:
        Enrolled name -> person of the truth; names of nobody in the truth are left out.

    Raises:
        RealtimeError: a name could be two people, or two names are one person.
    """
    pairs: dict[str, str] = {}
    people = list(people)
    for name in names:
        words = {name.casefold(), *name.casefold().replace("-", " ").split()}
        fitting = [who for who in people if who.casefold() in words]
        if len(fitting) > 1 or (fitting and fitting[0] in pairs.values()):
            raise RealtimeError(f"--photo {name}=...: cannot tell which of {', '.join(people)} of the truth this is")
        if fitting:
            pairs[name] = fitting[0]
    return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneScore:
    first: int
    last: int
    present: int
    """Frames of the scene in which the truth has the person."""
    right: int
    """Of those, frames in which the person's own face carries the person's name."""
    boxed: int
    """Of those, frames in which any box stands on the face: what detection and tracking leave to recognition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonScore:
    who: str
    scenes: tuple[SceneScore, ...]
    """Scenes in which the person is present."""
    seconds_to_name: float | None
    """From the first frame with the person to the first with the right name on them; None: never named."""

    @property
    def present(self) -> int:
        return sum(scene.present for scene in self.scenes)

    @property
    def right(self) -> int:
        return sum(scene.right for scene in self.scenes)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongName:
    frame: int
    name: str
    kind: WrongKind
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    people: tuple[PersonScore, ...]
    wrong: tuple[WrongName, ...]
    """Every name that stands where it should not; ``twice`` comes on top, once for a name on two faces of a frame."""
    unsure: int
    """Names on boxes that the truth is not sure of; neither right nor wrong."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Wrong names by kind."""

    @property
    def wrong_frames(self) -> int:
        return len({wrong.frame for wrong in self.wrong})

    @property
    def right(self) -> int:
        return sum(person.right for person in self.people)

    @property
    def present(self) -> int:
        return sum(person.present for person in self.people)


def score(answers: Sequence[Answer], truth: Truth, names: Mapping[str, str]) -> Score:
    """Compare a loop's answers with the truth; a frame that the loop left out counts as one without names.

    Args:
        answers: one a frame at most; boxes are in pixels of their own frame size.
        truth: of the same clip; its boxes are scaled to each answer's frame.
        names: enrolled name -> person of the truth; other names are wrong on whomever they stand.
    """
    right: set[tuple[int, str]] = set()
    boxed: set[tuple[int, str]] = set()
    wrong: list[WrongName] = []
    unsure = 0
    for answer in answers:
        truth_faces = truth.frames[answer.frame] if answer.frame < len(truth.frames) else ()
        for shown, owner in zip(answer.faces, owners(answer, truth_faces, truth), strict=True):
            if owner is not None and owner.who is not None:
                boxed.add((answer.frame, owner.who))
            if shown.name is None:
                continue
            if owner is not None and owner.who is None:
                unsure += 1
            elif owner is not None and owner.who == names.get(shown.name):
                right.add((answer.frame, owner.who or ""))
            else:
                wrong.append(WrongName(frame=answer.frame, name=shown.name, kind=_kind(owner), box=shown.box))
        counts = Counter(shown.name for shown in answer.faces if shown.name is not None)
        for name in (name for name, count in counts.items() if count > 1):
            box = next(shown.box for shown in answer.faces if shown.name == name)
            wrong.append(WrongName(frame=answer.frame, name=name, kind="twice", box=box))
    times_s = {answer.frame: answer.time_s for answer in answers}
    return Score(
        people=tuple(_person(who, truth, right, boxed, times_s) for who in truth.people if who in names.values()),
        wrong=tuple(wrong),
        unsure=unsure,
        counts=dict(Counter(entry.kind for entry in wrong)),
    )


def _kind(owner: TruthFace | None) -> WrongKind:
    if owner is None:
        return "no face"
    return "stranger" if owner.who == STRANGER else "other person"


def owners(answer: Answer, faces: Sequence[TruthFace], truth: Truth) -> list[TruthFace | None]:
    """The truth face under each shown box, one-to-one, of greatest total overlap."""
    found: list[TruthFace | None] = [None] * len(answer.faces)
    if not faces or not answer.faces:
        return found
    scale_4 = np.array([answer.width / truth.width, answer.height / truth.height] * 2, dtype=np.float32)
    overlaps_NM = iou(
        np.array([shown.box for shown in answer.faces], dtype=np.float32),
        np.array([face.box for face in faces], dtype=np.float32) * scale_4,
    )
    usable_NM = np.where(overlaps_NM >= MATCH_IOU, overlaps_NM, 0.0)
    for row, column in assign(usable_NM):
        if usable_NM[row, column] > 0:
            found[row] = faces[column]
    return found


def _person(
    who: str, truth: Truth, right: set[tuple[int, str]], boxed: set[tuple[int, str]], times_s: Mapping[int, float]
) -> PersonScore:
    present = [index for index, faces in enumerate(truth.frames) if any(face.who == who for face in faces)]
    scenes = []
    for first, last in truth.scenes:
        here = [index for index in present if first <= index <= last]
        if here:
            scenes.append(
                SceneScore(
                    first=first,
                    last=last,
                    present=len(here),
                    right=sum((index, who) in right for index in here),
                    boxed=sum((index, who) in boxed for index in here),
                )
            )
    named = [index for index in present if (index, who) in right]
    start_s = next((times_s[index] for index in present if index in times_s), None)
    seconds = times_s[named[0]] - start_s if named and start_s is not None else None
    return PersonScore(who=who, scenes=tuple(scenes), seconds_to_name=seconds)
