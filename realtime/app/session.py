"""One run of the program: sources, gallery, outputs and window put together, and the loop of the main thread.

Enters: what the command line said. Leaves: whether the run came to its end.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from realtime.app.demo_gallery import demo_gallery_path
from realtime.app.outputs import Outputs
from realtime.app.people_output import say
from realtime.app.summary import Summary
from realtime.capture.source import Source, open_source
from realtime.errors import GalleryError
from realtime.faces.embedding import open_embedder
from realtime.flow.pipeline import Pipeline
from realtime.people.enrollment import reference_of_view
from realtime.people.gallery import Gallery, default_gallery_path
from realtime.people.names import clean_name
from realtime.records import Result
from realtime.settings import Settings
from realtime.show.overlay import Overlay
from realtime.show.snapshot import save_snapshot
from realtime.show.wall import Tile
from realtime.show.window import NameFace, Quit, Snapshot, TogglePause, Window, open_window

log = logging.getLogger(__name__)

DRAW_EVERY_S: Final = 1 / 60
"""A window is not drawn more often than screens show."""


@dataclass(slots=True)
class _View:
    """What one source shows now."""

    result: Result | None = None


@dataclass(slots=True)
class _Pace:
    """Plays a file that is only watched at its own speed."""

    on: bool
    started_s: float = field(default_factory=time.monotonic)

    def wait(self, result: Result, pump: Callable[[], None]) -> None:
        while self.on and (ahead_s := result.frame.time_s - (time.monotonic() - self.started_s)) > 0.002:
            pump()
            time.sleep(min(ahead_s, DRAW_EVERY_S))


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
        self._paused = False
        self._drawn_s = 0.0
        try:
            self._open(specs, gallery, outputs, events, window)
        except BaseException:
            self._stack.close()
            raise

    def _open(
        self, specs: Sequence[str], gallery: Path | None, outputs: Sequence[str], events: str | None, window: bool
    ) -> None:
        settings = self._settings
        Outputs.check(outputs)
        self.sources = self._open_sources(specs)
        self._engine = open_embedder(settings.embed)
        self._stack.callback(self._engine.close)
        self._gallery = self._open_gallery(specs, gallery)
        self._window = open_window(settings.show, title=f"realtime - {', '.join(specs)}") if window else None
        if self._window is not None:
            self._stack.callback(self._window.close)
        elif window:
            say("no display: running without a window", err=True)
        self._pipeline = Pipeline(self.sources, settings, self._engine, self._gallery.references)
        self._overlay = Overlay(settings.show)
        self._outputs = Outputs(outputs, events, self.sources, settings.show, lines=self._window is None)
        self._stack.callback(self._outputs.close)
        self._summary = Summary()
        self._views = {source.name: _View() for source in self.sources}
        self._pace = _Pace(on=self._window is not None and not outputs and not any(s.live for s in self.sources))

    def _open_sources(self, specs: Sequence[str]) -> list[Source]:
        sources: list[Source] = []
        for spec in specs:
            source = open_source(spec, self._settings.capture)
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

    def _open_gallery(self, specs: Sequence[str], path: Path | None) -> Gallery:
        if path is not None:
            if not path.exists():
                raise GalleryError(f"{path}: there is no gallery; make one with `realtime enroll PHOTO --gallery {path}`")
        elif set(specs) == {"demo"}:
            path = demo_gallery_path(self._settings, self._engine)
        else:
            path = default_gallery_path()
        gallery = self._stack.enter_context(Gallery.open(path, self._engine.manifest))
        people = len(gallery.people())
        say(f"{self._engine.manifest.name} on {self._engine.choice}; {people} people in {path}", err=True)
        if not people:
            say("nobody is enrolled yet: everyone will be unknown; start with `realtime enroll PHOTO`", err=True)
        return gallery

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._pipeline.stop()
        finally:
            self._stack.close()

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Until all sources end, the window is closed or Ctrl-C. True unless a file was cut short."""
        ours = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, self._on_signal) for number in _signals()} if ours else {}
        ended = False
        try:
            self._pipeline.start()
            with self._outputs.progress():
                for result in self._pipeline.results():
                    if result is not None:
                        self._take(result)
                    self._serve_window()
                    if self._stop.is_set():
                        break
                else:
                    ended = True
            self._pipeline.stop()
            self._outputs.finish()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._summary.tell(self._pipeline.statuses(), self._outputs, to_stderr=self._outputs.uses_stdout)
        return ended or all(source.live for source in self.sources)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The first one ends cleanly, the second one kills."""
        self._stop.set()
        signal.signal(number, signal.SIG_DFL)

    def _take(self, result: Result) -> None:
        self._pace.wait(result, self._serve_window)
        self._views[result.frame.source].result = result
        self._summary.count(result)
        self._outputs.write(result, self._tiles, self._overlay)
        if self._summary.frames == 1:
            log.info("first frame shown")

    def _tiles(self) -> list[Tile]:
        statuses = {status.source: status for status in self._pipeline.statuses()}
        return [
            Tile(
                source=name,
                rgb=view.result.frame.rgb if view.result else None,
                sightings=view.result.sightings if view.result else (),
                status=statuses[name],
            )
            for name, view in self._views.items()
        ]

    def _serve_window(self) -> None:
        window = self._window
        if window is None:
            return
        now = time.monotonic()
        if not self._paused and now - self._drawn_s >= DRAW_EVERY_S:
            self._drawn_s = now
            window.show(self._tiles())
        for action in window.poll():
            self._act(window, action)
        while self._paused and not self._stop.is_set():
            time.sleep(DRAW_EVERY_S)
            for action in window.poll():
                self._act(window, action)

    def _act(self, window: Window, action: Any) -> None:
        if isinstance(action, Quit):
            self._stop.set()
        elif isinstance(action, TogglePause):
            self._paused = not self._paused
            window.pause(self._paused)
            self._pace.started_s += 0.0 if self._paused else time.monotonic() - self._drawn_s
        elif isinstance(action, Snapshot):
            self._save(window)
        elif isinstance(action, NameFace):
            self._enroll(window, action)

    def _save(self, window: Window) -> None:
        from realtime.errors import OutputError

        for name, view in self._views.items():
            if view.result is not None:
                try:
                    path = save_snapshot(self._overlay.draw(view.result.frame.rgb, view.result.sightings), name)
                except OutputError as err:
                    window.notice(str(err))
                else:
                    window.notice(f"saved {path}")

    def _enroll(self, window: Window, action: NameFace) -> None:
        """Somebody was named in the window: their best view so far becomes a reference."""
        best = self._pipeline.best_view(action.source, action.track)
        if best is None:
            window.notice(f"the face is gone; {action.name} was not enrolled")
            return
        view, fused_D = best
        try:
            name = clean_name(action.name)
            reference = reference_of_view(
                view, fused_D, self._engine.manifest, self._settings.gallery, source=action.source
            )
            self._gallery.add(name, [reference])
        except GalleryError as err:
            window.notice(str(err))
            return
        self._pipeline.refresh()
        window.notice(f"enrolled {name}")


def _signals() -> list[int]:
    return [signal.SIGINT, signal.SIGTERM] if sys.platform != "win32" else [signal.SIGINT]
