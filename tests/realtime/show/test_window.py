"""The window, on SDL's dummy driver, driven by the events that a keyboard and an input method send."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from realtime.settings import ShowSettings
from realtime.show import window as module
from realtime.show.wall import Tile
from realtime.show.window import (
    NameFace,
    Quit,
    Snapshot,
    ToggleHelp,
    TogglePause,
    Window,
    WindowError,
    no_display,
    open_window,
)
from tests.realtime.show.samples import FACE, portrait, running, seen

SETTINGS = ShowSettings(width=512, height=512)
TILE = Tile(
    source="door",
    rgb=portrait(),
    sightings=(seen(7, FACE), seen(8, (10.0, 10.0, 60.0, 60.0)), seen(9, (300.0, 300.0, 400.0, 400.0), name="Ana")),
    status=running(),
)


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    opened = open_window(SETTINGS)
    assert opened is not None
    opened.poll()
    yield opened
    opened.close()
    opened.close()


def post(kind: str, **values: Any) -> None:
    import pygame

    pygame.event.post(pygame.event.Event(getattr(pygame, kind), **values))


def press(key: str, scancode: int = 0, mod: int = 0) -> None:
    import pygame

    code = getattr(pygame, f"K_{key}") if not key.isdigit() else int(key)
    post("KEYDOWN", key=code, mod=mod, unicode="", scancode=scancode)


def pixels() -> np.ndarray:
    import pygame

    return pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)


def test_what_is_shown_is_the_picture(window: Window) -> None:
    window.show([Tile(source="door", rgb=portrait())])
    assert np.array_equal(pixels(), portrait())
    window.show([TILE])
    assert not np.array_equal(pixels(), portrait())


@pytest.mark.parametrize(
    ("key", "action"),
    [("q", Quit()), ("ESCAPE", Quit()), ("SPACE", TogglePause()), ("s", Snapshot()), ("h", ToggleHelp())],
)
def test_a_key_is_an_action(window: Window, key: str, action: object) -> None:
    press(key)
    assert window.poll() == [action]
    assert window.poll() == []


def test_other_keys_do_nothing(window: Window) -> None:
    press("x")
    press("F1")
    post("TEXTINPUT", text="q")
    assert window.poll() == []


def test_keys_go_by_their_place_on_a_keyboard_without_latin_letters(window: Window) -> None:
    import pygame

    press(str(ord("й")), scancode=pygame.KSCAN_Q)
    assert window.poll() == [Quit()]


def test_the_close_button_quits(window: Window) -> None:
    post("QUIT")
    assert window.poll() == [Quit()]


def test_help_opens_and_escape_closes_it_before_it_quits(window: Window) -> None:
    window.show([TILE])
    plain = pixels()
    press("h")
    window.poll()
    assert not np.array_equal(pixels(), plain)
    press("ESCAPE")
    assert window.poll() == [ToggleHelp()]
    assert np.array_equal(pixels(), plain)
    press("ESCAPE")
    assert window.poll() == [Quit()]


def test_hangul_is_typed_through_the_input_method(window: Window) -> None:
    window.show([TILE])
    plain = pixels()
    press("n")
    assert window.poll() == []
    assert window.draft is not None
    assert (window.draft.source, window.draft.track) == ("door", 7), "the unknown face nearest the middle"
    thick = pixels()
    left = (slice(80, 180), slice(int(FACE[0]) - 6, int(FACE[0]) + 1))
    assert (thick[left] != plain[left]).sum() > 200, "its box is thick"

    post("TEXTEDITING", text="ㅎ", start=0, length=1)
    press("RETURN")  # the input method's own: it chooses the syllable
    assert window.poll() == []
    assert not np.array_equal(pixels(), thick), "the unfinished syllable is shown"
    post("TEXTEDITING", text="", start=0, length=0)
    for text in ("한", "글", "q"):
        post("TEXTINPUT", text=text)
    press("BACKSPACE")
    press("RETURN")
    assert window.poll() == [NameFace("door", 7, "한글")]
    assert window.draft is None
    assert np.array_equal(pixels(), plain)


def test_letters_of_the_name_are_no_commands(window: Window) -> None:
    window.show([TILE])
    press("n")
    for letter in "qsh":
        press(letter)
        post("TEXTINPUT", text=letter)
    press("SPACE")
    post("TEXTINPUT", text=" ")
    press("KP_ENTER")
    assert window.poll() == [NameFace("door", 7, "qsh")]


def test_escape_leaves_the_name_and_not_the_program(window: Window) -> None:
    window.show([TILE])
    press("n")
    post("TEXTINPUT", text="Ana")
    press("ESCAPE")
    press("RETURN")
    assert window.poll() == []
    assert window.draft is None


def test_a_name_is_pasted(window: Window) -> None:
    import pygame

    window.show([TILE])
    press("n")
    press("v", mod=pygame.KMOD_LCTRL)
    assert window.poll() == [], "an empty clipboard is no error"
    pygame.scrap.put_text("김민준\n")
    press("v", mod=pygame.KMOD_LCTRL)
    press("RETURN")
    assert window.poll() == [NameFace("door", 7, "김민준")]


def test_an_empty_name_is_not_taken(window: Window) -> None:
    window.show([TILE])
    press("n")
    post("TEXTINPUT", text="   ")
    press("RETURN")
    assert window.poll() == []
    assert window.draft is not None


def test_the_draft_stays_with_its_face_when_the_picture_goes_on(window: Window) -> None:
    window.show([TILE])
    press("n")
    window.poll()
    window.show([Tile(source="door", rgb=portrait(), sightings=(seen(99, FACE),))])
    post("TEXTINPUT", text="Ana")
    press("RETURN")
    assert window.poll() == [NameFace("door", 7, "Ana")]


def test_without_an_unknown_face_n_says_so(window: Window) -> None:
    window.show([Tile(source="door", rgb=portrait(), sightings=(seen(9, FACE, name="Ana"),))])
    plain = pixels()
    press("n")
    assert window.poll() == []
    assert window.draft is None
    assert not np.array_equal(pixels(), plain)


def test_a_click_on_a_face_names_it(window: Window) -> None:
    window.show([TILE])
    post("MOUSEBUTTONDOWN", button=1, pos=(30, 30))
    window.poll()
    assert window.draft is not None
    assert window.draft.track == 8
    press("ESCAPE")
    post("MOUSEBUTTONDOWN", button=1, pos=(350, 350))
    window.poll()
    assert window.draft is None, "Ana has a name"


def test_a_notice_goes_away_and_a_pause_is_shown(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    window.show([TILE])
    plain = pixels()
    window.pause(True)
    window.poll()
    paused = pixels()
    assert not np.array_equal(paused, plain)
    window.pause(False)
    window.notice("saved")
    window.poll()
    assert not np.array_equal(pixels(), plain)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e12)
    window.poll()
    assert np.array_equal(pixels(), plain)


def test_a_resized_window_is_filled_again(window: Window) -> None:
    import pygame

    window.show([TILE])
    pygame.display.set_mode((640, 300), pygame.RESIZABLE)
    post("VIDEORESIZE", size=(640, 300), w=640, h=300)
    window.poll()
    assert window.size == (640, 300)
    assert pixels().shape == (300, 640, 3)
    assert pixels()[:, 320].any()


@pytest.mark.parametrize(
    ("environment", "platform", "reason"),
    [
        ({}, "linux", "neither DISPLAY nor WAYLAND_DISPLAY"),
        ({"DISPLAY": ""}, "linux", "neither DISPLAY nor WAYLAND_DISPLAY"),
        ({"DISPLAY": ":0"}, "linux", ""),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", ""),
        ({"SDL_VIDEODRIVER": "dummy"}, "linux", ""),
        ({}, "darwin", ""),
        ({}, "win32", ""),
    ],
)
def test_where_a_display_is_to_be_expected(environment: dict[str, str], platform: str, reason: str) -> None:
    assert (reason in no_display(environment, platform)) if reason else no_display(environment, platform) == ""


def test_no_display_is_a_sentence_and_no_window(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "SDL_VIDEO_DRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    with caplog.at_level(logging.WARNING):
        assert open_window(SETTINGS) is None
    assert "no window: there is no display" in caplog.text


def test_a_display_that_does_not_answer_is_a_sentence_and_no_window(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with caplog.at_level(logging.WARNING):
        assert open_window(SETTINGS) is None
    assert "no window:" in caplog.text
    with pytest.raises(WindowError):
        Window(SETTINGS)


def test_pygame_is_silent_and_loaded_late() -> None:
    code = (
        "import os, sys; os.environ['SDL_VIDEODRIVER'] = 'dummy'\n"
        "import realtime.show.window as w; assert 'pygame' not in sys.modules\n"
        "from realtime.settings import ShowSettings\n"
        "w.open_window(ShowSettings()).close(); assert 'pygame' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
