"""What comes from outside while it runs: Ctrl-C, a reader that goes away, a changed gallery, a camera that dies."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from realtime.people.gallery import Gallery
from tests.realtime.app.commands import Realtime, eventually, pictures, start, whole_lines
from tests.realtime.pictures import astronaut
from tests.rtsp_server import Behaviour, RtspServer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

LIVE = ("--set", "capture.as_live=true", "--set", "capture.loop=true", "--no-window")
"""A file as a camera that never ends."""

ENDLESS = ("--set", "capture.loop=true", "--no-window")
"""A file without an end, of which every frame counts."""


def lines_so_far(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_camera_is_ended_cleanly(film: Path, people: Path, tmp_path: Path, number: int) -> None:
    video, lines, events = tmp_path / "named.mp4", tmp_path / "named.jsonl", tmp_path / "events.jsonl"
    arguments = ("--source", film, "--gallery", people, "--output", video, "--output", lines, "--events", events)
    with start(tmp_path, *arguments, *LIVE) as running:
        eventually(lambda: lines.exists() and len(lines_so_far(lines)) >= 10)
        ran = running.end(number)
    assert ran.code == 0
    assert "Traceback" not in ran.err
    count = len(whole_lines(lines))
    assert f"{count} frames" in ran.out
    assert len(pictures(video)) == count
    assert whole_lines(events)[-1]["event"] == "left"
    assert not list(tmp_path.glob("*partial*"))
    with Gallery.open(people, create=False) as opened:
        assert len(opened.people()) == 2


def test_a_file_cut_short_is_a_failure_with_whole_outputs(film: Path, people: Path, tmp_path: Path) -> None:
    video, lines = tmp_path / "named.mkv", tmp_path / "named.jsonl"
    arguments = ("--source", film, "--gallery", people, "--output", video, "--output", lines)
    with start(tmp_path, *arguments, *ENDLESS) as running:
        eventually(lambda: lines.exists() and len(lines_so_far(lines)) >= 45)
        ran = running.end(signal.SIGINT)
    assert ran.code == 1
    assert ran.sentence == "stopped before the end of the file; the outputs hold what came before"
    shown = whole_lines(lines)
    assert len(pictures(video)) == len(shown)
    assert [line["frame"] for line in shown] == list(range(len(shown)))


def test_the_second_ctrl_c_kills(film: Path, people: Path, tmp_path: Path) -> None:
    stuck = (
        "import time; from realtime.flow.pipeline import Pipeline\n"
        "Pipeline.stop = lambda self: (print('stopping', flush=True), time.sleep(300))\n"
        "from realtime.app import main; main()"
    )
    lines = tmp_path / "named.jsonl"
    arguments = ("--source", film, "--gallery", people, "--output", lines)
    with start(tmp_path, *arguments, *LIVE, python=stuck) as running:
        eventually(lambda: lines.exists() and lines_so_far(lines))
        running.process.send_signal(signal.SIGINT)
        assert running.out.readline() == b"stopping\n"
        ran = running.end(signal.SIGINT)
    assert ran.code == -signal.SIGINT
    assert whole_lines(lines)


def test_a_reader_that_has_seen_enough_ends_it_quietly(film: Path, people: Path, tmp_path: Path) -> None:
    """As ``realtime ... --output - | head -3``."""
    video = tmp_path / "named.mp4"
    arguments = ("--source", film, "--gallery", people, "--output", "-", "--output", video)
    with start(tmp_path, *arguments, *LIVE) as running:
        first = [json.loads(running.out.readline()) for _ in range(3)]
        running.out.close()
        assert running.process.wait(timeout=60) == 0
        said = running.err.read_text()
    assert [line["source"] for line in first] == ["clip.mp4"] * 3
    assert "Traceback" not in said
    assert "nobody reads it" not in said
    assert len(pictures(video)) >= 3


def test_changes_of_the_gallery_are_seen_while_it_runs(
    realtime: Realtime, film: Path, nobody: Path, tmp_path: Path
) -> None:
    import cv2

    photo, events = tmp_path / "Eileen Collins.png", tmp_path / "events.jsonl"
    cv2.imwrite(str(photo), cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR))

    def told() -> list[Any]:
        return [(line["event"], line["name"]) for line in lines_so_far(events)] if events.exists() else []

    with start(tmp_path, "--source", film, "--gallery", nobody, "--events", events, *LIVE) as running:
        eventually(lambda: ("appeared", None) in told())
        assert realtime("enroll", photo, "--gallery", nobody).code == 0
        eventually(lambda: ("named", "Eileen Collins") in told())
        assert realtime("gallery", "rename", "Eileen Collins", "아일린", "--gallery", nobody).code == 0
        eventually(lambda: {("renamed", "아일린"), ("named", "아일린")} & set(told()))
        assert realtime("gallery", "remove", "아일린", "--yes", "--gallery", nobody).code == 0
        eventually(lambda: told()[-1][1] is None)
        ran = running.end(signal.SIGINT)
    assert ran.code == 0
    assert "아일린: named in" in ran.out
    assert realtime("gallery", "check", "--gallery", nobody).code == 0


def test_a_camera_that_dies_and_comes_back(film: Path, people: Path, tmp_path: Path) -> None:
    """The other source goes on, the wall says what is the matter, and the password is nowhere."""
    wall, lines, events = tmp_path / "wall.mp4", tmp_path / "wall.jsonl", tmp_path / "events.jsonl"
    guarded = Behaviour(password="s3cr3t")
    camera = RtspServer(film, guarded)
    name = f"127.0.0.1:{camera.port}/cam"

    def seen(source: str) -> int:
        return sum(line["source"] == source for line in lines_so_far(lines)) if lines.exists() else 0

    arguments = (
        "--verbose", "--source", camera.with_user("ana", "s3cr3t"), "--source", film, "--gallery", people,
        "--output", wall, "--output", lines, "--events", events, "--set", "capture.timeout_s=2",
    )  # fmt: skip
    with start(tmp_path, *arguments, *LIVE) as running:
        try:
            eventually(lambda: seen(name) >= 5)
            camera.close()
            eventually(lambda: "reconnecting in" in running.err.read_text())
            before, others = seen(name), seen("clip.mp4")
            eventually(lambda: seen("clip.mp4") > others + 10)
            camera = RtspServer(film, guarded, port=camera.port)
            eventually(lambda: seen(name) > before + 5)
            ran = running.end(signal.SIGINT)
        finally:
            camera.close()
    assert ran.code == 0
    assert f"realtime: {name}: connected again" in ran.err
    frames = [line["frame"] for line in whole_lines(lines) if line["source"] == name]
    assert frames == sorted(set(frames))
    assert {face["name"] for line in whole_lines(lines) for face in line["faces"]} >= {"Eileen"}
    # left half of the wall: the camera; it darkens while it is gone
    lights = [float(picture[:, 3:630].mean()) for picture in pictures(wall)]
    assert min(lights[5:]) < 0.7 * max(lights)
    for written in (ran.out, ran.err, *(path.read_text(errors="replace") for path in (wall, lines, events))):
        assert "s3cr3t" not in written
