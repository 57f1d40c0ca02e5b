"""From measurements to the table and the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.bench import bench, make_gallery
from realtime.benchmark.answers import Answer, Shown
from realtime.benchmark.loops import LOOPS, Job
from realtime.benchmark.measure import Measurement
from realtime.benchmark.report import aligned, report
from realtime.benchmark.summary import summarise
from realtime.benchmark.truth import STRANGER, Truth, TruthFace
from realtime.errors import PhotoError, RealtimeError
from realtime.settings import Settings

BOX = (10.0, 10.0, 50.0, 60.0)
OTHER = (100.0, 10.0, 140.0, 60.0)
TRUTH = Truth(
    width=320,
    height=240,
    cuts=(2,),
    frames=((TruthFace(box=BOX, who="ana"), TruthFace(box=OTHER, who=STRANGER)),) * 4,
)
PHOTOS = [("Ana", Path("ana.jpg"))]


def measurement(loop: str, wall_s: float, names: list[str | None], *, stranger: str | None = None) -> Measurement:
    answers = tuple(
        Answer(
            frame=index,
            time_s=index / 10,
            width=320,
            height=240,
            faces=(Shown(box=BOX, name=name), Shown(box=OTHER, name=stranger)),
        )
        for index, name in enumerate(names)
    )
    return Measurement(
        loop=loop, answers=answers, wall_s=wall_s, cpu_s=2 * wall_s, loaded_mb=100, end_mb=110, peak_mb=None
    )


def runs() -> Iterator[tuple[str, Measurement]]:
    """Three rounds of two loops; the pipeline's second round is slow and names a stranger."""
    yield "pipeline", measurement("pipeline", 1.0, [None, "Ana", "Ana", "Ana"])
    yield "recipe", measurement("recipe", 8.0, [None] * 4)
    yield "pipeline", measurement("pipeline", 9.0, [None, "Ana", "Ana", "Ana"], stranger="Ana")
    yield "recipe", measurement("recipe", 8.0, [None] * 4)
    yield "pipeline", measurement("pipeline", 2.0, [None, "Ana", "Ana", "Ana"])
    yield "recipe", measurement("recipe", 8.0, [None] * 4)


def run_bench(truth: Truth | None) -> tuple[object, list[str]]:
    script = runs()
    asked: list[str] = []

    def run(job: Job) -> Measurement:
        loop, found = next(script)
        asked.append(job.loop)
        assert job.loop == loop
        return found

    told: list[str] = []
    found = bench(
        Path("clip.mp4"),
        PHOTOS,
        Path("people.sqlite"),
        truth=truth,
        loops=("pipeline", "recipe"),
        repeat=3,
        run=run,
        progress=told.append,
    )
    assert len(told) == len(asked) == 6
    return found, asked


def test_loops_take_turns_and_medians_are_taken() -> None:
    found, asked = run_bench(TRUTH)
    assert asked == ["pipeline", "recipe"] * 3
    pipeline = found.rows[0]  # type: ignore[attr-defined]
    assert pipeline.wall_fps == pytest.approx(2.0)
    assert pipeline.cpu_fps == pytest.approx(1.0)
    assert found.ratio(pipeline, "wall_fps") == pytest.approx(4.0)  # type: ignore[attr-defined]


def test_the_worst_run_is_shown_and_said_to_differ() -> None:
    found, _ = run_bench(TRUTH)
    pipeline, recipe = found.rows  # type: ignore[attr-defined]
    assert pipeline.score.counts == {"stranger": 4, "twice": 3}
    assert not pipeline.steady
    assert recipe.steady
    text = report(found)  # type: ignore[arg-type]
    assert "this pipeline: its runs gave different answers" in text
    assert "webcam recipe: its runs" not in text
    assert "this pipeline, frame 0: Ana on stranger at (100, 10)" in text
    assert "and 4 more" in text


def test_the_table_has_a_line_for_each_loop_in_each_part() -> None:
    text = report(run_bench(TRUTH)[0])  # type: ignore[arg-type]
    for title in ("this pipeline", "webcam recipe"):
        assert sum(line.startswith(title + "  ") for line in text.splitlines()) == 3
    assert "ana 0-1" in text
    assert "1/2" in text
    assert "320x240, 4 frames" in text


def test_without_truth_it_tells_how_much_was_named() -> None:
    found, _ = run_bench(None)
    text = report(found)  # type: ignore[arg-type]
    assert "wrong names" not in text
    assert "first name after" in text
    assert "37.5%" in text  # three of eight boxes


def test_json_holds_everything() -> None:
    values = json.loads(json.dumps(run_bench(TRUTH)[0].to_json()))  # type: ignore[attr-defined]
    assert set(values) == {"machine", "clip", "width", "height", "people", "baseline", "loops"}
    first = values["loops"][0]
    assert first["loop"] == "pipeline"
    assert first["wall_ratio"] == pytest.approx(4.0)
    assert first["peak_mb"] is None
    assert first["score"]["people"][0]["scenes"][0] == {"first": 0, "last": 1, "present": 2, "right": 1, "boxed": 2}
    assert first["summary"]["names"] == {"Ana": 4}


def test_names_that_do_not_fit_the_truth_stop_it_before_anything_runs() -> None:
    def run(job: Job) -> Measurement:
        raise AssertionError("ran")

    with pytest.raises(RealtimeError, match="cannot tell which"):
        bench(
            Path("clip.mp4"),
            [("Ana One", Path("a.jpg")), ("Ana Two", Path("b.jpg"))],
            Path("g"),
            truth=TRUTH,
            loops=tuple(LOOPS),
            run=run,
        )


def test_a_summary_counts_frames_faces_and_names() -> None:
    found = summarise(measurement("pipeline", 1.0, [None, None, "Ana", "Ana"]).answers)
    assert (found.frames, found.frames_with_faces, found.frames_with_names) == (4, 4, 2)
    assert (found.faces, found.faces_named, dict(found.names)) == (8, 2, {"Ana": 2})
    assert found.seconds_to_name == pytest.approx(0.2)


def test_a_summary_of_nothing_has_no_times() -> None:
    found = summarise([])
    assert (found.frames, found.first_name_s, found.seconds_to_name) == (0, None, None)


def test_columns_are_aligned() -> None:
    assert list(aligned([["", "x"], ["abc", "10"]])) == ["      x", "abc  10"]


def test_a_photo_without_a_face_makes_no_gallery(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    wall = tmp_path / "wall.png"
    Image.fromarray(np.full((200, 200, 3), 90, dtype=np.uint8)).save(wall)
    with pytest.raises(PhotoError, match="no face"):
        make_gallery([("Nobody", wall)], Settings(), tmp_path / "people.sqlite")
    with pytest.raises(RealtimeError, match="--photo"):
        make_gallery([], Settings(), tmp_path / "people.sqlite")
