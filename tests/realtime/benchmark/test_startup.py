"""The real command is started, shows its first frame, and is stopped; a start that fails says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from realtime.benchmark.startup import LIMIT_S, time_starts
from realtime.errors import RealtimeError


def test_a_start_is_timed_to_the_first_frame(clip: Path, gallery: Path) -> None:
    (seconds,) = time_starts(clip, gallery, starts=1)
    assert 0.05 < seconds < LIMIT_S


def test_a_start_that_fails_says_why(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(RealtimeError, match=r"no frame was shown.*people\.sqlite: no such gallery"):
        time_starts(clip, tmp_path / "people.sqlite")
