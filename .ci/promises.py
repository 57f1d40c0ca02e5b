"""Holds a bench of the measurement clip to what the project promises; exits with 1 and the broken ones.

Enters: JSON files of ``realtime bench --json`` and ``realtime bench --engines --json``; or, after ``--iresnet50``, one
of ``python -m engines bench``; or, after ``--training``, the log of a run. Who is named and what is learned is held to;
speed is said, kept or missed, and judged by a person: ratios of one run move with the neighbours of a shared machine.
"""

import json
import sys
from pathlib import Path

WALL, CPU = 7.0, 4.0
"""Times the quick webcam recipe, in frames a wall second and a CPU second."""

PERSON, SCENE, NAMED = "miranda", (82, 210), 122
"""Frames of this scene's 129 in which this person's own face carries his name."""

EMBED, DETECT = 10.0, 15.0
"""Times the dlib wheel, for one embedding and for the CNN detector at 640x480, on a machine with AVX-512."""


LEARNED = 0.1
"""By how much the intervals of accuracy before and after training stay apart."""

IRESNET50 = {"openvino bf16": 2.0, "openvino int8": 3.0}
"""Times the faces a second of torch eager, on a machine with AVX-512."""


def iresnet50(bench_file: str) -> int:
    """Only says what was kept."""
    rows = json.loads(Path(bench_file).read_text())["rows"]
    for row in rows:
        if (least := IRESNET50.get(row["engine"])) is not None and has_avx512():
            kept = "kept  " if row["speed_up"] >= least else "missed"
            sys.stdout.write(f"{kept} {row['task']}, {row['engine']}: {row['speed_up']:.1f} times torch eager, ")
            sys.stdout.write(f"{least:g} promised\n")
    return 0


def training(log_file: str) -> int:
    """People never seen are told apart well above a network that has learned nothing."""
    lines = [json.loads(line) for line in Path(log_file).read_text().splitlines()]
    found = [line["sets"]["val"] for line in lines if line["kind"] == "evaluate"]
    before, after = found[0], found[-1]
    kept = after["low"] > before["high"] + LEARNED
    sys.stdout.write(f"{'kept  ' if kept else 'broken'} accuracy on people never seen: ")
    sys.stdout.write(f"{before['value']:.3f} [{before['low']:.3f}, {before['high']:.3f}] before, ")
    sys.stdout.write(f"{after['value']:.3f} [{after['low']:.3f}, {after['high']:.3f}] after\n")
    return 0 if kept else 1


def main(bench_file: str, engines_file: str) -> int:
    bench = json.loads(Path(bench_file).read_text())
    row = next(row for row in bench["loops"] if row["loop"] == "pipeline")
    person = next(person for person in row["score"]["people"] if person["who"] == PERSON)
    scene = next(scene for scene in person["scenes"] if scene["first"] == SCENE[0])
    speeds = [
        (f"{row['wall_ratio']:.1f} times the recipe a wall second, {WALL:g} promised", row["wall_ratio"] >= WALL),
        (f"{row['cpu_ratio']:.1f} times the recipe a CPU second, {CPU:g} promised", row["cpu_ratio"] >= CPU),
    ]
    checks = [
        (f"{len(row['score']['wrong'])} wrong names", not row["score"]["wrong"]),
        (f"{scene['right']} of {scene['present']} frames named", scene["right"] >= NAMED),
    ]
    engines = json.loads(Path(engines_file).read_text())["engines"]
    for task, least in (("embed 1", EMBED), ("detect 640x480", DETECT)):
        best = max(row["speed_up"] for row in engines if row["task"] == task)
        kept = best >= least or not has_avx512()
        speeds.append((f"{task}: {best:.1f} times the dlib wheel, {least:g} promised", kept))
    for text, kept in speeds:
        sys.stdout.write(f"{'kept  ' if kept else 'missed'} {text}\n")
    for text, kept in checks:
        sys.stdout.write(f"{'kept  ' if kept else 'BROKEN'} {text}\n")
    failed = sum(not kept for _, kept in checks)
    sys.stdout.write(f"{len(checks) - failed} passed, {failed} failed in 0.0s\n")
    return int(failed > 0)


def has_avx512() -> bool:
    """The speed of the networks was promised for such a machine only."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "avx512f" in cpuinfo.read_text()


if __name__ == "__main__":
    others = {"--iresnet50": iresnet50, "--training": training}
    sys.exit(others[sys.argv[1]](sys.argv[2]) if sys.argv[1] in others else main(*sys.argv[1:]))
