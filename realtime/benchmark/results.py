"""What a bench found, ready for a table and for JSON.

Enters: the measurements of several runs of each loop. Leaves: a ``Row`` a loop, and the ``Bench`` of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from engines.benchmark.usage import machine
from realtime.benchmark.measure import Measurement
from realtime.benchmark.summary import Summary, summarise
from realtime.benchmark.truth import Score, Truth, score

BASELINE: Final = "recipe"
"""The loop that the others are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One loop: medians over its runs, and the answers of its worst run (most wrong names, then fewest right)."""

    loop: str
    runs: int
    frames: int
    wall_fps: float
    cpu_fps: float
    loaded_mb: float | None
    end_mb: float | None
    peak_mb: float | None
    summary: Summary
    score: Score | None
    steady: bool
    """All runs gave the same answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    clip: str
    width: int
    height: int
    people: tuple[str, ...]
    rows: tuple[Row, ...]

    def ratio(self, row: Row, measure: str) -> float | None:
        """``wall_fps`` or ``cpu_fps`` of a row over the baseline's; None where the baseline was not run."""
        for other in self.rows:
            if other.loop == BASELINE:
                return float(getattr(row, measure) / getattr(other, measure))
        return None

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": machine(),
            "clip": self.clip,
            "width": self.width,
            "height": self.height,
            "people": list(self.people),
            "baseline": BASELINE,
            "loops": [
                {
                    **asdict(row),
                    "wall_ratio": self.ratio(row, "wall_fps"),
                    "cpu_ratio": self.ratio(row, "cpu_fps"),
                }
                for row in self.rows
            ],
        }


def row_of(loop: str, runs: Sequence[Measurement], truth: Truth | None, names: Mapping[str, str]) -> Row:
    """Medians of the runs of one loop, and its worst answers."""
    worst, worst_score = runs[0], None
    if truth is not None:
        scores = [score(run.answers, truth, names) for run in runs]
        worst_score = max(scores, key=lambda found: (len(found.wrong), -found.right))
        worst = runs[scores.index(worst_score)]
    return Row(
        loop=loop,
        runs=len(runs),
        frames=worst.frames,
        wall_fps=median(run.wall_fps for run in runs),
        cpu_fps=median(run.cpu_fps for run in runs),
        loaded_mb=_median(run.loaded_mb for run in runs),
        end_mb=_median(run.end_mb for run in runs),
        peak_mb=_median(run.peak_mb for run in runs),
        summary=summarise(worst.answers),
        score=worst_score,
        steady=all(run.answers == runs[0].answers for run in runs),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
