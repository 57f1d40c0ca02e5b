"""Cameras that are not there: what OpenCV would answer, at the seam of ``realtime.capture.webcam.System``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime.capture.webcam import System


class FakeCapture:
    """Gives the pictures of its system, then behaves as unplugged; None among them is a read that fails."""

    def __init__(self, owner: FakeSystem, opened: bool) -> None:
        self._owner = owner
        self._opened = opened
        self.released = False

    def isOpened(self) -> bool:
        return self._opened

    def read(self) -> tuple[bool, Any]:
        assert not self.released, "read after release"
        image = self._owner.pictures.pop(0) if self._owner.pictures else None
        return (image is not None, image)

    def get(self, propId: int) -> float:
        return self._owner.rate

    def release(self) -> None:
        self.released = True


class FakeSystem:
    """One camera, number 0, that can be unplugged (no pictures left) and plugged in again."""

    def __init__(
        self,
        pictures: Sequence[NDArray[np.uint8] | None],
        *,
        there: bool = True,
        usable: bool = True,
        rate: float = 30.0,
    ) -> None:
        self.pictures = list(pictures)
        self.there = there
        self.usable = usable
        self.rate = rate
        self.opened: list[FakeCapture] = []
        self.asked: list[tuple[int, int, list[int]]] = []

    @property
    def system(self) -> System:
        return System(open_capture=self._open, found=lambda: [0] if self.there else [], explain=lambda number: "in use")

    def _open(self, number: int, backend: int, asked: Sequence[int]) -> FakeCapture:
        self.asked.append((number, backend, list(asked)))
        capture = FakeCapture(self, self.there and self.usable and number == 0)
        self.opened.append(capture)
        return capture
