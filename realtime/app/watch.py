"""The window of a run: what it shows, and what the person before it does.

Enters: results as they come, and the person's keys. Leaves: pictures, a wish to stop, snapshots, new people in the
gallery.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest
from realtime.errors import GalleryError, OutputError
from realtime.faces.analysis import View
from realtime.flow.pipeline import Pipeline
from realtime.people.enrollment import quality_problem, reference_of_view
from realtime.people.gallery import Gallery
from realtime.people.names import clean_name
from realtime.records import Result
from realtime.settings import Settings
from realtime.show.overlay import Overlay
from realtime.show.snapshot import save_snapshot
from realtime.show.wall import Tile
from realtime.show.window import Action, NameFace, Quit, Snapshot, TogglePause, Window

DRAW_EVERY_S: Final = 1 / 60
"""A window is not drawn more often than screens show."""

REDRAW_EVERY_S: Final = 0.25
"""Without a new picture it is drawn this often: a camera that reconnects counts seconds."""

MAX_BEHIND_S: Final = 0.5
"""A file that is played and falls behind further than this goes on from there, and does not race to catch up."""

Best = tuple[View, NDArray[np.float32]]


class Watch:
    """Serves one window; belongs to the main thread.

    Args:
        window: open; stays the caller's to close.
        pipeline: asked for the best view of a face that is named.
        gallery: takes the people who are named.
        manifest: of the model in use.
        settings: checked options.
        overlay: draws snapshots.
        tiles: what all sources show now.
        stop: set when the person quits; ends every wait in here.
        plays: files are shown at their own speed, and a pause holds them; else a pause holds the picture only, so that
            a recording has no hole and a camera is not kept waiting.
    """

    def __init__(
        self,
        window: Window,
        pipeline: Pipeline,
        gallery: Gallery,
        manifest: Manifest,
        settings: Settings,
        overlay: Overlay,
        tiles: Callable[[], list[Tile]],
        stop: threading.Event,
        *,
        plays: bool,
    ) -> None:
        self._window = window
        self._pipeline = pipeline
        self._gallery = gallery
        self._manifest = manifest
        self._settings = settings
        self._overlay = overlay
        self._tiles = tiles
        self._stop = stop
        self._plays = plays
        self._paused = False
        self._fresh = True
        self._drawn_s = 0.0
        self._shown: Sequence[Tile] = ()
        self._origins: dict[str, float] = {}
        self._kept: dict[tuple[str, int], Best] = {}

    def wait_for(self, result: Result) -> None:
        """Until it is time to show ``result``, where files are played."""
        if not self._plays:
            return
        source, time_s = result.frame.source, result.frame.time_s
        if time.monotonic() - time_s - self._origins.get(source, -1e9) > MAX_BEHIND_S:
            self._origins[source] = time.monotonic() - time_s
        while not self._stop.is_set():
            ahead_s = self._origins[source] + time_s - time.monotonic()
            if ahead_s < 0.002:
                return
            self.serve()
            time.sleep(min(ahead_s, DRAW_EVERY_S))

    def changed(self) -> None:
        """There is a new picture to show."""
        self._fresh = True

    def serve(self) -> None:
        """Draw where there is something new, and do what the person asks; waits while files are paused."""
        if not self._paused and time.monotonic() - self._drawn_s >= (DRAW_EVERY_S if self._fresh else REDRAW_EVERY_S):
            self._drawn_s, self._fresh = time.monotonic(), False
            self._shown = self._tiles()
            self._window.show(self._shown)
        self._listen()
        while self._paused and self._plays and not self._stop.is_set():
            time.sleep(DRAW_EVERY_S)
            self._listen()

    def _listen(self) -> None:
        for action in self._window.poll():
            self._act(action)
        draft = self._window.draft
        if draft is not None:
            self._keep(draft.source, draft.track)
        elif not self._paused:
            self._kept.clear()

    def _act(self, action: Action) -> None:
        if isinstance(action, Quit):
            self._stop.set()
        elif isinstance(action, TogglePause):
            self._paused = not self._paused
            self._window.pause(self._paused)
            for tile in self._shown:
                for face in tile.sightings:
                    self._keep(tile.source, face.track)
        elif isinstance(action, Snapshot):
            self._save()
        elif isinstance(action, NameFace):
            self._enroll(action)

    def _keep(self, source: str, track: int) -> None:
        """Typing takes longer than many a face stays: the best that was seen of it until then is enrolled."""
        best = self._pipeline.best_view(source, track)
        if best is not None:
            self._kept[source, track] = best

    def _save(self) -> None:
        for tile in self._shown:
            if tile.rgb is None:
                continue
            try:
                path = save_snapshot(self._overlay.draw(tile.rgb, tile.sightings), tile.source)
            except OutputError as err:
                self._window.notice(str(err))
            else:
                self._window.notice(f"saved {path}")

    def _enroll(self, action: NameFace) -> None:
        best = self._pipeline.best_view(action.source, action.track) or self._kept.get((action.source, action.track))
        if best is None:
            self._window.notice(f"the face was gone too soon; {action.name} was not enrolled")
            return
        view, fused_D = best
        problem = quality_problem(view.quality, self._settings.gallery)
        if problem is not None:
            self._window.notice(f"{action.name} was not enrolled: {problem[1].partition(';')[0]}")
            return
        try:
            name = clean_name(action.name)
            reference = reference_of_view(view, fused_D, self._manifest, self._settings.gallery, source=action.source)
            self._gallery.add(name, [reference])
        except GalleryError as err:
            self._window.notice(str(err))
            return
        self._pipeline.refresh()
        self._window.notice(f"enrolled {name}")
