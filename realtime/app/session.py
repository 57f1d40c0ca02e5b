"""One run of the program: sources, gallery, outputs and window put together, and the loop of the main thread.

Enters: what the command line said. Leaves: whether the run came to its end.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from realtime.app.demo_gallery import demo_gallery_path
from realtime.app.engine import RunEngine
from realtime.app.outputs import Outputs, check_outputs
from realtime.app.people_output import counted, say
from realtime.app.summary import Summary
from realtime.app.watch import Watch
from realtime.capture.addresses import stream_name
from realtime.capture.late import LateSource
from realtime.capture.source import Source, open_source
from realtime.errors import OutputError, SourceLost
from realtime.flow.pipeline import Pipeline
from realtime.people.gallery import Gallery, default_gallery_path
from realtime.records import Result
from realtime.settings import Settings
from realtime.show.overlay import Overlay
from realtime.show.wall import Tile
from realtime.show.window import open_window

log = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""They end a run cleanly; a second one kills."""

INTERRUPTED: Final = 130
"""Exit code of a program that Ctrl-C ended before it had begun."""


class Session:
    """A context manager: closes all that it opened, whatever happens, so that every output is whole.

    Args:
        specs: what was typed after each ``--source``.
        settings: checked options.
        gallery: file, or None for the user's own (the demo's for ``demo`` alone).
        outputs: files, as typed.
        events: file of event lines, or None.
        window: whether a window is wanted.
    """

    def __init__(
        self,
        specs: Sequence[str],
        settings: Settings,
        *,
        gallery: Path | None,
        outputs: Sequence[str],
        events: str | None,
        window: bool,
    ) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._stack = ExitStack()
        self._newest: dict[str, Result] = {}
        self._left_behind = False
        self._complete = False
        self._opened: RunEngine | None = None
        self._summary = Summary()
        try:
            self._open(specs, gallery, outputs, events, window)
        except BaseException as err:
            self._close(INTERRUPTED if isinstance(err, KeyboardInterrupt) else 1)
            raise

    def _open(
        self, specs: Sequence[str], gallery: Path | None, outputs: Sequence[str], events: str | None, window: bool
    ) -> None:
        settings = self._settings
        check_outputs(outputs, events, inputs=[*specs, str(gallery or default_gallery_path())])
        self.sources = self._open_sources(specs)
        self._opened = RunEngine(settings.embed, gallery or default_gallery_path())
        self._engine = self._opened.engine
        self._stack.callback(self._free, self._engine.close)
        self._gallery = self._open_gallery(specs, gallery)
        self._opened.gallery = self._gallery.path
        self._opened.begin(live=all(source.live for source in self.sources))
        self._pipeline = Pipeline(self.sources, settings, self._engine, self._gallery.references)
        self._overlay = Overlay(settings.show)
        # the title is what every program on this desktop can read: no password in it
        title = f"realtime - {', '.join(source.name for source in self.sources)}"
        shown = open_window(settings.show, title=title) if window else None
        if shown is not None:
            self._stack.callback(shown.close)
        self._outputs = Outputs(outputs, events, self.sources, settings.show, lines=shown is None)
        self._stack.callback(self._outputs.close)
        self._watch: Watch | None = None
        if shown is not None:
            self._watch = Watch(
                shown,
                self._pipeline,
                self._gallery,
                self._engine.manifest,
                settings,
                self._overlay,
                self._tiles,
                self._stop,
                plays=not outputs and not any(source.live for source in self.sources),
            )

    def _free(self, close: Callable[[], None]) -> None:
        """A thread that is stuck in a driver may still use it: then the end of the process frees it."""
        if not self._left_behind:
            close()

    def _open_sources(self, specs: Sequence[str]) -> list[Source]:
        sources: list[Source] = []
        for spec in specs:
            source = self._open_source(spec, alone=len(specs) == 1)
            self._stack.callback(source.close)
            taken = {each.name for each in sources}
            if source.name in taken:
                number = next(n for n in range(2, 10_000) if f"{source.name} ({n})" not in taken)
                name = f"{source.name} ({number})"
                source.close()
                source = open_source(spec, self._settings.capture, name=name)
                self._stack.callback(source.close)
            sources.append(source)
        return sources

    def _open_source(self, spec: str, *, alone: bool) -> Source:
        """Among several a camera that is off joins when it is on; what cannot be mended by waiting stops the run."""
        try:
            return open_source(spec, self._settings.capture)
        except SourceLost as err:
            if alone:
                raise
            log.warning("%s; going on without it until it answers", err)
            name = stream_name(spec) if "://" in spec else f"camera {spec}"
            return LateSource(spec, self._settings.capture, name=name, reason=str(err))

    def _open_gallery(self, specs: Sequence[str], given: Path | None) -> Gallery:
        path = given
        if path is None:
            path = demo_gallery_path(self._settings, self._engine) if set(specs) == {"demo"} else default_gallery_path()
        # a gallery of others may be used though not changed
        look_only = given is not None and os.access(given, os.R_OK) and not os.access(given, os.W_OK)
        gallery = Gallery.open(path, self._engine.manifest, create=given is None, read_only=look_only)
        self._stack.callback(self._free, gallery.close)
        people = len(gallery.people())
        say(f"{self._engine.manifest.name} on {self._engine.choice}; {counted(people, 'person')} in {path}", err=True)
        if self._engine.manifest.threshold_fmr is None:
            say("the model's threshold was not measured: names may be wrong; run `realtime calibrate`", err=True)
        if not people:
            say("nobody is enrolled yet: everyone will be unknown; start with `realtime enroll PHOTO`", err=True)
        return gallery

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._left_behind = not self._pipeline.stop()
        finally:
            self._close(0 if self._complete else 1)

    def _close(self, code: int) -> None:
        try:
            self._stack.close()
        finally:
            if self._opened is not None:
                self._opened.leave(code)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Until all sources end, the window is closed or Ctrl-C. True unless a file was cut short or a source failed.

        Raises:
            RealtimeError: a source, an output or the pipeline failed; what was written before is whole.
        """
        ours = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS} if ours else {}
        try:
            try:
                ended = self._loop()
            except BaseException:
                self._pipeline.stop()
                with suppress(OutputError):  # the first error is the one to tell
                    self._outputs.finish()
                raise
            self._pipeline.stop()
            self._outputs.finish()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._summary.tell(self._pipeline.statuses(), self._outputs)
        self._complete = self._is_complete(ended)
        return self._complete

    def _loop(self) -> bool:
        """Whether the sources came to their end."""
        self._pipeline.start()
        with self._outputs.progress():
            for result in self._pipeline.results():
                if result is not None:
                    self._take(result)
                if self._watch is not None:
                    self._watch.serve()
                if self._stop.is_set() or self._outputs.unread:
                    return False
        return True

    def _take(self, result: Result) -> None:
        if self._watch is not None:
            self._watch.wait_for(result)
            self._watch.changed()
        if not self._newest:
            log.info("first frame")
        self._newest[result.frame.source] = result
        self._summary.count(result)
        self._outputs.write(result, self._tiles, self._overlay)

    def _tiles(self) -> list[Tile]:
        tiles = []
        for status in self._pipeline.statuses():
            newest = self._newest.get(status.source)
            tiles.append(
                Tile(
                    source=status.source,
                    rgb=newest.frame.rgb if newest else None,
                    sightings=newest.sightings if newest else (),
                    status=status,
                )
            )
        return tiles

    def _is_complete(self, ended: bool) -> bool:
        if any(status.state == "failed" for status in self._pipeline.statuses()):
            return False  # which and why was said when it happened
        only_watched = self._watch is not None and not self._outputs.writes
        if ended or only_watched or all(source.live for source in self.sources):
            return True
        say("realtime: stopped before the end of the file; the outputs hold what came before", err=True)
        return False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
