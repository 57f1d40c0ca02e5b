"""Detections in a small pool of threads, each with a detector of its own.

dlib's HOG releases the GIL, so two of them fill two cores; dlib's CNN and YuNet use threads of their own and get one.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from realtime.faces.detection import Detector, detect, open_detector, photo_scale, scale_for
from realtime.records import Faces, Frame
from realtime.settings import DetectSettings


class Lookout:
    """Finds faces of whole frames, in the background; ``photos``: pictures that have nothing to do with each other."""

    def __init__(self, settings: DetectSettings, *, photos: bool = False) -> None:
        self._photos = photos
        self._own = threading.local()
        self._first = open_detector(settings, photos=photos)  # fails here, in the caller's thread, with its reason
        self._cloning = threading.Lock()
        threads = settings.threads if settings.kind == "hog" else 1
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="detect")

    def find(self, frame: Frame, least_px: float) -> Future[Faces]:
        """Start to look for faces of at least ``least_px`` frame pixels; in photos for those of a photo."""
        return self._pool.submit(self._detect, frame, least_px)

    def _detect(self, frame: Frame, least_px: float) -> Faces:
        detector = self.detector()
        if self._photos:
            return detect(detector, frame, photo_scale(detector, frame.width, frame.height))
        return detect(detector, frame, scale_for(detector, least_px, frame.width, frame.height))

    def detector(self) -> Detector:
        """This thread's own detector."""
        if not hasattr(self._own, "detector"):
            with self._cloning:
                self._own.detector = self._first.clone()
        detector: Detector = self._own.detector
        return detector

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
