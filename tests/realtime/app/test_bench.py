"""``realtime bench`` from the command line: what is asked wrongly is said at once; a small run gives table and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from realtime.app import bench
from realtime.benchmark.clips import render
from realtime.capture.demo import DEMO_NAME, demo_photo
from realtime.errors import RealtimeError, SettingsError
from tests.realtime.benchmark.test_clips import frames


def run(*words: str) -> Result:
    app = typer.Typer()
    bench.register(app)
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A clip of a few grey frames: nobody is in it."""
    path = tmp_path / "grey.mp4"
    render(frames((128, 96)), path)
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--photo", "Ana"], "NAME=FILE"),
        (["--photo", "=ana.jpg"], "NAME=FILE"),
        (["--loops", "pipeline,fastest"], "known are pipeline"),
        (["--upscale", "large"], "expected WIDTHxHEIGHT"),
        (["--repeat", "0"], "repeat"),
        (["--soak", "-1"], "soak"),
    ],
)
def test_wrong_usage_is_code_2(film: Path, words: list[str], said: str) -> None:
    done = run("--clip", str(film), "--photo", f"{DEMO_NAME}={demo_photo()}", *words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_a_clip_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = run("--clip", str(tmp_path / "none.mp4"))
    assert isinstance(done.exception, RealtimeError)
    assert "no such file" in str(done.exception)


def test_a_wrong_setting_is_said_before_anything_runs(film: Path) -> None:
    assert isinstance(run("--clip", str(film), "--set", "detect.evry=3").exception, SettingsError)


def test_detectors_need_the_truth(film: Path) -> None:
    done = run("--clip", str(film), "--detectors")
    assert isinstance(done.exception, SettingsError)
    assert "--truth" in str(done.exception)


def test_detectors_are_compared(film: Path, tmp_path: Path) -> None:
    truth, out = tmp_path / "truth.json", tmp_path / "out.json"
    empty = [{"frame": index, "faces": []} for index in range(6)]
    empty[0]["faces"] = [{"box": [10, 10, 50, 60], "who": "ana"}]
    truth.write_text(json.dumps({"size": [128, 96], "frames": empty}))
    done = run("--clip", str(film), "--detectors", "--truth", str(truth), "--every", "2", "--json", str(out))
    assert done.exit_code == 0, done.output
    rows = json.loads(out.read_text())["detectors"]
    assert [row["kind"] for row in rows] == ["hog", "cnn"]
    for row in rows:
        assert (row["frames"], row["found"], row["present"]) == (
            3,
            {"ana": 0, "stranger": 0},
            {"ana": 1, "stranger": 0},
        )
        assert row["cpu_ms"] > 0
    assert "0/1" in done.output


def test_a_scaled_clip_gives_a_table_and_json(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    photo = f"{DEMO_NAME}={demo_photo()}"
    words = ["--loops", "recipe", "--repeat", "1", "--upscale", "256x192", "--json", str(out)]
    done = run("--clip", str(film), "--photo", photo, *words)
    assert done.exit_code == 0, done.output
    assert "256x192, 6 frames" in done.output
    values = json.loads(out.read_text())
    assert (values["width"], values["height"], values["people"]) == (256, 192, [DEMO_NAME])
    assert [loop["loop"] for loop in values["loops"]] == ["recipe"]
    assert values["loops"][0]["wall_ratio"] == 1.0
    assert values["loops"][0]["summary"]["faces"] == 0


def test_the_demo_is_drawn_when_no_clip_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wired through: the demo's frames, its portrait, and the loops that were asked for."""
    import realtime.bench
    from realtime.benchmark.results import Bench

    asked: dict[str, object] = {}

    def fake_bench(film: Path, people: object, gallery: Path, **options: object) -> Bench:
        asked.update(people=people, gallery=gallery.is_file(), frames=film.stat().st_size > 10_000, **options)
        raise RealtimeError("enough")

    monkeypatch.setattr(realtime.bench, "bench", fake_bench)
    monkeypatch.setattr("realtime.capture.demo.FRAMES", 5)
    done = run("--repeat", "2", "--loops", "tutorial,recipe,tutorial")
    assert str(done.exception) == "enough"
    assert asked["people"] == [(DEMO_NAME, demo_photo())]
    assert asked["loops"] == ["tutorial", "recipe"]
    assert asked["repeat"] == 2
    assert asked["gallery"] is True
    assert asked["frames"] is True
