"""Everything that a run writes: annotated video, frame lines, event lines, the progress bar.

Enters: results. Leaves: files that are whole whenever the run ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from realtime.app.people_output import say
from realtime.capture.source import Source
from realtime.errors import OutputError, SettingsError
from realtime.records import Event, Result
from realtime.settings import ShowSettings
from realtime.show.events import EventsOutput, EventTracker, FramesOutput
from realtime.show.overlay import Overlay
from realtime.show.video import VideoOutput, output_kind
from realtime.show.wall import Tile, compose

STDOUT: Final = "-"

WALL_FPS: Final = 25.0
"""Frames a second of a video that shows several sources at once."""


CLOCK_S: Final = 1e-4
"""Times that are nearer than this are the same."""


def check_outputs(files: Sequence[str], events: str | None, *, inputs: Sequence[str]) -> None:
    """Complain of what a person mistyped before anything slow happens.

    Args:
        files, events: as typed.
        inputs: files that are read, among them sources and addresses of other kinds.

    Raises:
        SettingsError: no such kind of output, or one file twice.
        OutputError: a folder does not exist, or an output would replace what is read.
    """
    for file in files:
        output_kind(file)
    named = [*files, *([] if events is None or events == STDOUT else [events])]
    seen: dict[str, str] = {}
    for file in named:
        where = file if file == STDOUT else str(Path(file).absolute().resolve())
        if where in seen:
            raise SettingsError(f"{file}: is given as an output twice; each needs a file of its own")
        seen[where] = file
        if file != STDOUT:
            _check_place(file, inputs)


def _check_place(file: str, inputs: Sequence[str]) -> None:
    path = Path(file)
    try:
        if not path.absolute().parent.is_dir():
            raise OutputError(f"{file}: the folder {path.parent} does not exist; make it first")
        same = path.exists() and any(_is_file(given) and path.samefile(given) for given in inputs)
    except OSError as err:
        shown = file if len(file) <= 80 else f"{file[:80]}…"
        raise OutputError(f"{shown}: cannot be written ({err.strerror or err})") from err
    if same:
        raise OutputError(f"{file}: is what is read from; give the output another name")


def _is_file(given: str) -> bool:
    try:
        return Path(given.removeprefix("file://")).is_file()
    except (OSError, ValueError):  # an address or a pattern, too long or too odd for a path
        return False


class Outputs:
    """All outputs of one run.

    Args:
        files: as typed after each ``--output``; ``check_outputs`` has seen them.
        events: as typed after ``--events``, or None.
        sources: what will be shown.
        settings: the ``show`` section.
        lines: say events on standard output where nothing else is written and there is no window.
    """

    def __init__(
        self,
        files: Sequence[str],
        events: str | None,
        sources: Sequence[Source],
        settings: ShowSettings,
        *,
        lines: bool,
    ) -> None:
        self._sources = list(sources)
        self._settings = settings
        self._live = any(source.live for source in sources)
        self._stack = ExitStack()
        self._tracker = EventTracker()
        self._frames: list[FramesOutput] = []
        self._videos: list[VideoOutput] = []
        self._events: EventsOutput | None = None
        self._bar: Any = None
        self._began_s = 0.0
        self._times_s: dict[str, float] = {}
        self._next_wall_s = 0.0
        self.files = [file for file in files if file != STDOUT]
        """Those that were asked for and are no standard output."""
        self.writes = bool(files) or events is not None
        """Whether anything was asked for."""
        self.unread = False
        """Whoever read standard output has gone."""
        talks = lines and not self.writes
        self.uses_stdout = STDOUT in files or events == STDOUT or (talks and not sys.stdout.isatty())
        """Standard output carries lines for a program: nothing else may be said there."""
        self._talks = talks and not self.uses_stdout
        try:
            for file in files:
                self._open(file)
            if events is not None or (talks and self.uses_stdout):
                self._events = EventsOutput(events if events is not None else STDOUT)
                self._stack.callback(self._events.close)
        except BaseException:
            self.close()
            raise

    def _open(self, file: str) -> None:
        if output_kind(file) == "frames":
            frames = FramesOutput(file)
            self._stack.callback(frames.close)
            self._frames.append(frames)
            return
        info = self._sources[0].info if len(self._sources) == 1 else None
        sound = info.path if info is not None and info.audio else None
        video = VideoOutput(Path(file), self._settings, fps=info.fps if info else WALL_FPS, audio_from=sound)
        self._stack.callback(video.close)
        self._videos.append(video)

    def write(self, result: Result, tiles: Callable[[], list[Tile]], overlay: Overlay) -> None:
        """One more result; ``tiles`` gives what all sources show, for a video of several.

        Raises:
            OutputError: an output cannot be written; the others are still whole.
        """
        self._write_lines(result)
        if self._videos and len(self._sources) == 1:
            self._write_picture(overlay.draw(result.frame.rgb, result.sightings), result.frame.time_s)
        elif self._videos:
            self._write_wall(result, tiles, overlay)
        if self._bar is not None:
            self._bar.update()

    def _write_lines(self, result: Result) -> None:
        try:
            for frames in self._frames:
                frames.write(result)
            for event in self._tracker.update(result):
                self._tell(event)
        except OutputError as err:
            self._forgive(err)

    def _write_picture(self, rgb_HW3: Any, time_s: float) -> None:
        for video in self._videos:
            video.write(rgb_HW3, time_s)

    def _write_wall(self, result: Result, tiles: Callable[[], list[Tile]], overlay: Overlay) -> None:
        """Each source counts from its own first frame: cameras are shown by the clock, files by the slowest of them,
        so that nothing of it is lost."""
        if not self._times_s:
            self._began_s = time.monotonic()
        self._times_s[result.frame.source] = result.frame.time_s
        time_s = time.monotonic() - self._began_s if self._live else result.frame.time_s
        if time_s < self._next_wall_s - CLOCK_S:
            return
        shown = tiles()
        if not self._live:
            time_s = min((self._times_s.get(tile.source, 0.0) for tile in shown if _goes_on(tile)), default=time_s)
            if time_s < self._next_wall_s - CLOCK_S:
                return
        self._next_wall_s = max(self._next_wall_s + 1 / WALL_FPS, time_s)
        self._write_picture(compose(shown, self._settings.width, self._settings.height, overlay)[0], time_s)

    def _tell(self, event: Event) -> None:
        if self._events is not None:
            self._events.write(event)
        elif self._talks:
            say(f"{event.time_s:8.1f} s  {event.source}  face {event.track}: {in_words(event)}")

    def _forgive(self, err: OutputError) -> None:
        """A reader that has seen enough (``| head``) is no failure; the run ends as with Ctrl-C."""
        if not isinstance(err.__cause__, BrokenPipeError):
            raise err
        self.unread = True

    def progress(self) -> ExitStack:
        """A progress bar on stderr while files of a known length are read, on a terminal."""
        from tqdm import tqdm

        stack = ExitStack()
        if not self._live:
            counts = [source.info.frames for source in self._sources]
            known = [count for count in counts if count]
            self._bar = stack.enter_context(
                tqdm(
                    total=sum(known) if len(known) == len(counts) else None,
                    unit="frame",
                    disable=None,
                    delay=2.0,
                    file=sys.stderr,
                )
            )
        return stack

    def finish(self) -> None:
        """Nobody is in the picture any more: the events say so; then close."""
        try:
            for source in self._sources:
                for event in self._tracker.finish(source.name):
                    self._tell(event)
        except OutputError as err:
            self._forgive(err)
        finally:
            self.close()

    def close(self) -> None:
        """Make every file whole, whatever happens to the others; may be called twice."""
        self._stack.close()


def _goes_on(tile: Tile) -> bool:
    return tile.status is None or tile.status.state not in ("ended", "failed")


def in_words(event: Event) -> str:
    """An event for people."""
    if event.event == "left":
        return f"{event.name or 'somebody'} left"
    if event.event == "renamed":
        return f"is {event.name} now" if event.name else "nobody is sure any more who this is"
    return event.name or "somebody appeared"
