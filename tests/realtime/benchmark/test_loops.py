"""The loops on real frames: the peers name the demo's face, and every loop says the same things of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engines.benchmark.usage import machine, machine_line, peak_mib, resident_mib
from realtime.benchmark.loops import LOOPS, Job
from realtime.benchmark.measure import Measurement, measure, measure_apart
from realtime.benchmark.soak import Soak, soak
from realtime.benchmark.summary import summarise
from realtime.capture.demo import DEMO_NAME
from realtime.errors import EngineError, PhotoError, RealtimeError
from tests.realtime.benchmark.conftest import FRAMES


@pytest.mark.parametrize("loop", LOOPS)
def test_every_loop_goes_through_every_frame_and_names_the_face(
    measured: Callable[[str], Measurement], loop: str
) -> None:
    found = measured(loop)
    assert [answer.frame for answer in found.answers] == list(range(FRAMES))
    assert {(answer.width, answer.height) for answer in found.answers} == {(1280, 720)}
    assert [answer.time_s for answer in found.answers] == pytest.approx([k / 30 for k in range(FRAMES)], abs=2e-3)
    assert set(summarise(found.answers).names) == {DEMO_NAME}
    assert found.wall_s > 0
    assert found.cpu_s > 0
    assert found.wall_fps == pytest.approx(FRAMES / found.wall_s)


def test_the_recipe_shows_a_skipped_frame_with_the_boxes_of_the_one_before(
    measured: Callable[[str], Measurement],
) -> None:
    answers = measured("recipe").answers
    assert answers[0].faces
    for even, odd in zip(answers[::2], answers[1::2], strict=True):
        assert even.faces == odd.faces


def test_the_tutorial_looks_at_every_frame(measured: Callable[[str], Measurement]) -> None:
    boxes = [answer.faces[0].box for answer in measured("tutorial").answers]
    assert len(set(boxes)) > 1


@pytest.mark.parametrize("loop", ["recipe", "tutorial"])
def test_a_photo_without_a_face_is_refused(job: Job, loop: str, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    empty = tmp_path / "wall.png"
    Image.fromarray(np.full((200, 200, 3), 90, dtype=np.uint8)).save(empty)
    with pytest.raises(PhotoError, match="no face in the photo of Nobody"):
        measure(replace(job, photos=(("Nobody", str(empty)),)).of(loop))


def test_a_run_apart_is_the_same_run(job: Job, measured: Callable[[str], Measurement]) -> None:
    apart, here = measure_apart(job.of("recipe")), measured("recipe")
    assert [[face.name for face in answer.faces] for answer in apart.answers] == [
        [face.name for face in answer.faces] for answer in here.answers
    ]
    assert apart.loop == "recipe"
    assert apart.peak_mb is None or (apart.loaded_mb is not None and apart.peak_mb >= apart.loaded_mb > 10)


def test_an_error_crosses_the_process(job: Job, tmp_path: Path) -> None:
    text = tmp_path / "clip.mp4"
    text.write_text("not a video")
    with pytest.raises(RealtimeError, match=r"webcam recipe: .*clip\.mp4: OpenCV cannot open it"):
        measure_apart(replace(job, clip=str(text)).of("recipe"))


def test_a_model_that_is_missing_is_said(job: Job, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"none\.onnx"):
        measure(replace(job, overrides=(f"embed.model={tmp_path / 'none.onnx'}",)))


def test_a_job_survives_json(job: Job) -> None:
    wish = replace(job, config="light", overrides=("detect.every=3",))
    assert Job.from_json(wish.to_json()) == wish


def test_a_soak_plays_the_clip_round_and_round(job: Job) -> None:
    if resident_mib() is None:
        pytest.skip("this system does not tell a process its memory")
    seen: list[float] = []
    found = soak(job, 0.05, every_s=0.5, progress=lambda share, mb: seen.append(mb))
    assert found.frames > 0
    assert found.frames + found.drops > 2 * FRAMES
    assert 0 <= found.named <= found.frames
    assert [mb for _, mb in found.samples] == seen
    assert len(seen) >= 3


def test_growth_is_told_from_a_jump_and_from_noise() -> None:
    def of(memory: list[float]) -> Soak:
        samples = tuple((10.0 * k, mb) for k, mb in enumerate(memory))
        return Soak(minutes=1, frames=1, drops=0, named=0, samples=samples)

    leak = of([100 + 0.5 * k for k in range(50)])
    assert leak.growth_mb_per_hour == pytest.approx(180)
    assert leak.growth_mb == pytest.approx(16)
    warm = of([50.0] * 5 + [100.0, 101.0, 100.0, 99.0, 100.0] * 9)
    assert warm.growth_mb == 0
    assert abs(warm.growth_mb_per_hour) < 1


def test_the_machine_is_named() -> None:
    line = machine_line(machine())
    assert "cores" in line
    assert "numpy" in line


def test_the_peak_is_not_below_what_is_held_now() -> None:
    now = resident_mib()
    peak = peak_mib()
    assert now is None or (peak is not None and peak >= now * 0.99)
