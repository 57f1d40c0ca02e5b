"""Everything that a run writes: annotated video, frame lines, event lines, the progress bar.

Enters: results. Leaves: files that are whole whenever the run ends.
"""

from __future__ import annotations

import sys
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

WALL_FPS: Final = 25.0
"""Frames a second of a video that shows several sources at once."""

SAYINGS: Final = {
    "appeared": "somebody appeared",
    "named": "{name}",
    "renamed": "no longer sure: now {name}",
    "left": "{name} left",
}


class Outputs:
    """All outputs of one run.

    Args:
        files: as typed after each ``--output``.
        events: as typed after ``--events``, or None.
        sources: what will be shown.
        settings: the ``show`` section.
        lines: say events on standard output where nothing else is written and there is no window.
    """

    def __init__(
        self, files: Sequence[str], events: str | None, sources: Sequence[Source], settings: ShowSettings, *, lines: bool
    ) -> None:
        self._sources = list(sources)
        self._settings = settings
        self._stack = ExitStack()
        self._tracker = EventTracker()
        self._frames: list[FramesOutput] = []
        self._videos: list[VideoOutput] = []
        self._events: EventsOutput | None = None
        self._bar: Any = None
        self._wall_s = -1.0
        self.files = [file for file in files if file != "-"]
        self.uses_stdout = "-" in files or events == "-"
        self._talk = lines and not files and events is None
        try:
            for file in files:
                self._open(file)
            if events is not None or (self._talk and not sys.stdout.isatty()):
                self._events = EventsOutput(events if events is not None else "-")
                self._stack.callback(self._events.close)
                self.uses_stdout = self.uses_stdout or events is None
        except BaseException:
            self.close()
            raise

    @staticmethod
    def check(files: Sequence[str]) -> None:
        """Complain of a suffix or a folder before anything slow happens.

        Raises:
            SettingsError: no such kind of output, or one file twice.
            OutputError: its folder does not exist.
        """
        if len(set(files)) < len(files):
            raise SettingsError("--output: the same file is given twice")
        for file in files:
            if file != "-":
                output_kind(file)
                if not Path(file).absolute().parent.is_dir():
                    raise OutputError(f"{file}: the folder {Path(file).parent} does not exist; make it first")

    def _open(self, file: str) -> None:
        if file == "-" or output_kind(file) == "frames":
            frames = FramesOutput(file)
            self._stack.callback(frames.close)
            self._frames.append(frames)
            return
        only = self._sources[0] if len(self._sources) == 1 else None
        info = only.info if only is not None else None
        sound = Path(only.path) if only is not None and info is not None and info.audio and hasattr(only, "path") else None
        video = VideoOutput(
            Path(file), self._settings, fps=info.fps if info is not None else WALL_FPS, audio_from=sound
        )
        self._stack.callback(video.close)
        self._videos.append(video)

    def write(self, result: Result, tiles: Callable[[], list[Tile]], overlay: Overlay) -> None:
        """One more result; ``tiles`` gives what all sources show, for a video of several.

        Raises:
            OutputError: an output cannot be written; the others are still whole.
        """
        for frames in self._frames:
            frames.write(result)
        for event in self._tracker.update(result):
            self._tell(event)
        if self._videos:
            if len(self._sources) == 1:
                picture = overlay.draw(result.frame.rgb, result.sightings)
                for video in self._videos:
                    video.write(picture, result.frame.time_s)
            elif result.frame.time_s >= self._wall_s + 1 / WALL_FPS:
                self._wall_s = result.frame.time_s
                wall, _ = compose(tiles(), self._settings.width, self._settings.height, overlay)
                for video in self._videos:
                    video.write(wall, result.frame.time_s)
        if self._bar is not None:
            self._bar.update()

    def _tell(self, event: Event) -> None:
        if self._events is not None:
            self._events.write(event)
        elif self._talk:
            text = SAYINGS[event.event].format(name=event.name or "nobody we know")
            say(f"{event.time_s:8.1f} s  {event.source}  face {event.track}: {text}")

    def progress(self) -> ExitStack:
        """A progress bar on stderr while files of a known length are read, on a terminal."""
        from tqdm import tqdm

        stack = ExitStack()
        if not any(source.live for source in self._sources):
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
        for source in self._sources:
            for event in self._tracker.finish(source.name):
                self._tell(event)
        self.close()

    def close(self) -> None:
        """Make every file whole; may be called twice."""
        self._stack.close()
