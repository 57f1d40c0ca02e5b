"""Landmarks as one launch where the device can record them: a predictor is a thousand small kernels, and a host needs
longer to start them than a GPU to run them.

Enters and leaves: as ``DeviceLandmarker.points``. Faces are padded to a bucket; each bucket has fixed inputs and one
recorded graph, made when it is first needed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from engines.gpu.buckets import BUCKETS, Record, bucket_for, cuda_graph
from realtime.device.landmarks import DeviceLandmarker

MAX_SIZES: Final = 4
"""Frame sizes whose graphs are kept."""

log = logging.getLogger(__name__)

# B frames of H x W pixels; N faces; M faces of a bucket; P points


@dataclass(slots=True)
class _Bucket:
    boxes_M4: Tensor
    frames_M: Tensor
    replay: Callable[[], Tensor]


@dataclass(slots=True)
class _Sized:
    """What frames of one size need; graphs read the frames where they lie."""

    grey_BHW: Tensor
    buckets: dict[int, _Bucket] = field(default_factory=dict)


class RecordedLandmarker:
    """From one thread at a time, on one stream that is not the default one."""

    def __init__(self, landmarker: DeviceLandmarker, *, record: Record | None = None) -> None:
        """
        Args:
            landmarker: that is recorded.
            record: by default a CUDA graph on a GPU, and nothing is recorded elsewhere.
        """
        self.count = landmarker.count
        self.device = landmarker.device
        self._landmarker = landmarker
        self._record = record or (cuda_graph if landmarker.device.type == "cuda" else None)
        self._sized: OrderedDict[tuple[int, int], _Sized] = OrderedDict()

    def points(self, grey_BHW: Tensor, boxes_N4: Tensor, frames_N: Tensor) -> Tensor:
        """(N, P, 2) float64 xy pixels, the caller's to keep."""
        count = len(boxes_N4)
        if self._record is not None and 0 < count <= BUCKETS[-1]:
            try:
                bucket = self._bucket(self._record, grey_BHW, count)
            except RuntimeError as err:
                log.warning("landmarks are started one by one, as they cannot be recorded: %s", err)
                self._record = None
                self._sized.clear()
            else:
                bucket.boxes_M4[:count].copy_(boxes_N4)
                bucket.frames_M[:count].copy_(frames_N)
                return bucket.replay()[:count].clone()
        return self._landmarker.points(grey_BHW, boxes_N4, frames_N)

    def prepare(self, frames: int, height: int, width: int, faces: int) -> None:
        """Record for so many frames of this size and up to so many faces now, rather than while somebody waits."""
        grey_BHW = torch.zeros(frames, height, width, dtype=torch.uint8, device=self.device)
        for size in BUCKETS[: BUCKETS.index(bucket_for(min(faces, BUCKETS[-1]), BUCKETS)) + 1]:
            boxes_N4 = torch.zeros(size, 4, device=self.device)
            self.points(grey_BHW, boxes_N4, torch.zeros(size, dtype=torch.int64, device=self.device))

    def _bucket(self, record: Record, grey_BHW: Tensor, count: int) -> _Bucket:
        """That holds so many faces, with the frames where it reads them; made where it is new."""
        size = bucket_for(count, BUCKETS)
        sized = self._for_frames(grey_BHW)
        sized.grey_BHW[: len(grey_BHW)].copy_(grey_BHW)
        if size not in sized.buckets:
            frames_M = torch.zeros(size, dtype=torch.int64, device=self.device)
            boxes_M4 = torch.zeros(size, 4, device=self.device)

            def compute(boxes: Tensor) -> Tensor:
                return self._landmarker.points(sized.grey_BHW, boxes, frames_M)

            sized.buckets[size] = _Bucket(boxes_M4, frames_M, record(compute, boxes_M4))
        return sized.buckets[size]

    def _for_frames(self, grey_BHW: Tensor) -> _Sized:
        key = (int(grey_BHW.shape[1]), int(grey_BHW.shape[2]))
        if key not in self._sized or len(self._sized[key].grey_BHW) < len(grey_BHW):
            self._sized.pop(key, None)
            while len(self._sized) >= MAX_SIZES:
                self._sized.popitem(last=False)
            room = bucket_for(len(grey_BHW), BUCKETS) if len(grey_BHW) <= BUCKETS[-1] else len(grey_BHW)
            self._sized[key] = _Sized(torch.zeros(room, *key, dtype=torch.uint8, device=self.device))
        self._sized.move_to_end(key)
        return self._sized[key]
