"""The window of a run, on SDL's dummy driver: what a person does in it reaches the files and the gallery."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.engine import Engine
from realtime.app import session, watch
from realtime.app.watch import Best, Watch
from realtime.faces.analysis import FaceAnalyser
from realtime.people.gallery import Gallery
from realtime.records import RGB_HW3, ArrayPixels, Frame, Result, Sighting
from realtime.settings import Settings
from realtime.show.overlay import Overlay
from realtime.show.wall import Tile
from realtime.show.window import Window, open_window
from tests.realtime.app.commands import Ran, Realtime, eventually, pictures, whole_lines

UNKNOWN = Sighting(
    track=7,
    box=(178.0, 81.0, 269.0, 170.0),
    state="unknown",
    name=None,
    distance=None,
    second_distance=None,
    detector_score=1.0,
)


def post(kind: str, **values: Any) -> None:
    import pygame

    pygame.event.post(pygame.event.Event(getattr(pygame, kind), **values))


def press(key: str) -> None:
    import pygame

    post("KEYDOWN", key=getattr(pygame, f"K_{key}"), mod=0, unicode="", scancode=0)


def type_name(name: str) -> None:
    press("n")
    post("TEXTINPUT", text=name)
    press("RETURN")


@dataclass
class FakePipeline:
    """Has the best views that a test gives it."""

    views: dict[tuple[str, int], Best] = field(default_factory=dict)
    refreshed: int = 0

    def best_view(self, source: str, track: int) -> Best | None:
        return self.views.get((source, track))

    def refresh(self) -> None:
        self.refreshed += 1


@dataclass
class Desk:
    """A watch and everything around it."""

    window: Window
    pipeline: FakePipeline
    gallery: Gallery
    stop: threading.Event
    tile: Tile
    drawn: list[int] = field(default_factory=list)
    watch: Any = None

    def tiles(self) -> list[Tile]:
        self.drawn.append(1)
        return [self.tile]

    @property
    def notice(self) -> str:
        return self.window._notice[0]


@pytest.fixture
def best(photo_analyser: FaceAnalyser, astronaut: RGB_HW3) -> Best:
    view = photo_analyser.views(astronaut)[0]
    return view, photo_analyser.embed([view.crop_SS3])[0]


@pytest.fixture
def sit(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, astronaut: RGB_HW3, nobody: Path, best: Best
) -> Iterator[Callable[..., Desk]]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    settings = Settings()
    window = open_window(settings.show)
    assert window is not None
    window.poll()
    with Gallery.open(nobody, engine.manifest) as gallery:

        def arrange(*, plays: bool) -> Desk:
            pipeline = FakePipeline({("door", 7): best})
            tile = Tile(source="door", rgb=astronaut, sightings=(UNKNOWN,))
            desk = Desk(window, pipeline, gallery, threading.Event(), tile)
            overlay = Overlay(settings.show)
            desk.watch = Watch(
                window, pipeline, gallery, engine.manifest, settings, overlay, desk.tiles, desk.stop, plays=plays
            )  # type: ignore[arg-type]
            desk.watch.serve()
            return desk

        yield arrange
    window.close()


def test_a_face_is_named_by_its_best_view(sit: Callable[..., Desk], best: Best) -> None:
    desk = sit(plays=False)
    type_name("  김연아 ")
    desk.watch.serve()
    assert desk.notice == "enrolled 김연아"
    assert desk.pipeline.refreshed == 1
    assert [person.name for person in desk.gallery.people()] == ["김연아"]
    references = desk.gallery.references()
    assert np.allclose(references.embeddings_MD[0], best[1], atol=1e-6)
    assert desk.gallery.references_of("김연아")[0].crop is not None


def test_who_has_left_while_the_name_was_typed_is_named_all_the_same(sit: Callable[..., Desk]) -> None:
    desk = sit(plays=False)
    press("n")
    desk.watch.serve()
    desk.pipeline.views.clear()
    post("TEXTINPUT", text="Ana")
    desk.watch.serve()
    press("RETURN")
    desk.watch.serve()
    assert desk.notice == "enrolled Ana"


def test_who_was_never_seen_well_is_not_named(sit: Callable[..., Desk]) -> None:
    desk = sit(plays=False)
    desk.pipeline.views.clear()
    type_name("Ana")
    desk.watch.serve()
    assert desk.notice == "the face was gone too soon; Ana was not enrolled"
    assert desk.gallery.people() == []


def test_a_poor_view_is_refused_as_a_photo_would_be(sit: Callable[..., Desk], best: Best) -> None:
    from dataclasses import replace

    desk = sit(plays=False)
    small = replace(best[0], quality=replace(best[0].quality, size_px=20.0))
    desk.pipeline.views["door", 7] = (small, best[1])
    type_name("Ana")
    desk.watch.serve()
    assert desk.notice == "Ana was not enrolled: the face is 20 pixels wide, 40 are needed"


def test_a_name_that_is_none_and_a_gallery_that_fails_are_sentences(sit: Callable[..., Desk]) -> None:
    desk = sit(plays=False)
    type_name("Ana\u202egnp")
    desk.watch.serve()
    assert "Ana" in desk.notice
    desk.gallery.close()
    type_name("Bob")
    desk.watch.serve()
    assert "nobody.sqlite" in desk.notice


def test_a_pause_holds_the_picture_of_a_camera_and_not_the_program(sit: Callable[..., Desk]) -> None:
    desk = sit(plays=False)
    press("SPACE")
    desk.watch.serve()
    drawn = len(desk.drawn)
    for _ in range(3):
        time.sleep(0.02)
        desk.watch.changed()
        desk.watch.serve()
    assert len(desk.drawn) == drawn
    desk.pipeline.views.clear()  # the camera goes on, and who is in the held picture has left
    type_name("Ana")
    desk.watch.serve()
    assert desk.notice == "enrolled Ana"
    press("SPACE")
    desk.watch.serve()
    time.sleep(0.02)
    desk.watch.changed()
    desk.watch.serve()
    assert len(desk.drawn) > drawn


def test_a_pause_holds_a_file_until_it_goes_on_or_ends(sit: Callable[..., Desk]) -> None:
    desk = sit(plays=True)
    press("SPACE")
    held = threading.Thread(target=lambda: (time.sleep(0.2), press("SPACE")))
    held.start()
    began_s = time.monotonic()
    desk.watch.serve()
    held.join()
    assert time.monotonic() - began_s >= 0.15
    press("SPACE")
    threading.Timer(0.1, lambda: press("q")).start()
    desk.watch.serve()
    assert desk.stop.is_set()


def _result(time_s: float) -> Result:
    pixels = ArrayPixels(np.zeros((4, 4, 3), np.uint8))
    return Result(frame=Frame(source="door", index=0, time_s=time_s, pixels=pixels), sightings=(), latency_ms=1.0)


def test_a_file_plays_at_its_own_speed_and_does_not_race(
    sit: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = sit(plays=True)
    clock = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    for time_s in (0.0, 0.1, 0.5):
        desk.watch.wait_for(_result(time_s))
        assert clock[0] == pytest.approx(100 + time_s, abs=0.003)
    clock[0] += 3  # a slow machine, or a pause
    desk.watch.wait_for(_result(0.6))
    resumed_s = clock[0]
    desk.watch.wait_for(_result(1.0))
    assert clock[0] - resumed_s == pytest.approx(0.4, abs=0.003)
    sit(plays=False).watch.wait_for(_result(50.0))


def test_a_snapshot_is_the_picture_with_its_boxes(
    sit: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime.show.snapshot.pictures_folder", lambda: tmp_path / "pictures")
    (tmp_path / "pictures").mkdir()
    desk = sit(plays=False)
    press("s")
    desk.watch.serve()
    (saved,) = (tmp_path / "pictures").glob("realtime-door-*.png")
    assert desk.notice == f"saved {saved}"
    monkeypatch.setattr("realtime.show.snapshot.pictures_folder", lambda: tmp_path / "nowhere")
    press("s")
    desk.watch.serve()
    assert "the snapshot is not saved" in desk.notice


# -- the whole command in a window ------------------------------------------------------------------------------------


@pytest.fixture
def in_window(realtime: Realtime, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """``realtime ARGS`` with a window, and a person who acts in a thread; quits when the person is done."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    opened: list[Window] = []

    def open_and_remember(settings: Any, *, title: str) -> Window | None:
        window = open_window(settings, title=title)
        assert window is not None
        opened.append(window)
        return window

    monkeypatch.setattr(session, "open_window", open_and_remember)

    def call(person: Callable[[Window], None], *arguments: object) -> Ran:
        problems: list[BaseException] = []

        def act() -> None:
            try:
                person(eventually(lambda: opened and opened[0]))
            except BaseException as problem:  # noqa: BLE001 - told below, in the test's thread
                problems.append(problem)
            finally:
                with suppress(Exception):  # the film has ended, and its window with it
                    press("q")

        thread = threading.Thread(target=act)
        thread.start()
        try:
            return realtime(*arguments)
        finally:
            thread.join()
            if problems:
                raise problems[0]

    return call


def unknown(window: Window) -> bool:
    return any(face.state == "unknown" for tile in window._tiles for face in tile.sightings)


def named(window: Window, name: str) -> bool:
    return any(face.name == name for tile in window._tiles for face in tile.sightings)


def test_a_stranger_gets_a_name_in_the_window(
    in_window: Callable[..., Ran], film: Path, nobody: Path, engine: Engine, tmp_path: Path
) -> None:
    def person(window: Window) -> None:
        eventually(lambda: unknown(window))
        press("n")
        eventually(lambda: window.draft)
        post("TEXTINPUT", text="김연아")
        press("RETURN")
        eventually(lambda: named(window, "김연아"))

    events, video = tmp_path / "events.jsonl", tmp_path / "named.mp4"
    ran = in_window(
        person, "--source", film, "--gallery", nobody, "--events", events, "--output", video,
        "--set", "capture.as_live=true", "--set", "capture.loop=true",
    )  # fmt: skip
    assert ran.code == 0
    assert "no window" not in ran.err
    assert "김연아" in {line["name"] for line in whole_lines(events) if line["event"] == "named"}
    assert pictures(video)
    with Gallery.open(nobody, engine.manifest) as opened:
        assert [person.name for person in opened.people()] == ["김연아"]


def test_a_film_is_watched_to_its_end(in_window: Callable[..., Ran], film: Path, people: Path) -> None:
    titles: list[str] = []

    def person(window: Window) -> None:
        import pygame

        titles.append(pygame.display.get_caption()[0])
        eventually(lambda: named(window, "Eileen"))
        eventually(lambda: not pygame.display.get_init())

    ran = in_window(person, "--source", film, "--gallery", people)
    assert ran.code == 0
    assert "40 frames" in ran.out
    assert titles == ["realtime - clip.mp4"]


def test_closing_the_window_of_a_film_is_no_failure(in_window: Callable[..., Ran], film: Path, people: Path) -> None:
    ran = in_window(lambda window: eventually(lambda: window._tiles), "--source", film, "--gallery", people)
    assert ran.code == 0
    assert "stopped before" not in ran.err


@pytest.mark.skipif(os.name != "posix", reason="X11's")
def test_a_display_that_does_not_answer_is_said_once(
    realtime: Realtime, film: Path, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":250")
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    ran = realtime("--source", film, "--gallery", people)
    assert ran.code == 0
    assert ran.err.count("running without one") == 1
