"""One loop over one clip in a process of its own, so that memory and threads of one do not mix with another's.

Enters: a ``Job``. Leaves: a ``Measurement`` with the loop's answers. The child is this module itself: it reads the
job from a file, loads everything, starts to count, runs, and leaves its result in another file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.benchmark.usage import peak_mib, resident_mib
from realtime.benchmark.answers import Answer
from realtime.benchmark.loops import LOOPS, Job
from realtime.errors import EngineError, RealtimeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a loop did and used between its first frame and its last; models were loaded before."""

    loop: str
    answers: tuple[Answer, ...]
    wall_s: float
    cpu_s: float
    """User and system time of all threads."""
    loaded_mb: float | None
    """Resident memory when counting started."""
    end_mb: float | None
    peak_mb: float | None
    """Greatest of the whole process, loading included."""

    @property
    def frames(self) -> int:
        return len(self.answers)

    @property
    def wall_fps(self) -> float:
        return self.frames / self.wall_s

    @property
    def cpu_fps(self) -> float:
        """Frames a CPU second."""
        return self.frames / self.cpu_s


def measure(job: Job) -> Measurement:
    """Run the job's loop in this process, to its end.

    Raises:
        RealtimeError, EngineError: whatever the loop says is wrong.
    """
    run = LOOPS[job.loop].prepare(job)
    loaded_mb = resident_mib()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    answers = tuple(run())
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    if not answers:
        raise RealtimeError(f"{job.clip}: the {LOOPS[job.loop].title} saw no frame of it; is it a video file?")
    return Measurement(
        loop=job.loop,
        answers=answers,
        wall_s=wall_s,
        cpu_s=cpu_s,
        loaded_mb=loaded_mb,
        end_mb=resident_mib(),
        peak_mb=peak_mib(),
    )


def measure_apart(job: Job) -> Measurement:
    """As ``measure``, in a new process.

    Raises:
        RealtimeError: the loop's own error, or that its process died.
    """
    with tempfile.TemporaryDirectory(prefix="realtime-bench-") as folder:
        order, result = Path(folder) / "job.json", Path(folder) / "result.json"
        order.write_text(json.dumps(job.to_json()), encoding="utf-8")
        child = subprocess.run(
            [sys.executable, "-m", "realtime.benchmark.measure", str(order), str(result)], check=False
        )
        if not result.exists():
            raise RealtimeError(
                f"{LOOPS[job.loop].title}: its process ended with code {child.returncode}; what it said stands above"
            )
        values: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if "error" in values:
        raise RealtimeError(f"{LOOPS[job.loop].title}: {values['error']}")
    answers = tuple(Answer.from_json(answer) for answer in values.pop("answers"))
    return Measurement(answers=answers, **values)


def _child(order: Path, result: Path) -> None:
    job = Job.from_json(json.loads(order.read_text(encoding="utf-8")))
    values: dict[str, Any]
    try:
        found = measure(job)
    except (RealtimeError, EngineError) as err:
        values = {"error": str(err)}
    else:
        values = {name: getattr(found, name) for name in Measurement.__slots__ if name != "answers"}
        values["answers"] = [answer.to_json() for answer in found.answers]
    result.write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    _child(Path(sys.argv[1]), Path(sys.argv[2]))
