"""The window: shows the wall, and tells what a person did. Belongs to the main thread, as SDL asks.

Enters: tiles. Leaves: actions.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np

from realtime.records import RGB_HW3
from realtime.settings import ShowSettings
from realtime.show import panels
from realtime.show.naming import Draft, nameless_at, nearest_nameless
from realtime.show.overlay import STYLES, Overlay
from realtime.show.wall import Place, Tile, compose, locate

log = logging.getLogger(__name__)

NOTICE_S: Final = 4.0
UNSEEN: Final = ("dummy", "offscreen")
"""SDL's drivers that draw for nobody."""
REPEAT_MS: Final = (400, 40)
"""Delay and interval of a held key while a name is typed (Backspace)."""


@dataclass(frozen=True, slots=True)
class Quit:
    """The person wants to end the program."""


@dataclass(frozen=True, slots=True)
class TogglePause:
    """Stop the pictures, or let them go on."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Save what is shown."""


@dataclass(frozen=True, slots=True)
class ToggleHelp:
    """The help was opened or closed; the window has done it already."""


@dataclass(frozen=True, slots=True)
class NameFace:
    """The face of ``track`` in ``source`` is ``name``."""

    source: str
    track: int
    name: str


Action = Quit | TogglePause | Snapshot | ToggleHelp | NameFace


class WindowError(Exception):
    """There is no display to open a window on; the message says why."""


class Window:
    """One resizable window. ``show`` when there is something new, ``poll`` many times a second."""

    def __init__(self, settings: ShowSettings, *, title: str = "realtime") -> None:
        """Raises WindowError where there is no display, SettingsError where ``show.font`` cannot be used."""
        self._overlay = Overlay(settings)
        self._pg: Any = _pygame()
        try:
            self._pg.display.init()
            if self._pg.display.get_driver() in UNSEEN and not _asked_for(os.environ):
                raise self._pg.error("the display does not answer")  # SDL went on to a driver that nobody can see
            self._pg.display.set_caption(title)
            self._pg.display.set_icon(self._picture(icon()))
            self._screen: Any = self._pg.display.set_mode((settings.width, settings.height), self._pg.RESIZABLE)
        except self._pg.error as err:
            self._pg.display.quit()
            raise WindowError(str(err)) from err
        self._pg.key.stop_text_input()  # else keys would go to the input method and "n" would begin a syllable
        self._tiles: tuple[Tile, ...] = ()
        self._places: tuple[Place, ...] = ()
        self._draft: Draft | None = None
        self._help = False
        self._paused = False
        self._notice = ("", 0.0)
        self._stale = True

    @property
    def draft(self) -> Draft | None:
        """The name being typed, if one is."""
        return self._draft

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the drawable part, pixels."""
        width, height = self._screen.get_size()
        return int(width), int(height)

    def show(self, tiles: Sequence[Tile]) -> None:
        """Draw ``tiles`` now. The frames are kept until the next call and never written to."""
        self._tiles = tuple(tiles)
        self._render()

    def notice(self, text: str) -> None:
        """Show one sentence for a few seconds."""
        self._notice = (text, time.monotonic() + NOTICE_S)
        self._stale = True

    def pause(self, paused: bool) -> None:
        """Show the sign of a pause, or take it away."""
        self._stale |= paused != self._paused
        self._paused = paused

    def poll(self) -> list[Action]:
        """What the person did since the last call; redraws what that changed. Does not wait."""
        actions: list[Action] = []
        for event in self._pg.event.get():
            actions += self._on(event)
        if self._notice[0] and time.monotonic() >= self._notice[1]:
            self._notice, self._stale = ("", 0.0), True
        if self._stale:
            self._render()
        return actions

    def close(self) -> None:
        """Close the window; may be called twice."""
        self._pg.display.quit()

    def _on(self, event: Any) -> list[Action]:
        pg = self._pg
        if event.type == pg.QUIT:
            return [Quit()]
        if event.type in (pg.VIDEORESIZE, pg.WINDOWEXPOSED):
            self._screen = pg.display.get_surface()
            self._stale = True
        elif event.type == pg.MOUSEBUTTONDOWN and event.button == 1:
            place = locate(self._places, *event.pos)
            self._begin(nameless_at(self._tiles, *place) if place else None)
        elif self._draft is not None:
            return self._on_typing(event, self._draft)
        elif event.type == pg.KEYDOWN:
            return self._on_key(event)
        return []

    def _on_key(self, event: Any) -> list[Action]:
        pg = self._pg
        key = event.key if event.key < 128 else _by_position(pg).get(getattr(event, "scancode", None), event.key)
        self._stale = True
        if key in (pg.K_q, pg.K_ESCAPE):
            if self._help and key == pg.K_ESCAPE:
                self._help = False
                return [ToggleHelp()]
            return [Quit()]
        if key == pg.K_h:
            self._help = not self._help
            return [ToggleHelp()]
        if key == pg.K_n:
            width, height = self.size
            face = nearest_nameless(self._tiles, self._places, width / 2, height / 2)
            self._begin(face)
            if face is None:
                self.notice("no unknown face in the picture")
        plain: dict[int, list[Action]] = {pg.K_SPACE: [TogglePause()], pg.K_s: [Snapshot()]}
        return plain.get(key, [])

    def _on_typing(self, event: Any, draft: Draft) -> list[Action]:
        pg = self._pg
        self._stale = True
        if event.type == pg.TEXTINPUT:
            self._draft = draft.typed(event.text)
        elif event.type == pg.TEXTEDITING:
            self._draft = draft.composed(event.text)
        elif event.type == pg.KEYDOWN and not draft.composing:  # else the key is the input method's
            if event.key == pg.K_ESCAPE:
                self._end()
            elif event.key == pg.K_BACKSPACE:
                self._draft = draft.erased()
            elif event.key == pg.K_v and event.mod & (pg.KMOD_CTRL | pg.KMOD_META):
                self._draft = draft.typed(self._clipboard())
            elif event.key in (pg.K_RETURN, pg.K_KP_ENTER) and draft.name:
                self._end()
                return [NameFace(draft.source, draft.track, draft.name)]
        return []

    def _clipboard(self) -> str:
        try:
            return str(self._pg.scrap.get_text())
        except self._pg.error as err:  # empty, or of a system without one
            log.debug("nothing to paste: %s", err)
            return ""

    def _begin(self, face: tuple[str, int] | None) -> None:
        if face is None:
            return
        self._draft, self._stale = Draft(source=face[0], track=face[1]), True
        self._help = False
        self._pg.key.start_text_input()
        self._pg.key.set_repeat(*REPEAT_MS)

    def _end(self) -> None:
        self._draft = None
        self._pg.key.stop_text_input()
        self._pg.key.set_repeat()

    def _render(self) -> None:
        self._stale = False
        width, height = self.size
        chosen = None if self._draft is None else (self._draft.source, self._draft.track)
        canvas_HW3, self._places = compose(self._tiles, width, height, self._overlay, chosen=chosen)
        lettering = self._overlay.lettering
        if self._paused:
            panels.paused(canvas_HW3, lettering)
        if self._help:
            panels.help_panel(canvas_HW3, lettering)
        if self._draft is not None:
            x1, y1, x2, y2 = panels.prompt(canvas_HW3, lettering, self._draft)
            self._pg.key.set_text_input_rect((x1, y1, x2 - x1, y2 - y1))
        if self._notice[0]:
            panels.notice(canvas_HW3, lettering, self._notice[0])
        self._screen.blit(self._picture(canvas_HW3), (0, 0))
        self._pg.display.flip()

    def _picture(self, rgb_HW3: RGB_HW3) -> Any:
        height, width = rgb_HW3.shape[:2]
        return self._pg.image.frombuffer(np.ascontiguousarray(rgb_HW3), (width, height), "RGB")


def open_window(settings: ShowSettings, *, title: str = "realtime") -> Window | None:
    """A window, or None with a logged sentence where there is no display.

    Raises:
        SettingsError: ``show.font`` cannot be used.
    """
    reason = no_display(os.environ, sys.platform)
    if not reason:
        try:
            return Window(settings, title=title)
        except WindowError as err:
            reason = str(err)
    log.warning("no window: %s; running without one", reason)
    return None


def no_display(environment: Mapping[str, str], platform: str) -> str:
    """Why there can be no window here; empty where SDL should try."""
    asked = _asked_for(environment)
    shown = environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    if platform in ("darwin", "win32") or asked or shown:
        return ""
    return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"


def _asked_for(environment: Mapping[str, str]) -> str | None:
    """SDL's driver that a person chose."""
    return environment.get("SDL_VIDEODRIVER") or environment.get("SDL_VIDEO_DRIVER")


def icon() -> RGB_HW3:
    """A face in a box, (64, 64, 3) uint8 RGB."""
    import cv2

    picture_HW3 = np.full((64, 64, 3), (24, 26, 30), np.uint8)
    cv2.rectangle(picture_HW3, (6, 6), (57, 57), STYLES["named"].line, 4)
    cv2.circle(picture_HW3, (32, 27), 11, (240, 220, 190), -1, cv2.LINE_AA)
    cv2.ellipse(picture_HW3, (32, 56), (18, 16), 0, 180, 360, (240, 220, 190), -1, cv2.LINE_AA)
    return picture_HW3


def _pygame() -> ModuleType:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")  # Ctrl-C and SIGTERM are the program's
    os.environ.setdefault("SDL_VIDEO_X11_WMCLASS", "realtime")
    os.environ.setdefault("SDL_IME_SHOW_UI", "1")
    if (
        sys.platform == "linux"
    ):  # SDL would upload every picture through OpenGL: 7 ms a frame at 720p without a GPU, not 0.1
        os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
    import pygame

    return pygame


def _by_position(pg: Any) -> dict[Any, int]:
    """Keys by their place, for keyboards without Latin letters."""
    return {pg.KSCAN_N: pg.K_n, pg.KSCAN_S: pg.K_s, pg.KSCAN_H: pg.K_h, pg.KSCAN_Q: pg.K_q}
