"""Sources of drawn crops for tests of preparing; they go to worker processes as real sources do."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from train.errors import DataError
from train.source import Item, Taken

FATES = ("no face", "shared", "again", "slow", "killed", "gone", "lost")
"""What ``DrawnSource.wrong`` may say of an image."""


@dataclass(frozen=True, kw_only=True)
class DrawnSource:
    """``people`` x ``images`` crops of noise."""

    people: int = 4
    images: int = 5
    size: int = 8
    wrong: Mapping[int, str] = field(default_factory=dict)
    """Place of an item -> one of FATES."""
    subjects: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    expected: int | None = None
    template: str = "arcface_112"
    slow_s: float = 0.0

    @property
    def items(self) -> Sequence[Item]:
        names = self.subjects or tuple(f"p{person:03d}" for person in range(self.people))
        return [Item(f"{name}/{image:03d}.jpg", name) for name in names for image in range(self.images)]

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.people, self.images, self.size, self.subjects)).encode()).hexdigest()

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"kind": "drawn", "name": "drawn"}

    def open(self) -> DrawnReader:
        return DrawnReader(self)


class DrawnReader:
    def __init__(self, source: DrawnSource) -> None:
        self._source = source

    def take(self, index: int) -> Taken | str:
        fate = self._source.wrong.get(index, "")
        if fate == "no face":
            return "no face found"
        if fate == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "gone":
            raise OSError(5, "Input/output error")
        if fate == "lost":
            raise DataError("the zip is gone; put it back")
        if self._source.slow_s:
            time.sleep(self._source.slow_s)
        seed = {"shared": 10**6, "again": index - 1}.get(fate, index)
        crop = np.random.default_rng(seed).integers(0, 256, (self._source.size,) * 2 + (3,), dtype=np.uint8)
        return Taken(crop, hashlib.sha256(crop.tobytes()).hexdigest())

    def close(self) -> None:
        pass
