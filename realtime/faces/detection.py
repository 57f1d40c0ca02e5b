"""Finding faces in a picture: dlib's HOG, dlib's CNN through engines/, or a YuNet file that the user brings.

Enters: a grey or RGB image and the smallest face wanted. Leaves: ``Faces`` in that image's pixels, best first.
Every detector here has a fixed smallest window; the image is scaled so that the smallest face wanted fills it.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.store import cache_dir
from realtime.errors import RealtimeError
from realtime.faces.boxes import cut_out, scaled, uncut, without_overlaps
from realtime.records import Faces, Frame
from realtime.settings import DetectSettings

log = logging.getLogger(__name__)

REFERENCE_HEIGHT: Final = 720
"""``detect.min_face_px`` is meant in a frame of this height; other frames are scaled in proportion."""

MAX_PIXELS: Final = 4_000_000
"""A scaled image is never larger: 0.22 s of HOG, and an 8K frame at full size would take 2 s."""


PHOTO_FACE_PX: Final = 33.0
"""Smallest face looked for in a photo, pixels: HOG then searches it at twice its size (43 of 43 faces in dlib's group
photos; 11 at its own size)."""

PHOTO_PIXELS: Final = 2_600_000
"""The scaled photo is never larger, so that one photo takes 0.15 s at most: large photos hold large faces."""

REGION_FACE: Final = 1.45
"""Width of a face that is looked for again, in the detector's smallest: large enough to be sure of, small enough to be
quick."""


class Detector(Protocol):
    """One detector; one thread at a time, so each thread has a ``clone``."""

    smallest_px: float
    """Width of the smallest face that it can find, in pixels of the image it is given."""
    colour: bool
    """Whether it wants RGB; else grey, which is cheaper to have."""
    sure_score: float
    """A face that scores less is believed only after more looks."""

    def find(self, image: NDArray[np.uint8]) -> Faces:
        """Faces of a grey (H, W) or RGB (H, W, 3) image, in its own pixels, best first."""

    def clone(self) -> Detector:
        """Another one for another thread, in a few milliseconds."""


class HogDetector:
    """dlib's frontal face detector (5 HOG filters). Releases the GIL; about 55 ns a pixel.

    Its pyramid goes in steps of a fifth, so a face between two steps may score just too little. Such weak boxes are
    looked at again on their own at a few sizes (3 ms each) and count if one of those is sure. That finds what a video
    shows for a moment only, at the price of a false box now and then; photos do without.
    """

    smallest_px = 66.0  # its smallest box is 73 wide, and its boxes are 1.10 times as wide as the face (median)
    colour = False
    sure_score = 0.25
    WEAK: Final = 0.35
    """How far below the limit a first score may lie; more finds no more faces on the sample clip."""
    AGAIN_PX: Final = (88.0, 104.0, 96.0)
    """Widths at which a weak face is looked at again, pixels; within one pyramid step of each other."""

    def __init__(self, settings: DetectSettings, *, again: bool = True, detector: Any = None) -> None:
        self._settings = settings
        self._second_look = again
        self._detector: Any = _frontal_detector() if detector is None else detector
        self._min_score = 0.0 if settings.min_score is None else settings.min_score

    def clone(self) -> HogDetector:
        return HogDetector(self._settings, again=self._second_look, detector=copy.deepcopy(self._detector))

    def find(self, image: NDArray[np.uint8]) -> Faces:
        limit = self._min_score - (self.WEAK if self._second_look else 0.0)
        boxes, scores, _ = self._detector.run(image, 0, limit)
        found = _best_first(Faces.of([_xyxy(box) for box in boxes], list(scores)))
        sure_N = found.scores_N >= self._min_score
        if sure_N.all():
            return found
        better = [self._again(image, box_4) for box_4 in found.boxes_N4[~sure_N]]
        boxes_N4 = np.concatenate([found.boxes_N4[sure_N], *(each.boxes_N4 for each in better)])
        scores_N = np.concatenate([found.scores_N[sure_N], *(each.scores_N for each in better)])
        return without_overlaps(Faces(boxes_N4=boxes_N4, scores_N=scores_N))

    def _again(self, image: NDArray[np.uint8], box_4: NDArray[np.float32]) -> Faces:
        """The face of a weak box, if a look at its surroundings in another size is sure of it."""
        for face_px in self.AGAIN_PX:
            region, matrix_23 = cut_out(image, box_4, reach=0.5, face_px=face_px)
            boxes, scores, _ = self._detector.run(region, 0, self._min_score)
            if len(boxes):
                best = int(np.argmax(scores))
                return uncut(Faces.of([_xyxy(boxes[best])], [scores[best]]), matrix_23)
        return Faces.none()


def _frontal_detector() -> Any:
    """dlib's own detector. The wheel unpacks it in 0.3 to 0.5 s; a copy in the cache directory is read in 3 ms."""
    import dlib

    path = cache_dir() / f"hog-dlib-{dlib.__version__}.svm"
    try:
        return dlib.fhog_object_detector(str(path))
    except RuntimeError:  # not there yet, or damaged: unpack and put it there
        pass
    detector = dlib.get_frontal_face_detector()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        detector.save(str(part))
        part.replace(path)
    except (OSError, RuntimeError) as err:
        log.info("the face detector is unpacked at each start: %s cannot be written (%s)", path.parent, err)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return detector


class CnnDetector:
    """dlib's CNN detector through engines/: finds turned and half-covered faces that HOG misses, at a higher price.
    One network serves all threads, one at a time: it has threads of its own."""

    smallest_px = 70.0
    colour = True
    sure_score = 0.25

    def __init__(self, settings: DetectSettings) -> None:
        from engines.dlib.detector import CnnDetector as Network

        self._network = Network(threads=settings.threads, precision=settings.precision)
        self._min_score = 0.0 if settings.min_score is None else settings.min_score
        self._one_at_a_time = threading.Lock()

    @property
    def batches(self) -> bool:
        """Whether images of one size take less time together than one after the other."""
        return self._network.batches

    def clone(self) -> CnnDetector:
        return self

    def find(self, image: NDArray[np.uint8]) -> Faces:
        with self._one_at_a_time:
            found = self._network.detect(image)
        return self._faces(*found)

    def find_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Faces]:
        """As ``find`` for each of the images, of any sizes."""
        with self._one_at_a_time:
            found = self._network.detect_batch(images)
        return [self._faces(*one) for one in found]

    def _faces(self, boxes_N4: NDArray[np.float32], scores_N: NDArray[np.float32]) -> Faces:
        keep_N = scores_N > self._min_score
        return _best_first(Faces.of(boxes_N4[keep_N], scores_N[keep_N]))


class YunetDetector:
    """A YuNet ONNX file through OpenCV. Its tall boxes are squared to what dlib's shape predictor was trained on."""

    smallest_px = 24.0
    colour = True
    sure_score = 0.7

    def __init__(self, settings: DetectSettings) -> None:
        if not settings.model:
            raise RealtimeError("detect.kind=yunet needs a file: add --set detect.model=face_detection_yunet.onnx")
        path = Path(settings.model)
        if not path.is_file():
            raise RealtimeError(f"{path}: no such file; detect.model is the YuNet ONNX file")
        try:
            self._detector: Any = cv2.FaceDetectorYN.create(str(path), "", (320, 320))
            self._detector.detect(np.zeros((320, 320, 3), dtype=np.uint8))  # any ONNX file loads; only a YuNet runs
        except cv2.error as err:
            raise RealtimeError(f"{path}: OpenCV cannot read it as a YuNet network; is it the right file?") from err
        self._settings = settings
        self._detector.setScoreThreshold(0.7 if settings.min_score is None else settings.min_score)

    def clone(self) -> YunetDetector:
        return YunetDetector(self._settings)

    def find(self, image: NDArray[np.uint8]) -> Faces:
        self._detector.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if rows is None:
            return Faces.none()
        x, y, width, height = rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]
        side = (width + height) / 2
        centre_x, centre_y = x + width / 2, y + height * 0.54
        boxes_N4 = np.stack(
            [centre_x - side / 2, centre_y - side / 2, centre_x + side / 2, centre_y + side / 2], axis=1
        )
        return _best_first(Faces.of(boxes_N4, rows[:, 14]))


DETECTORS: Final[dict[str, Callable[[DetectSettings], Detector]]] = {
    "hog": HogDetector,
    "cnn": CnnDetector,
    "yunet": YunetDetector,
}


def open_detector(settings: DetectSettings, *, photos: bool = False) -> Detector:
    """The detector that ``detect.kind`` names, for video or for ``photos``.

    Raises:
        RealtimeError, EngineError: it cannot be had, and why.
    """
    if photos and settings.kind == "hog":
        return HogDetector(settings, again=False)
    return DETECTORS[settings.kind](settings)


def scale_for(detector: Detector, min_face_px: float, width: int, height: int) -> float:
    """How much to scale a frame so that a face of ``min_face_px`` is the smallest that the detector can report."""
    wanted = detector.smallest_px / max(min_face_px, 1.0)
    return min(wanted, math.sqrt(MAX_PIXELS / max(width * height, 1)))


def photo_scale(detector: Detector, width: int, height: int) -> float:
    """How much to scale a photo, wherever it comes from: the same faces are found in a folder and one by one."""
    return min(detector.smallest_px / PHOTO_FACE_PX, math.sqrt(PHOTO_PIXELS / max(width * height, 1)))


def in_frame_of(height: int, reference_px: float) -> float:
    """Pixels meant at 720p, in a frame of ``height``; upright phone frames count their short side all the same."""
    return reference_px * height / REFERENCE_HEIGHT


def _xyxy(box: Any) -> tuple[int, int, int, int]:
    return box.left(), box.top(), box.right() + 1, box.bottom() + 1


def _best_first(faces: Faces) -> Faces:
    order = np.argsort(-faces.scores_N, kind="stable")
    return Faces(boxes_N4=faces.boxes_N4[order], scores_N=faces.scores_N[order])


def detect(detector: Detector, frame: Frame, scale: float) -> Faces:
    """Faces of a frame, in its pixels, looked for in the frame scaled by ``scale``."""
    image = image_for(detector, frame, scale)
    return in_frame(detector.find(image), image, frame)


def image_for(detector: Detector, frame: Frame, scale: float) -> NDArray[np.uint8]:
    """What the detector looks at: the frame in its colours, scaled."""
    return scaled(frame.rgb if detector.colour else frame.grey, scale)


def in_frame(found: Faces, image: NDArray[np.uint8], frame: Frame) -> Faces:
    """Faces of a scaled image in the pixels of its frame."""
    ratio = np.array([frame.width / image.shape[1], frame.height / image.shape[0]] * 2, dtype=np.float32)
    return Faces(boxes_N4=found.boxes_N4 * ratio, scores_N=found.scores_N)


def detect_in_region(detector: Detector, frame: Frame, box_4: NDArray[Any]) -> Faces:
    """Look for a face again around where it should be, at a size where the detector sees it well: 3 ms with HOG,
    whatever the frame's size. The picture that the detector gets always has the same size."""
    face_px = REGION_FACE * detector.smallest_px
    region, matrix_23 = cut_out(frame.rgb if detector.colour else frame.grey, box_4, reach=0.6, face_px=face_px)
    return uncut(detector.find(region), matrix_23)
