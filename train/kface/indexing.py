"""Which of the promised images are there, person by person, before any of them is read.

Enters: homes of people and a selection. Leaves: an ``Indexed``: what is kept, and a reason for everything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from train.errors import ConfigError, DataError
from train.kface.codes import ANNOTATED_LIGHTS, Condition, name_of, parse_name
from train.kface.person import Files, Home, open_files
from train.kface.reuse import donor
from train.kface.selection import Selection
from train.kface.tree import Found


@dataclass(kw_only=True)
class Indexed:
    homes: tuple[Home, ...]
    """One a person, by subject; also of people of whom nothing can be used."""
    kept: tuple[NDArray[np.uint16], ...]
    """Places among the selection's conditions, for each home."""
    refused: dict[str, str]
    identity: str


@dataclass
class _State:
    conditions: Sequence[Condition]
    reuse: bool
    refused: dict[str, str] = field(default_factory=dict)
    bare: set[Condition] = field(default_factory=set)
    """Conditions that have lacked landmarks of everybody until now."""


def index_people(
    found: Found, selection: Selection, *, reuse: bool, progress: Callable[[int, int], object] | None = None
) -> Indexed:
    """
    Args:
        found: homes of all people.
        reuse: whether images without an annotation may get another one's.
        progress: told (people done, people in all).

    Raises:
        ConfigError: selected conditions of which nobody has landmarks.
        DataError: nothing of anybody can be used.
    """
    conditions = selection.conditions()
    state = _State(conditions, reuse, dict(found.passed_over), set(conditions))
    homes: list[Home] = []
    kept: list[NDArray[np.uint16]] = []
    digest = hashlib.sha256()
    for done, subject in enumerate(sorted(found.homes), start=1):
        home, places, identity = _person(found.homes[subject], state)
        homes.append(home)
        kept.append(np.array(places, dtype=np.uint16))
        digest.update(subject.encode() + hashlib.sha256(identity).digest())
        if progress is not None:
            progress(done, len(found.homes))
    if not any(map(len, kept)):
        _refuse_all(state, reuse)
    _refuse_bare(state, selection)
    return Indexed(homes=tuple(homes), kept=tuple(kept), refused=state.refused, identity=digest.hexdigest())


def _person(homes: list[Home], state: _State) -> tuple[Home, list[int], bytes]:
    """The home to read, places of usable conditions, and what changes when the files do."""
    home, trouble = _chosen(homes, state)
    if trouble is None:
        try:
            places, identity = _read(home, state)
            return home, places, identity
        except DataError as err:
            trouble = _short(err, home)
    state.refused.update((name_of(home.subject, condition), trouble) for condition in state.conditions)
    return home, [], trouble.encode()


def _read(home: Home, state: _State) -> tuple[list[int], bytes]:
    files = open_files(home)
    try:
        places = _usable(home.subject, files, state)
        for line in files.passed_over:
            name, _, why = line.partition(": ")
            state.refused[f"{home.where}:{name}"] = why
        return places, files.identity
    finally:
        files.close()


def _chosen(homes: list[Home], state: _State) -> tuple[Home, str | None]:
    """The one home of a person. Copies and unreadable zips are named; two that differ are both refused."""
    if len(homes) == 1:
        return homes[0], None
    readable: dict[bytes, Home] = {}
    broken: dict[str, str] = {}
    for home in homes:
        try:
            files = open_files(home)
        except DataError as err:
            broken[home.where] = _short(err, home)
            continue
        identity = files.identity
        files.close()
        if identity in readable:
            state.refused[home.where] = f"second zip of a person (a copy of {readable[identity].where})"
        else:
            readable[identity] = home
    if not readable:
        return homes[0], None  # its own trouble will be found again, and told for each image
    state.refused.update(broken)
    first, *others = readable.values()
    if others:
        return first, f"person in two zips that differ ({first.where} and {others[0].where}; keep one)"
    return first, None


def _short(err: DataError, home: Home) -> str:
    """The reason without the folders and the advice, which a report has once for all images."""
    reason = str(err).partition("; ")[0].rpartition(f"{home.path.name}")[2]
    return f"zip unusable ({home.where}: {reason.partition(': ')[2] or reason})"


def _usable(subject: str, files: Files, state: _State) -> list[int]:
    places: list[int] = []
    for place, condition in enumerate(state.conditions):
        trouble = files.trouble(f"{condition.stem}.jpg")
        landmarks = _landmarks(files, condition, state.reuse)
        if landmarks is None:
            state.bare.discard(condition)
        if (trouble := trouble or landmarks) is None:
            places.append(place)
        else:
            state.refused[name_of(subject, condition)] = trouble
    return places


def _landmarks(files: Files, condition: Condition, reuse: bool) -> str | None:
    """Why there are none, of its own or lent; None where there are."""
    own = files.trouble(f"{condition.stem}.txt")
    if own is None or (reuse and donor(files, condition) is not None):
        return None
    return "annotation missing" if own == "missing" else f"annotation {own}"


def _refuse_bare(state: _State, selection: Selection) -> None:
    """Images that the release never annotates are a mistake of the selection, not damage."""
    bare = [condition for condition in state.conditions if condition in state.bare and not condition.annotated]
    if bare and not state.reuse:
        lights = ", ".join(f"L{light}" for light in ANNOTATED_LIGHTS)
        raise ConfigError(
            f"--select {selection}: of {len(bare)} of its {len(selection)} images a person nobody has landmarks, as of "
            f"{bare[0].stem}; K-FACE annotates S001 with {lights} only: select those, or add --reuse-landmarks"
        )


def _refuse_all(state: _State, reuse: bool) -> None:
    if reuse or any(condition.annotated for condition in state.conditions):
        name, why = next((name, why) for name, why in state.refused.items() if parse_name(name))
        raise DataError(f"no image of the selection can be used: {name}: {why}, and so on; is the download complete?")
