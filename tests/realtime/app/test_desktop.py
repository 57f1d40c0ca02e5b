"""The window on a real X server, with the keys of a real keyboard."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.people.gallery import Gallery
from tests.realtime.app.commands import eventually, start, whole_lines

pytestmark = [
    pytest.mark.debian,
    pytest.mark.skipif(
        shutil.which("Xvfb") is None or shutil.which("xdotool") is None,
        reason="needs Xvfb and xdotool (apt-get install xvfb xdotool)",
    ),
]


@pytest.fixture
def display() -> Iterator[str]:
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1300x800x24", "-nolisten", "tcp"],
        pass_fds=(write,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.kill()
        server.wait()


def test_a_stranger_is_named_with_the_keyboard(display: str, film: Path, nobody: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"

    def keys(*words: str) -> None:
        subprocess.run(["xdotool", *words], check=True, env={**os.environ, "DISPLAY": display})

    def told(event: str, name: str | None) -> bool:
        return any((line["event"], line["name"]) == (event, name) for line in whole_lines(events))

    arguments = ("--source", film, "--gallery", nobody, "--events", events)
    live = ("--set", "capture.as_live=true", "--set", "capture.loop=true")
    with start(tmp_path, *arguments, *live, display=display) as running:
        eventually(lambda: events.exists() and told("appeared", None))
        # the film begins anew every 1.6 s, and then nobody is there for a moment; no letter of the name is a command
        for _ in range(5):
            keys("key", "n", "sleep", "0.2", "type", "--delay", "30", "Eva")
            keys("key", "Return", "sleep", "0.8")
            if told("named", "Eva"):
                break
        keys("key", "q")
        ran = running.end()
    assert ran.code == 0
    assert "no window" not in ran.err
    assert told("named", "Eva")
    with Gallery.open(nobody, create=False) as opened:
        assert [person.name for person in opened.people()] == ["Eva"]
