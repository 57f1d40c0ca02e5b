"""What a source of crops has to be able to do, for preparing it.

Enters: nothing. Leaves: the protocols that K-FACE's tree, a folder of photos and a RecordIO file fulfil. A source is
already indexed when it is handed over, and goes to worker processes by pickle; each of them opens a reader of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# S side of a crop, pixels; 3 channels RGB


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source."""

    name: str
    """Unique in the set: ``19062531/S001/L1/E01/C7.jpg``, ``person/file.jpg``."""
    subject: str


@dataclass(frozen=True, slots=True)
class Taken:
    """One crop."""

    crop_SS3: NDArray[np.uint8]
    """RGB."""
    sha256: str
    """Of the source image's bytes, 64 hex digits."""
    note: str = ""
    """What a person should know of this crop although it is used: one phrase, details in brackets at its end."""


class Reader(Protocol):
    """A source that was opened in one process; one thread at a time."""

    def take(self, index: int) -> Taken | str:
        """The crop of ``items[index]``, or why there is none: one phrase, details in brackets at its end.

        Raises:
            TrainError: the source as a whole cannot be read any more.
        """

    def close(self) -> None: ...


class Source(Protocol):
    """Labelled images with one way of cropping them. Picklable."""

    @property
    def items(self) -> Sequence[Item]:
        """In a fixed order: subjects sorted, all of a subject together."""

    @property
    def refused(self) -> Mapping[str, str]:
        """What was found unusable at indexing: name -> reason (missing, damaged, a second zip of a person)."""

    @property
    def expected(self) -> int | None:
        """Images that the selection promises; None where nothing is promised."""

    @property
    def template(self) -> str:
        """Alignment template of the crops, or ``kface_box``."""

    @property
    def size(self) -> int:
        """Side of a crop, pixels."""

    @property
    def digest(self) -> str:
        """Changes when the source or the way of cropping does."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the manifest says of it besides, as JSON values: kind, name, selection. ``people_without_images`` are
        subjects that are there without one usable image: they keep their place when people are split."""

    def open(self) -> Reader: ...
