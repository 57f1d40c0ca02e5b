"""The main job, end to end: sources in, names over faces, video, lines and events out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import jsonschema
import numpy as np
import pytest

from realtime.app import session
from realtime.capture.source import Source
from realtime.errors import SourceLost
from realtime.records import Frame
from realtime.show import events as show_events
from tests.realtime.app.commands import FPS, HEIGHT, WIDTH, Realtime, pictures, times, whole_lines
from tests.realtime.capture.films import make_film, turn
from tests.realtime.pictures import astronaut

SCHEMAS = Path(show_events.__file__).parent / "schemas"


def check(records: list[Any], schema: str) -> list[Any]:
    validator = jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{schema}.schema.json").read_text()))
    for record in records:
        validator.validate(record)
    return records


def names(records: list[Any]) -> set[str | None]:
    return {face["name"] for record in records for face in record["faces"]}


def test_a_film_gives_video_lines_and_events(realtime: Realtime, film: Path, people: Path, tmp_path: Path) -> None:
    video, lines, events = tmp_path / "named.mp4", tmp_path / "named.jsonl", tmp_path / "events.jsonl"
    ran = realtime(
        "--source", film, "--gallery", people, "--no-window",
        "--output", video, "--output", lines, "--events", events,
    )  # fmt: skip
    assert ran.code == 0
    frames = check(whole_lines(lines), "frame")
    assert [(each["source"], each["frame"], each["time_s"]) for each in frames] == [
        ("clip.mp4", number, number / FPS) for number in range(40)
    ]
    assert [[face["name"] for face in each["faces"]] for each in frames] == [["Eileen"]] * 40
    happened = check(whole_lines(events), "event")
    assert [(each["event"], each["name"], each["frame"]) for each in happened] == [
        ("appeared", None, 0),
        ("named", "Eileen", 0),
        ("left", "Eileen", 39),
    ]
    assert "40 frames" in ran.out
    assert "Eileen: named in 40 frames, first at 0.0 s" in ran.out
    assert ran.out.endswith(f"wrote {video}\nwrote {lines}\n")

    shown = pictures(video)
    assert len(shown) == 40
    assert times(video) == times(film)
    changed = np.abs(shown[20].astype(int) - pictures(film)[20]).max(axis=2) > 60
    x1, y1, x2, y2 = (round(edge) for edge in frames[20]["faces"][0]["box"])
    assert changed[y1 - 3 : y1 + 3, x1:x2].mean() > 0.1  # the box
    assert changed[max(0, y1 - 25) : y1, x1:x2].mean() > 0.1  # the name on its plate
    assert not changed[y2 + 8 :].any()
    with av.open(str(video)) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
        assert float(container.streams.audio[0].duration * container.streams.audio[0].time_base) > 1.4


def test_a_file_gives_the_same_twice(realtime: Realtime, film: Path, people: Path) -> None:
    first, second = (
        [{**line, "latency_ms": 0} for line in realtime("--source", film, "--gallery", people, "--output", "-").lines]
        for _ in range(2)
    )
    assert first == second


def test_standard_output_holds_lines_and_nothing_else(realtime: Realtime, film: Path, people: Path) -> None:
    ran = realtime("--source", film, "--gallery", people, "--output", "-", "--events", "-", "--no-window")
    assert ran.code == 0
    check([line for line in ran.lines if "event" not in line], "frame")
    assert [line["event"] for line in check([line for line in ran.lines if "event" in line], "event")] == [
        "appeared",
        "named",
        "left",
    ]
    assert "40 frames" in ran.err


def test_without_any_output_a_pipe_gets_events(realtime: Realtime, film: Path, people: Path) -> None:
    ran = realtime("--source", film, "--gallery", people)
    assert [line["event"] for line in check(ran.lines, "event")] == ["appeared", "named", "left"]
    assert ran.err.count("no display") == 1
    assert "realtime: no window: there is no display" in ran.err


def test_a_terminal_gets_sentences(
    realtime: Realtime, film: Path, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    ran = realtime("--source", film, "--gallery", people, "--no-window")
    said = [line.partition("clip.mp4  ")[2] for line in ran.out.splitlines()[:3]]
    assert said == ["face 1: somebody appeared", "face 1: Eileen", "face 1: Eileen left"]


def test_nobody_enrolled_is_said_and_everybody_is_unknown(realtime: Realtime, film: Path, data: Path) -> None:
    ran = realtime("--source", film, "--output", "-", "--no-window")
    assert ran.code == 0
    assert f"0 people in {data / 'gallery.sqlite'}" in ran.err
    assert "nobody is enrolled yet" in ran.err
    assert names(ran.lines) == {None}
    assert [face["state"] for face in ran.lines[-1]["faces"]] == ["unknown"]
    assert "nobody was named" in ran.err


def test_photos_are_named_one_by_one(realtime: Realtime, people: Path, tmp_path: Path) -> None:
    """A photo is all that there is of a face: no second view will come."""
    folder = tmp_path / "photos"
    folder.mkdir()
    portrait = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / "2.png"), portrait)
    cv2.imwrite(str(folder / "10.jpg"), portrait[:, ::-1])
    cv2.imwrite(str(folder / "3.png"), np.full((90, 120, 3), 128, np.uint8))
    (folder / "4.jpg").write_text("no photo")
    ran = realtime("--source", folder, "--gallery", people, "--output", "-", "--no-window")
    assert ran.code == 0
    assert [sorted(face["name"] or "" for face in line["faces"]) for line in ran.lines] == [["Eileen"], [], ["Eileen"]]
    assert "photo skipped" in ran.err
    one = realtime("--source", folder / "*.jpg", "--gallery", people, "--output", tmp_path / "one.mp4")
    assert one.code == 0
    assert pictures(tmp_path / "one.mp4")[0].shape == (512, 512, 3)


def test_a_phones_film_stands_upright_in_the_output(realtime: Realtime, film: Path, tmp_path: Path) -> None:
    turned = turn(Path(shutil.copy(film, tmp_path / "phone.mp4")), 90)
    out = tmp_path / "upright.mp4"
    assert realtime("--source", turned, "--output", out).code == 0
    shown = pictures(out)
    assert shown[0].shape == (WIDTH, HEIGHT, 3)
    # a player turns the stored picture clockwise; no box can be in it, faces lie on their side
    expected = np.rot90(pictures(film)[10], -1)
    assert np.abs(shown[10].astype(int) - expected).mean() < 6
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_an_uneven_pace_is_kept(realtime: Realtime, tmp_path: Path) -> None:
    given_s = [0, 0.1, 0.15, 0.4, 0.41, 0.9, 1.5]
    film = make_film(tmp_path / "uneven.mp4", frames=7, times_s=given_s)
    ran = realtime("--source", film, "--output", tmp_path / "out.mp4", "--output", tmp_path / "out.jsonl")
    assert ran.code == 0
    assert times(tmp_path / "out.mp4") == pytest.approx(given_s, abs=0.002)
    assert [line["time_s"] for line in whole_lines(tmp_path / "out.jsonl")] == pytest.approx(given_s, abs=0.001)


def test_several_sources_are_a_wall(realtime: Realtime, film: Path, people: Path, tmp_path: Path) -> None:
    short = make_film(tmp_path / "short.mp4", frames=10)
    wall, lines = tmp_path / "wall.mkv", tmp_path / "wall.jsonl"
    sources = ["--source", film, "--source", film, "--source", short]
    ran = realtime(*sources, "--gallery", people, "--output", wall, "--output", lines, "--config", "cameras")
    assert ran.code == 0
    frames = check(whole_lines(lines), "frame")
    counts = {name: sum(line["source"] == name for line in frames) for name in {line["source"] for line in frames}}
    assert counts == {"clip.mp4": 40, "clip.mp4 (2)": 40, "short.mp4": 10}
    for name in ("clip.mp4", "clip.mp4 (2)"):
        assert names([line for line in frames if line["source"] == name]) == {"Eileen"}
    shown = pictures(wall)
    assert shown[0].shape == (1080, 1920, 3)  # of the preset
    assert times(wall)[-1] == pytest.approx(39 / FPS, abs=0.09)  # the longest goes on when the others have ended
    assert all(after > before for before, after in zip(times(wall), times(wall)[1:], strict=False))


def test_settings_reach_the_run(realtime: Realtime, film: Path, people: Path) -> None:
    ran = realtime("--source", film, "--gallery", people, "--output", "-", "--set", "identity.threshold=0.0001")
    assert ran.code == 0
    assert names(ran.lines) == {None}


class _Dies:
    """A source that gives two frames and breaks."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self.name, self.live, self.info, self.status = name, False, source.info, ""
        self._given = 0

    def read(self) -> Frame | None:
        self._given += 1
        frame = self._source.read()
        if self._given > 2 or frame is None:
            raise SourceLost(f"{self.name}: reading stopped after 0.1 s; is the disk still there?")
        return Frame(source=self.name, index=frame.index, time_s=frame.time_s, pixels=frame._pixels)

    def close(self) -> None:
        self._source.close()


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def arrange(spec: str) -> None:
        opens = session.open_source

        def opened(given: str, settings: Any, *, name: str | None = None) -> Any:
            source = opens(given, settings, name=name)
            return _Dies(source, "dying") if given == spec else source

        monkeypatch.setattr(session, "open_source", opened)

    return arrange


def test_of_several_sources_only_the_broken_one_ends(
    realtime: Realtime, film: Path, people: Path, tmp_path: Path, dying: Callable[[str], None]
) -> None:
    bad = str(shutil.copy(film, tmp_path / "bad.mp4"))
    dying(bad)
    lines, wall = tmp_path / "lines.jsonl", tmp_path / "wall.mp4"
    sources = ["--source", bad, "--source", film]
    ran = realtime(*sources, "--gallery", people, "--output", lines, "--output", wall, "--no-window")
    assert ran.code == 1
    assert ran.err.count("is the disk still there?") == 1
    assert "realtime: dying stopped: " in ran.err
    frames = whole_lines(lines)
    assert [line["frame"] for line in frames if line["source"] == "clip.mp4"] == list(range(40))
    assert [line["frame"] for line in frames if line["source"] == "dying"] == [0, 1]
    assert times(wall)[-1] > 1.4


def test_the_only_source_breaks_and_what_came_is_kept(
    realtime: Realtime, film: Path, people: Path, tmp_path: Path, dying: Callable[[str], None]
) -> None:
    dying(str(film))
    lines, video, events = tmp_path / "lines.jsonl", tmp_path / "video.mp4", tmp_path / "events.jsonl"
    ran = realtime(
        "--source", film, "--gallery", people, "--output", lines, "--output", video, "--events", events, "--no-window"
    )
    assert ran.code == 1
    assert ran.sentence == "dying: reading stopped after 0.1 s; is the disk still there?"
    assert len(pictures(video)) == len(whole_lines(lines)) == 2
    assert whole_lines(events)[-1]["event"] == "left"
