"""All outputs of a run together: what one has to do with another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from realtime.app.outputs import Outputs, in_words
from realtime.capture.source import SourceInfo
from realtime.errors import OutputError
from realtime.records import ArrayPixels, Event, EventKind, Frame, Result, SourceStatus
from realtime.settings import ShowSettings
from realtime.show.overlay import Overlay
from realtime.show.wall import Tile
from tests.realtime.app.commands import pictures, times, whole_lines

SETTINGS = ShowSettings(width=320, height=180)


INFO: Final = SourceInfo(kind="video file", width=64, height=48, fps=25.0)


@dataclass
class FakeSource:
    name: str
    live: bool = False
    status: str = ""
    info: SourceInfo = INFO

    def read(self) -> Frame | None:
        return None

    def close(self) -> None:
        pass


def result(source: str, number: int) -> Result:
    rgb = np.full((48, 64, 3), (40 + 4 * number) % 256, np.uint8)
    frame = Frame(source=source, index=number, time_s=number / 25, pixels=ArrayPixels(rgb))
    return Result(frame=frame, sightings=(), latency_ms=1.0)


class Wall:
    """Two sources, and what they show."""

    def __init__(self) -> None:
        self.newest: dict[str, Result] = {}
        self.ended: set[str] = set()

    def tiles(self) -> list[Tile]:
        return [
            Tile(
                source=name,
                rgb=self.newest[name].frame.rgb if name in self.newest else None,
                status=SourceStatus(source=name, state="ended" if name in self.ended else "running"),
            )
            for name in ("fast", "slow")
        ]


def test_a_wall_of_files_waits_for_the_slowest(tmp_path: Path) -> None:
    wall, overlay = Wall(), Overlay(SETTINGS)
    outputs = Outputs(
        [str(tmp_path / "wall.mp4")], None, [FakeSource("fast"), FakeSource("slow")], SETTINGS, lines=False
    )
    for source in ("fast", "slow"):  # the fast one is through before the slow one begins
        for number in range(20):
            wall.newest[source] = result(source, number)
            outputs.write(wall.newest[source], wall.tiles, overlay)
        wall.ended.add(source)
    outputs.finish()
    shown_s = times(tmp_path / "wall.mp4")
    assert shown_s[0] == 0.0
    assert shown_s[-1] == pytest.approx(19 / 25, abs=0.01)
    assert len(shown_s) == 20
    right = [float(picture[60:120, 200:280].mean()) for picture in pictures(tmp_path / "wall.mp4")]
    assert right[-1] > right[2] + 40  # all of the slow one is in it


def test_a_wall_with_cameras_goes_by_the_clock(tmp_path: Path) -> None:
    """One camera has run for an hour, the other was just switched on: neither waits for the other's time."""
    wall, overlay = Wall(), Overlay(SETTINGS)
    sources = [FakeSource("fast", live=True), FakeSource("slow", live=True)]
    outputs = Outputs([str(tmp_path / "wall.mkv")], None, sources, SETTINGS, lines=False)
    wall.newest["fast"] = result("fast", 90_000)
    outputs.write(wall.newest["fast"], wall.tiles, overlay)
    outputs.finish()
    assert times(tmp_path / "wall.mkv") == [pytest.approx(0, abs=0.05)]


def test_when_one_output_fails_the_others_are_finished(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("first.mkv", "second.mkv", "third.jsonl", "fourth.mp4")]
    outputs = Outputs(files, str(tmp_path / "events.jsonl"), [FakeSource("door")], SETTINGS, lines=False)
    for number in range(5):
        outputs.write(result("door", number), list, Overlay(SETTINGS))
    (tmp_path / "second.mkv").mkdir()  # in the way when it is to get its name
    with pytest.raises(OutputError, match=r"second\.mkv"):
        outputs.finish()
    assert len(pictures(tmp_path / "first.mkv")) == len(pictures(tmp_path / "fourth.mp4")) == 5
    assert len(whole_lines(tmp_path / "third.jsonl")) == 5
    outputs.close()


def test_an_output_that_cannot_be_opened_leaves_nothing_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        Outputs([str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")], None, [FakeSource("door")], SETTINGS, lines=False)
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("appeared", None, "somebody appeared"),
        ("named", "김연아", "김연아"),
        ("renamed", "Ana", "is Ana now"),
        ("renamed", None, "nobody is sure any more who this is"),
        ("left", "Ana", "Ana left"),
        ("left", None, "somebody left"),
    ],
)
def test_events_in_words(kind: EventKind, name: str | None, words: str) -> None:
    event = Event(event=kind, source="door", track=1, name=name, frame=3, time_s=0.1, distance=None)
    assert in_words(event) == words
