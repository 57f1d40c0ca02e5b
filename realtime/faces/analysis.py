"""Photos and single frames: every face found, aligned, judged and embedded.

Enters: an RGB image. Leaves: ``View``s, and embeddings of their crops. The live pipeline shares the parts but not this
class: there a face is followed and seen many times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine, Faces_NHWC
from engines.manifest import Manifest
from realtime.faces.alignment import Template, align, template_named
from realtime.faces.detection import Detector, detect, open_detector, photo_scale
from realtime.faces.embedding import embed_in_batches, open_embedder
from realtime.faces.landmarks import Landmarker
from realtime.faces.quality import Quality, measure
from realtime.records import RGB_HW3, ArrayPixels, Boxes_N4, Faces, Frame
from realtime.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One face in one picture, ready to be embedded."""

    box: tuple[float, float, float, float]
    """xyxy pixels of the picture, inside of it."""
    detector_score: float
    points_P2: NDArray[np.float64]
    crop_SS3: RGB_HW3
    quality: Quality


class FaceAnalyser:
    """Detector, landmarks, alignment and engine for pictures one by one; one thread at a time."""

    def __init__(self, detector: Detector, landmarker: Landmarker, engine: Engine, *, max_batch: int = 8) -> None:
        self.manifest: Manifest = engine.manifest
        template_named(self.manifest.template)
        self._detector = detector
        self._landmarker = landmarker
        self._engine = engine
        self._max_batch = max_batch

    @property
    def engine(self) -> Engine:
        return self._engine

    def faces(self, rgb_HW3: RGB_HW3) -> Faces:
        """Boxes and scores only, in the detector's order."""
        frame = _as_frame(rgb_HW3)
        return detect(self._detector, frame, photo_scale(self._detector, frame.width, frame.height))

    def views(self, rgb_HW3: RGB_HW3) -> list[View]:
        """Every face of the picture, the largest first; none gives an empty list."""
        found = self.faces(rgb_HW3)
        views = view_faces(_as_frame(rgb_HW3), found.boxes_N4, found.scores_N, self._landmarker, self.manifest.template)
        return sorted(views, key=lambda view: view.box[0] - view.box[2])

    def embed(self, crops_NSS3: Faces_NHWC | list[RGB_HW3]) -> NDArray[np.float32]:
        """(N, D) embeddings of aligned crops."""
        return embed_in_batches(self._engine, crops_NSS3, self._max_batch)

    def close(self) -> None:
        self._engine.close()


def view_faces(
    frame: Frame, boxes_N4: Boxes_N4, scores_N: NDArray[Any], landmarker: Landmarker, template: str | Template
) -> list[View]:
    """Landmarks, alignment and quality for each box, in their order."""
    views = []
    for box_4, score, points_P2 in zip(boxes_N4, scores_N, landmarker.points(frame.grey, boxes_N4), strict=True):
        box = clip_box(box_4, frame.width, frame.height)
        crop = align(frame.rgb, points_P2, template)
        views.append(
            View(
                box=box,
                detector_score=float(score),
                points_P2=points_P2,
                crop_SS3=crop,
                quality=measure(box, points_P2, crop),
            )
        )
    return views


def clip_box(box_4: NDArray[Any], width: int, height: int) -> tuple[float, float, float, float]:
    """The part of a box that lies in the frame."""
    x1, y1, x2, y2 = (float(v) for v in box_4)
    return min(max(x1, 0.0), width), min(max(y1, 0.0), height), min(max(x2, 0.0), width), min(max(y2, 0.0), height)


def _as_frame(rgb_HW3: RGB_HW3) -> Frame:
    return Frame(source="photo", index=0, time_s=0.0, pixels=ArrayPixels(rgb_HW3))


def open_analyser(settings: Settings) -> FaceAnalyser:
    """Build from settings; raises EngineError or RealtimeError where a model or a detector cannot be had."""
    engine = open_embedder(settings.embed, wait=False)  # one photo is not worth a build of minutes
    return FaceAnalyser(
        open_detector(settings.detect, photos=True),
        Landmarker(settings.align.landmarks),
        engine,
        max_batch=settings.embed.max_batch,
    )
