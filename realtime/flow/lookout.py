"""Detections in the background: a small pool of threads, or on a GPU all that wait in one batch.

dlib's HOG releases the GIL, so two of them fill two cores; dlib's CNN and YuNet use threads of their own and get one.
On a GPU one frame of each of many cameras takes less time in one call than in many.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from realtime.faces.detection import (
    CnnDetector,
    Detector,
    detect,
    image_for,
    in_frame,
    open_detector,
    photo_scale,
    scale_for,
)
from realtime.records import Faces, Frame
from realtime.settings import DetectSettings

MOST_TOGETHER: Final = 32
"""Frames of one batch; from there on a GPU gains little, and the first of them wait for the last."""


class Lookout:
    """Finds faces of whole frames, in the background; ``photos``: pictures that have nothing to do with each other."""

    def __init__(self, settings: DetectSettings, *, photos: bool = False) -> None:
        self._photos = photos
        self._own = threading.local()
        self._first = open_detector(settings, photos=photos)  # fails here, in the caller's thread, with its reason
        self._cloning = threading.Lock()
        together = isinstance(self._first, CnnDetector) and self._first.batches
        threads = settings.threads if settings.kind == "hog" or together else 1
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="detect")
        self._batches = _Batches(self._first, self._pool) if together else None  # type: ignore[arg-type]

    def find(self, frame: Frame, least_px: float) -> Future[Faces]:
        """Start to look for faces of at least ``least_px`` frame pixels; in photos for those of a photo."""
        if self._batches is not None:
            return self._batches.find(frame, self._scale(self._first, frame, least_px))
        return self._pool.submit(self._detect, frame, least_px)

    def _detect(self, frame: Frame, least_px: float) -> Faces:
        detector = self.detector()
        return detect(detector, frame, self._scale(detector, frame, least_px))

    def _scale(self, detector: Detector, frame: Frame, least_px: float) -> float:
        if self._photos:
            return photo_scale(detector, frame.width, frame.height)
        return scale_for(detector, least_px, frame.width, frame.height)

    def detector(self) -> Detector:
        """This thread's own detector."""
        if not hasattr(self._own, "detector"):
            with self._cloning:
                self._own.detector = self._first.clone()
        detector: Detector = self._own.detector
        return detector

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Job:
    """One frame that waits."""

    frame: Frame
    scale: float
    found: Future[Faces]


class _Batches:
    """A thread that takes all frames that wait, and the next ones when it is done with those."""

    def __init__(self, detector: CnnDetector, pool: ThreadPoolExecutor) -> None:
        """
        Args:
            detector: works on batches.
            pool: scales the frames of a batch.
        """
        self._detector = detector
        self._pool = pool
        self._waiting: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="detect", daemon=True)
        self._thread.start()

    def find(self, frame: Frame, scale: float) -> Future[Faces]:
        """Raises RuntimeError: it is closed."""
        job = _Job(frame, scale, Future())
        with self._changed:
            if self._closed:
                raise RuntimeError("the lookout is closed; open another one")
            self._waiting.append(job)
            self._changed.notify()
        return job.found

    def close(self) -> None:
        """Cancel what waits; a batch under way is finished. May be called twice."""
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, []
            self._changed.notify()
        for job in left:
            job.found.cancel()
            job.found.set_running_or_notify_cancel()  # wakes those who wait for it with others

    def _work(self) -> None:
        while jobs := self._taken():
            running = [job for job in jobs if job.found.set_running_or_notify_cancel()]
            if not running:
                continue
            try:
                found = self._find(running)
            except BaseException as err:  # noqa: BLE001 - crosses to everyone who waits
                for job in running:
                    job.found.set_exception(err)
            else:
                for job, faces in zip(running, found, strict=True):
                    job.found.set_result(faces)

    def _taken(self) -> list[_Job]:
        """All that wait, up to the most; nothing once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            jobs, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
            return jobs

    def _find(self, jobs: list[_Job]) -> list[Faces]:
        images = list(self._pool.map(lambda job: image_for(self._detector, job.frame, job.scale), jobs))
        found = self._detector.find_batch(images)
        return [in_frame(faces, image, job.frame) for faces, image, job in zip(found, images, jobs, strict=True)]
