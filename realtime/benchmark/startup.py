"""How long a person waits from the command to the first picture.

Enters: a clip and a gallery. Leaves: seconds of several starts of the real command in processes of their own, with a
window (SDL's dummy driver where there is no display), until the line of the first frame is written.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from realtime.errors import RealtimeError

LIMIT_S: Final = 120.0
"""A start that takes longer has failed."""

POLL_S: Final = 0.005
STOP_S: Final = 10.0
COMMAND: Final = (sys.executable, "-c", "from realtime.app import main; main()")


def time_starts(clip: Path, gallery: Path, *, starts: int = 3, overrides: tuple[str, ...] = ()) -> list[float]:
    """Seconds of each start; one more, before them, fills the caches and is not counted.

    Raises:
        RealtimeError: the command ended, or showed nothing within two minutes.
    """
    return [_start(clip, gallery, overrides) for _ in range(starts + 1)][1:]


def _start(clip: Path, gallery: Path, overrides: tuple[str, ...]) -> float:
    environment = dict(os.environ)
    if not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")):
        environment.setdefault("SDL_VIDEODRIVER", "dummy")
    with tempfile.TemporaryDirectory(prefix="realtime-bench-") as folder:
        lines, said = Path(folder) / "frames.jsonl", Path(folder) / "said.txt"
        options = ["--source", str(clip), "--gallery", str(gallery), "--output", str(lines)]
        options += [part for override in overrides for part in ("--set", override)]
        with said.open("wb") as sink:
            start_s = time.perf_counter()
            program = subprocess.Popen([*COMMAND, *options], env=environment, stdout=sink, stderr=sink)
            try:
                while not (lines.exists() and lines.stat().st_size):
                    waited_s = time.perf_counter() - start_s
                    if program.poll() is not None or waited_s > LIMIT_S:
                        last = said.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
                        raise RealtimeError(f"{clip}: no frame was shown after {waited_s:.0f} s; it said: {last[0]}")
                    time.sleep(POLL_S)
                return time.perf_counter() - start_s
            finally:
                _stop(program)


def _stop(program: subprocess.Popen[bytes]) -> None:
    if program.poll() is None:
        program.send_signal(signal.SIGINT)
        try:
            program.wait(STOP_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
