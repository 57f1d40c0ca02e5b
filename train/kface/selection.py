"""Which images of K-FACE are wanted, as a person writes it: ``S001/L1,3/E1-3/C6-9``.

Enters: that text. Leaves: a ``Selection`` that knows its conditions in order and its canonical text. A part that is
left out, or ``*``, means all. Numbers may be padded with zeros, and repeat the letter: ``E01-E03`` is ``E1-3``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

from train.errors import ConfigError
from train.kface.codes import ACCESSORIES, CAMERAS, EXPRESSIONS, LIGHTS, Condition

TUTORIAL: Final = "S001/L1,3/E1-3/C6-9"
"""24 images a person."""

PARTS: Final[Mapping[str, tuple[str, Mapping[int, object]]]] = {
    "S": ("accessories", ACCESSORIES),
    "L": ("lights", LIGHTS),
    "E": ("expressions", EXPRESSIONS),
    "C": ("cameras", CAMERAS),
}

MAX_TEXT: Final = 1000
"""Characters; naming all 59 codes one by one takes 200."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Sorted numbers without repetition, at least one of each."""

    accessories: tuple[int, ...]
    lights: tuple[int, ...]
    expressions: tuple[int, ...]
    cameras: tuple[int, ...]

    def __len__(self) -> int:
        """Images a person."""
        return len(self.accessories) * len(self.lights) * len(self.expressions) * len(self.cameras)

    def conditions(self) -> tuple[Condition, ...]:
        """By accessory, light, expression, camera; the last changes fastest."""
        return tuple(
            Condition(*codes) for codes in product(self.accessories, self.lights, self.expressions, self.cameras)
        )

    def __str__(self) -> str:
        """The shortest text that selects the same."""
        numbers = (self.accessories, self.lights, self.expressions, self.cameras)
        return "/".join(_text(letter, own) for letter, own in zip(PARTS, numbers, strict=True))


def parse_selection(text: str) -> Selection:
    """
    Raises:
        ConfigError: a part that is not understood, a code that does not exist, or a part given twice.
    """
    if len(text) > MAX_TEXT:
        raise ConfigError(f"--select has {len(text)} characters; write ranges, as {TUTORIAL}")
    chosen: dict[str, tuple[int, ...]] = {}
    for part in text.split("/"):
        if (stripped := part.strip()) in ("", "*"):
            continue
        letter = stripped[0].upper()
        if letter not in PARTS:
            raise ConfigError(
                f"--select: {stripped!r} begins with none of S (accessory), L (light), E (expression), C (camera); "
                f"an example is {TUTORIAL}"
            )
        if letter in chosen:
            raise ConfigError(f"--select: {letter} is given twice; write S001,2 for two accessories, and so on")
        chosen[letter] = _numbers(letter, stripped)
    every = {letter: chosen.get(letter, tuple(known)) for letter, (_, known) in PARTS.items()}
    return Selection(every["S"], every["L"], every["E"], every["C"])


def _numbers(letter: str, part: str) -> tuple[int, ...]:
    if part[1:].strip() == "*":
        return tuple(PARTS[letter][1])
    found: set[int] = set()
    for piece in part.split(","):
        found.update(_range(letter, piece.strip(), part))
    return tuple(sorted(found))


def _range(letter: str, piece: str, part: str) -> Iterable[int]:
    plural, known = PARTS[letter]
    matched = re.fullmatch(rf"{letter}?(\d{{1,3}})(?:\s*-\s*{letter}?(\d{{1,3}}))?", piece, re.ASCII | re.IGNORECASE)
    if matched is None:
        raise ConfigError(f"--select: {part!r} has {piece!r}, which is no number and no range; write {letter}1,3-5")
    first = int(matched.group(1))
    last = int(matched.group(2) or first)
    if last < first:
        raise ConfigError(f"--select: {part!r} has {piece!r}, which runs backwards; write {letter}{last}-{first}")
    for number in (first, last):
        if number not in known:
            raise ConfigError(
                f"--select: {part!r} has {letter}{number}; {plural} are {letter}1 to {letter}{len(known)}"
            )
    return range(first, last + 1)


def _text(letter: str, numbers: tuple[int, ...]) -> str:
    if len(numbers) == len(PARTS[letter][1]):
        return f"{letter}*"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return letter + ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
