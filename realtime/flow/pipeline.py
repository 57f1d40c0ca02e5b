"""The one place that owns threads: sources in, results out.

Enters: open sources, settings, an engine, and where the gallery's references come from. Leaves: a ``Result`` for every
frame that is to be shown, in the caller's thread.

    capture (one a source) -> detection pool -> follow (one a source) -> recognise (one for all) -> the caller

A file goes through the whole chain in order, each hand-over waits when the next stage is behind, and the output
depends on the pictures alone. A live source's frames go to the caller as soon as faces are followed in them, with the
names that are known by then, while the recogniser looks at the newest frame beside it: display never waits for
recognition.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine
from realtime.capture.source import Source
from realtime.errors import GalleryError, SourceError
from realtime.faces.alignment import template_named
from realtime.faces.analysis import View, view_faces
from realtime.faces.embedding import embed_in_batches
from realtime.faces.landmarks import Landmarker
from realtime.faces.scenes import Prepared, Scout
from realtime.faces.tracking import Followed, TrackedFace, Tracker
from realtime.flow.exchange import Exchange
from realtime.flow.lookout import Lookout
from realtime.flow.telemetry import Meter
from realtime.flow.worker import Worker
from realtime.people.hindsight import Hindsight, without
from realtime.people.identity import Identities
from realtime.people.matching import References
from realtime.records import Frame, Result, Sighting, SourceStatus
from realtime.settings import Settings

log = logging.getLogger(__name__)

IDLE_S: Final = 0.03
"""The caller gets control back this often though nothing happened, to serve its window."""

REFRESH_S: Final = 0.3
"""Changes of the gallery are looked for this often."""

LOOKAHEAD_BYTES: Final = 64 << 20
PATIENCE_S: Final = 10.0
"""A gallery that could not be read is asked again after so long."""

MAX_LOOKAHEAD: Final = 40
"""Frames; three coarse looks, so that two cores always have one to work on."""

JOIN_S: Final = 5.0
"""A thread that does not end within this time after ``stop`` is left behind: it is stuck in a driver."""


@dataclass(slots=True)
class _Lane:
    """One source and everything that follows it."""

    number: int
    source: Source
    scout: Scout
    tracker: Tracker
    identities: Identities
    captured: Exchange[Frame | Prepared]
    hindsight: Hindsight
    meter: Meter = field(default_factory=Meter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards ``identities``."""
    started: bool = False
    ended: bool = False
    failure: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Shown:
    followed: Followed
    sightings: tuple[Sighting, ...] | None
    """None: ask when it is shown (a live source)."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One face to be embedded."""

    lane: _Lane
    followed: Followed
    face: TrackedFace
    urgency: int


class Pipeline:
    """Runs from ``start`` to the end of all sources or ``stop``; used as a context manager it does both.

    Args:
        sources: open sources; the pipeline closes them.
        settings: everything that can be set.
        engine: embeds aligned faces; belongs to the caller.
        references: gives the gallery of this moment; called from the recogniser's and the caller's thread.
    """

    def __init__(
        self, sources: Sequence[Source], settings: Settings, engine: Engine, references: Callable[[], References]
    ) -> None:
        cv2.setNumThreads(1)  # OpenCV's pool on top of our threads only makes them wait for each other
        template_named(engine.manifest.template)
        self._settings = settings
        self._engine = engine
        self._fresh = _Fresh(references)
        self._landmarker = Landmarker(settings.align.landmarks)
        albums = {_is_album(source) for source in sources}
        self._lookouts = {album: Lookout(settings.detect, photos=album) for album in albums}
        self._lanes = [self._lane(number, source) for number, source in enumerate(sources)]
        live = [source.live for source in sources]
        self._to_recognise: Exchange[Followed | None] = Exchange(live)
        self._to_show: Exchange[_Shown] = Exchange(live)
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._workers: list[Worker] = []

    def _lane(self, number: int, source: Source) -> _Lane:
        settings = self._settings
        # photos are strangers to each other: nothing moves from one to the next, and one view is all that there is
        tracking = settings.track.enabled and not _is_album(source)
        manifest = self._engine.manifest
        lookout = self._lookouts[_is_album(source)]
        return _Lane(
            number=number,
            source=source,
            scout=Scout(settings.detect, lookout.find, every_frame=not tracking),
            tracker=Tracker(settings.track.model_copy(update={"enabled": tracking}), lookout.detector),
            identities=Identities(
                settings.identity,
                threshold=settings.identity.threshold or manifest.threshold,
                unit_length=manifest.unit_length,
                fuse_views=tracking,
            ),
            captured=Exchange([source.live], room=_lookahead(source)),
            hindsight=Hindsight(settings.identity.hindsight_s),
        )

    # -- for the caller -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all threads; call once."""
        for lane in self._lanes:
            self._work(f"capture {lane.source.name}", lambda lane=lane: self._capture(lane), lane)  # type: ignore[misc]
            self._work(f"follow {lane.source.name}", lambda lane=lane: self._follow(lane), lane)  # type: ignore[misc]
        self._work("recognise", self._recognise, None)
        for worker in self._workers:
            worker.start()

    def results(self) -> Iterator[Result | None]:
        """Results as they come, sources interleaved; None when nothing came for a moment. Ends with the last source.

        Raises:
            Exception: whatever stopped a stage, in the caller's thread; of one among several sources only its status
                tells, as long as another goes on.
        """
        while (taken := self._to_show.take(IDLE_S)) is not None:
            for number, shown in taken:
                yield self._result(self._lanes[number], shown)
            if not taken:
                yield None
        if self._stopping.is_set():  # what fails because it was stopped is no failure
            return
        failures = [lane.failure for lane in self._lanes if lane.failure is not None]
        if self._error is not None:
            raise self._error
        if failures and len(failures) == len(self._lanes):
            raise failures[0]

    def statuses(self) -> list[SourceStatus]:
        """How each source is doing, in the order in which they were given."""
        return [self._status(lane) for lane in self._lanes]

    def best_view(self, source: str, track: int) -> tuple[View, NDArray[np.float32]] | None:
        """The best view of a face on screen and its fused embedding, to enrol it; None when it is gone."""
        for lane in self._lanes:
            if lane.source.name == source:
                with lane.lock:
                    return lane.identities.best_view(track)
        return None

    def refresh(self) -> None:
        """The gallery was changed by this very program: do not wait to notice."""
        self._fresh.expire()

    def stop(self) -> bool:
        """End all threads and close the sources; may be called twice. False where a thread had to be left behind: then
        the engine and the gallery may still be in use."""
        self._stopping.set()
        self._close_all()
        for lane in self._lanes:
            lane.source.close()
        ended = [worker.join(JOIN_S) for worker in self._workers]
        if not all(ended):
            log.warning("a thread did not stop within %.0f s and was left behind", JOIN_S)
        for lookout in self._lookouts.values():
            lookout.close()
        return all(ended)

    def __enter__(self) -> Pipeline:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # -- threads ------------------------------------------------------------------------------------------------------

    def _capture(self, lane: _Lane) -> None:
        source = lane.source
        while not self._stopping.is_set() and (frame := source.read()) is not None:
            # a file's detections start here, ahead of the tracker; a live frame may yet be dropped
            item = frame if source.live else lane.scout.prepare(frame)
            lane.started = True
            if not lane.captured.put(0, item):
                break
        lane.captured.end(0)

    def _follow(self, lane: _Lane) -> None:
        while (taken := lane.captured.take()) is not None:
            item = taken[0][1]
            prepared = lane.scout.prepare(item) if isinstance(item, Frame) else item
            followed = lane.tracker.step(prepared)
            if lane.source.live:
                self._to_show.put(lane.number, _Shown(followed, None))
            if not self._to_recognise.put(lane.number, followed):
                return
        if lane.source.live:
            self._end(lane)
        else:
            self._to_recognise.put(lane.number, None)
        self._to_recognise.end(lane.number)

    def _recognise(self) -> None:
        while (taken := self._to_recognise.take()) is not None:
            references = self._fresh.now()
            jobs = [job for number, followed in taken if followed for job in self._jobs(self._lanes[number], followed)]
            self._look(jobs, references)
            for number, followed in taken:
                lane = self._lanes[number]
                if followed is None:
                    for past, sightings in lane.hindsight.flush():
                        self._to_show.put(number, _Shown(past, sightings))
                    self._end(lane)
                elif not lane.source.live:
                    with lane.lock:
                        sightings = lane.identities.sightings(followed, references)
                        hidden = lane.identities.tentative(followed)
                        revisions = lane.identities.revisions()
                    for past, seen in lane.hindsight.push(followed, sightings, hidden, revisions):
                        self._to_show.put(number, _Shown(past, seen))
                else:
                    with lane.lock:
                        lane.identities.revisions()  # a live frame is already on the screen

    def _jobs(self, lane: _Lane, followed: Followed) -> list[_Job]:
        with lane.lock:
            candidates = lane.identities.candidates(followed)
        if lane.source.live:
            candidates = candidates[: self._settings.embed.max_batch]
        return [_Job(lane, followed, candidate.face, candidate.urgency) for candidate in candidates]

    def _look(self, jobs: list[_Job], references: References) -> None:
        """Align, embed and take into account the faces of all sources together, the most urgent first."""
        jobs.sort(key=lambda job: job.urgency)
        views = [self._view(job) for job in jobs]
        embeddings_ND = embed_in_batches(
            self._engine, [view.crop_SS3 for view in views], self._settings.embed.max_batch
        )
        for job, view, embedding_D in zip(jobs, views, embeddings_ND, strict=True):
            with job.lane.lock:
                job.lane.identities.observe(job.followed, job.face, view, embedding_D, references)

    def _view(self, job: _Job) -> View:
        frame, face = job.followed.frame, job.face
        scores_N = np.array([face.score], dtype=np.float32)
        return view_faces(frame, face.box_4[None], scores_N, self._landmarker, self._engine.manifest.template)[0]

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _work(self, name: str, body: Callable[[], None], lane: _Lane | None) -> None:
        self._workers.append(Worker(name, body, lambda error: self._failed(lane, error)))

    def _failed(self, lane: _Lane | None, error: BaseException) -> None:
        """A source that fails ends alone, after the frames that it gave; so does one of several in which anything else
        goes wrong. What goes wrong in all of them, or in the only one, stops the program."""
        alone = len(self._lanes) == 1
        if lane is None or (alone and not isinstance(error, SourceError)):
            self._error = self._error or error
            self._close_all()
            return
        lane.failure = error
        if isinstance(error, SourceError):
            lane.captured.end(0)
        else:
            lane.captured.close()  # whichever of its two threads it was, the other one ends, too
            lane.source.close()
            self._to_recognise.put(lane.number, None)
            self._to_recognise.end(lane.number)
            self._end(lane)
        if not alone:
            log.error("%s stopped: %s", lane.source.name, error or type(error).__name__)

    def _close_all(self) -> None:
        for lane in self._lanes:
            lane.captured.close()
        self._to_recognise.close()
        self._to_show.close()

    def _end(self, lane: _Lane) -> None:
        lane.ended = True
        self._to_show.end(lane.number)

    def _result(self, lane: _Lane, shown: _Shown) -> Result:
        sightings = shown.sightings
        if sightings is None:
            with lane.lock:
                everybody = lane.identities.sightings(shown.followed, self._fresh.value)
                sightings = without(everybody, lane.identities.tentative(shown.followed))
        frame = shown.followed.frame
        latency_ms = (time.monotonic() - frame.captured_at_s) * 1000
        lane.meter.count(latency_ms)
        return Result(frame=frame, sightings=sightings, latency_ms=latency_ms)

    def _status(self, lane: _Lane) -> SourceStatus:
        fps, latency_ms = lane.meter.rates()
        trouble = str(lane.failure or lane.source.status)
        state = (
            "failed" if lane.failure
            else "ended" if lane.ended
            else "reconnecting" if trouble
            else "running" if lane.started
            else "starting"
        )  # fmt: skip
        return SourceStatus(
            source=lane.source.name,
            state=state,  # type: ignore[arg-type]
            message=trouble,
            frames=lane.meter.frames,
            drops=lane.captured.drops[0] + self._to_show.drops[lane.number],
            fps=fps,
            latency_ms=latency_ms,
        )


def _is_album(source: Source) -> bool:
    """Photos, and not the frames of a film."""
    return source.info.kind == "images"


def _lookahead(source: Source) -> int:
    """Frames of a file that are decoded, and searched where a look is due, before the tracker wants them: as many as
    ``LOOKAHEAD_BYTES`` hold."""
    frame_bytes = source.info.width * source.info.height * 3 // 2
    return max(4, min(MAX_LOOKAHEAD, LOOKAHEAD_BYTES // max(frame_bytes, 1)))


class _Fresh:
    """The gallery's references, asked for anew only now and then, by the recogniser alone: a gallery that is slow or
    locked must hold up no picture."""

    def __init__(self, references: Callable[[], References]) -> None:
        self._references = references
        self.value = references()
        """Those of the last time; never waits."""
        self._asked_s = time.monotonic()

    def now(self) -> References:
        """Asked for again where it is time. A gallery that cannot be read just now leaves what was there."""
        if time.monotonic() - self._asked_s > REFRESH_S:
            try:
                self.value = self._references()
            except GalleryError as err:
                log.warning("%s; going on with the people of before", err)
                self._asked_s = time.monotonic() + PATIENCE_S
            else:
                self._asked_s = time.monotonic()
        return self.value

    def expire(self) -> None:
        self._asked_s = -math.inf
