"""How long to wait before a lost camera is tried again.

Enters: that a try failed, or worked. Leaves: seconds: 1, 2, 4 ... up to a limit, each a little off, so that cameras
which lost their power together do not come back together.
"""

from __future__ import annotations

import random
from typing import Final

FIRST_S: Final = 1.0
JITTER: Final = 0.2
"""Share by which a wait may be shorter or longer."""


class Backoff:
    """One lost camera's waits."""

    def __init__(self, longest_s: float, *, chance: random.Random | None = None) -> None:
        self._longest_s = longest_s
        self._chance = chance or random.Random()
        self._next_s = FIRST_S

    def next_s(self) -> float:
        """The wait before the next try, seconds; at most the limit."""
        wait_s = self._next_s * self._chance.uniform(1 - JITTER, 1 + JITTER)
        self._next_s = min(self._longest_s, self._next_s * 2)
        return min(wait_s, self._longest_s)

    def reset(self) -> None:
        """It works again: the next loss starts at the shortest wait."""
        self._next_s = FIRST_S
