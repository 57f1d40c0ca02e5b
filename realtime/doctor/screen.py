"""Where pictures go: the display and the fonts.

Enters: settings. Leaves: findings. Opens no window.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Final

from realtime.doctor.report import Finding
from realtime.errors import RealtimeError
from realtime.settings import ShowSettings
from realtime.show.window import UNSEEN

SAMPLES: Final = {
    "Latin": "é",
    "Cyrillic": "Ж",
    "Korean": "홍",
    "Japanese": "か",
    "Chinese": "张",
    "Arabic": "م",
    "Thai": "ก",
}
"""A character of each script that names are commonly written in."""


def display() -> Iterator[Finding]:
    """Whether a window can open here, and why not."""
    from realtime.show.window import no_display

    reason = no_display(os.environ, sys.platform) or _sdl_refusal()
    if reason:
        advice = "There is no window without it; --output named.mp4 and --events events.jsonl work all the same."
        yield Finding(topic="display", name="window", value=f"none: {reason}", state="note", advice=advice)
        return
    yield Finding(topic="display", name="window", value=f"opens ({_driver()})")


def _sdl_refusal() -> str:
    """SDL's own reason, empty where it has a driver that people can see."""
    import pygame

    try:
        pygame.display.init()
    except pygame.error as err:
        return str(err)
    driver = pygame.display.get_driver()
    pygame.display.quit()
    return f"SDL's driver is {driver}, which shows nothing" if driver in UNSEEN else ""


def _driver() -> str:
    import pygame

    pygame.display.init()
    driver, sizes = pygame.display.get_driver(), pygame.display.get_desktop_sizes()
    pygame.display.quit()
    return ", ".join([str(driver), *(f"{width}x{height}" for width, height in sizes)])


def fonts(settings: ShowSettings) -> Iterator[Finding]:
    """Which scripts names can be drawn in."""
    from realtime.show.typefaces import Typefaces

    try:
        typefaces = Typefaces(settings.font)
        missing = [script for script, character in SAMPLES.items() if typefaces.of(character) is None]
    except RealtimeError as err:
        yield Finding(topic="display", name="fonts", value="not usable", state="problem", advice=str(err))
        return
    drawn = ", ".join(script for script in SAMPLES if script not in missing)
    if missing:
        advice = (
            f"Names in {', '.join(missing)} are drawn as boxes: install a font, or give one with --set show.font=FILE"
        )
        yield Finding(topic="display", name="fonts", value=drawn, state="note", advice=advice)
        return
    yield Finding(topic="display", name="fonts", value=drawn)
