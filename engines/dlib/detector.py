"""dlib's CNN face detector on the fastest runtime that works here, without dlib.

Enters: an RGB frame. Leaves: boxes and scores, in fp32 the same as ``dlib.cnn_face_detection_model_v1`` gives without
upsampling. The window is 80 pixels: smaller faces are found in a frame that the caller has enlarged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.activation_ranges import Ranges, observed, shipped_ranges
from engines.dlib.networks import Detector, read_mmod
from engines.dlib.pyramid import Pyramid, layout, to_frame
from engines.errors import ModelFileError
from engines.models import CNN_DETECTOR, find_weights
from engines.runtimes import Session, Wishes, choose, open_session

if TYPE_CHECKING:
    from engines.gpu.detector import DeviceDetector

MAX_SIZES: Final = 4
"""Frame sizes whose graphs stay loaded; a source has one, a folder of photos has many."""

IN_FULL: Final = frozenset({"Relu5.out", "Conv6.in", "Conv6.out", "Conv7.in", "Conv7.out"})
"""Not in int8: the last two convolutions, which make the scores of 45 channels. In int8 they are 5 % faster, and moved
24 % instead of 20 % of the boxes to a neighbouring place (173 boxes in 68 pictures)."""

# N boxes; 4 = x1, y1, x2, y2
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

Found = tuple[Float32, Float32]
"""Boxes (N, 4) and scores (N,) of one frame."""


@dataclass(frozen=True, slots=True)
class _Sized:
    """The graph for one frame size; no session where the frame is too small for the network."""

    pyramid: Pyramid
    session: Session | None


class CnnDetector:
    """One loaded detector. One thread at a time; releases the GIL while it computes."""

    def __init__(
        self, path: Path | None = None, *, runtime: str = "auto", precision: str = "auto", threads: int = 1
    ) -> None:
        """Read the weights and choose a runtime; graphs are compiled when a frame of their size comes.

        Args:
            path: ``mmod_human_face_detector.dat``; None for the installed one.
            runtime: ``auto``, or one of ``engines.runtimes.MODULES``; ``torch-cuda`` takes frames of one size together.
            precision: ``auto``, ``fp32``, ``fp16``, ``bf16`` or ``int8``; ``auto`` never means int8, whose boxes move
                to neighbouring places and levels of the pyramid.
            threads: of the runtime.

        Raises:
            ModelFileError: the file is missing, foreign or damaged, or int8 is asked for and its ranges are not known.
            RuntimeMissing: what was asked for does not work here.
            ValueError: unknown runtime or precision, or fewer than one thread.
        """
        self._choice = choose(None, Wishes(runtime=runtime, precision=precision, threads=threads))
        self._path = find_weights(*CNN_DETECTOR) if path is None else path
        self._detector = read_mmod(self._path)
        self._ranges = _ranges(self._detector, self._path) if self._choice.precision == "int8" else None
        self._sized: OrderedDict[tuple[int, int], _Sized] = OrderedDict()
        self._on_gpu = _on_gpu(self._choice.precision, self._path) if self._choice.runtime == "torch-cuda" else None

    @property
    def runtime(self) -> str:
        """For people: ``openvino bf16, 1 thread``."""
        return self._choice.short

    @property
    def batches(self) -> bool:
        """Whether frames of one size take less time together than one after the other."""
        return self._on_gpu is not None

    @property
    def choice(self) -> str:
        """``runtime``, and why each faster one was passed over."""
        return self._choice.text

    def detect(self, rgb_HW3: NDArray[Any], *, min_score: float = 0.0) -> Found:
        """Find faces at least 80 pixels wide.

        Args:
            rgb_HW3: (H, W, 3) uint8 RGB, any strides.
            min_score: boxes at or below it are left out; 0 is dlib's.

        Returns:
            Boxes (N, 4) float32 xyxy, whole pixels, inclusive-exclusive, possibly beyond the frame; scores (N,)
            float32, highest first.

        Raises:
            ValueError: wrong shape or dtype; the message names both.
            EngineError: the runtime failed.
        """
        frame = _checked(rgb_HW3)
        if self._on_gpu is not None:
            return self._on_gpu.detect_on_host([frame], min_score=min_score)[0]
        sized = self._for_size(frame.shape[1], frame.shape[0])
        if sized.session is None:
            return np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=np.float32)
        scores_HW = sized.session.run(np.ascontiguousarray(frame)[None])[0, 0]
        return decode(scores_HW, self._detector, sized.pyramid, min_score)

    def detect_batch(self, frames: Sequence[NDArray[Any]], *, min_score: float = 0.0) -> list[Found]:
        """As ``detect`` for each of the frames, of any sizes; on a GPU those of one size together."""
        if self._on_gpu is None:
            return [self.detect(frame, min_score=min_score) for frame in frames]
        checked = [_checked(frame) for frame in frames]
        found: dict[int, Found] = {}
        for shape in dict.fromkeys(frame.shape for frame in checked):
            indices = [index for index, frame in enumerate(checked) if frame.shape == shape]
            together = [checked[index] for index in indices]
            found |= zip(indices, self._on_gpu.detect_on_host(together, min_score=min_score), strict=True)
        return [found[index] for index in range(len(checked))]

    def close(self) -> None:
        """Free the graphs; may be called twice. A later ``detect`` compiles again."""
        if self._on_gpu is not None:
            self._on_gpu.close()
        while self._sized:
            self._drop_oldest()

    def _for_size(self, width: int, height: int) -> _Sized:
        key = (width, height)
        if key not in self._sized:
            while len(self._sized) >= MAX_SIZES:
                self._drop_oldest()
            self._sized[key] = self._compile(layout(width, height))
        self._sized.move_to_end(key)
        return self._sized[key]

    def _compile(self, pyramid: Pyramid) -> _Sized:
        from engines.dlib.detector_graph import SMALLEST_CANVAS, detector_graph

        if min(pyramid.width, pyramid.height) < SMALLEST_CANVAS:
            return _Sized(pyramid, None)
        graph = detector_graph(self._detector.network, pyramid)
        if self._ranges is not None:
            from engines.graphs.quantisation import quantise_graph

            graph = quantise_graph(graph, self._ranges)
        return _Sized(pyramid, open_session(self._choice, graph.SerializeToString(), str(self._path)))

    def _drop_oldest(self) -> None:
        _, sized = self._sized.popitem(last=False)
        if sized.session is not None:
            sized.session.close()


def observe_detector(
    photos: Sequence[NDArray[np.uint8]],
    path: Path | None = None,
    *,
    threads: int = 1,
    progress: Callable[[int], object] | None = None,
) -> tuple[str, Ranges]:
    """What int8 needs to know of a detector: the sha256 of its file and the ranges of its activations.

    Args:
        photos: each (H, W, 3) uint8 RGB with faces from 80 pixels up; each size costs a graph.
        path: as for ``CnnDetector``.
        threads: of the runtime.
        progress: is told after each photo.

    Raises:
        ModelFileError: the file is missing, foreign or damaged.
        RuntimeMissing: ONNX Runtime does not work here.
    """
    from engines.dlib.detector_graph import SMALLEST_CANVAS, detector_graph

    path = find_weights(*CNN_DETECTOR) if path is None else path
    detector = read_mmod(path)
    found: Ranges = {}
    for height, width in dict.fromkeys(photo.shape[:2] for photo in photos):
        pyramid = layout(width, height)
        if min(pyramid.width, pyramid.height) < SMALLEST_CANVAS:
            continue
        graph = detector_graph(detector.network, pyramid)
        same_size = (photo for photo in photos if photo.shape[:2] == (height, width))
        seen = observed(graph.SerializeToString(), str(path), same_size, threads=threads, progress=progress)
        for role in seen.keys() - IN_FULL:
            low, high = found.get(role, (0.0, 0.0))
            found[role] = (min(low, seen[role][0]), max(high, seen[role][1]))
    return detector.network.sha256, dict(sorted(found.items()))


def _ranges(detector: Detector, path: Path) -> Ranges:
    shipped = shipped_ranges(detector.network.sha256)
    if shipped is None:
        raise ModelFileError(f"{path}: no int8 ranges are known for this detector; use bf16 or fp32")
    return shipped.ranges


def _checked(rgb_HW3: NDArray[Any]) -> NDArray[np.uint8]:
    frame = np.asarray(rgb_HW3)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ValueError(f"the frame is {frame.dtype} of shape {frame.shape}; uint8 of shape (H, W, 3) is needed")
    return frame


def _on_gpu(precision: str, path: Path) -> DeviceDetector:
    """On the current GPU, where there is no graph to measure for each frame size."""
    import torch

    from engines.gpu.detector import DeviceDetector

    return DeviceDetector(torch.device("cuda", torch.cuda.current_device()), precision, path=path)


def decode(scores_HW: Float32, detector: Detector, pyramid: Pyramid, min_score: float) -> Found:
    """Boxes (N, 4) and scores (N,) of a score map, as ``CnnDetector.detect`` gives them."""
    rows, columns = np.nonzero(scores_HW > min_score)
    scores_N = scores_HW[rows, columns]
    order = np.argsort(-scores_N, kind="stable")
    boxes_N4 = boxes_of_cells(rows[order], columns[order], detector, pyramid)
    kept = suppress(boxes_N4, detector.nms_iou, detector.nms_covered)
    return boxes_N4[kept].astype(np.float32), scores_N[order][kept].astype(np.float32)


def boxes_of_cells(rows_N: NDArray[Any], columns_N: NDArray[Any], detector: Detector, pyramid: Pyramid) -> Float64:
    """(N, 4) xyxy, whole pixels of the frame, that cells of a score map stand for."""
    from engines.dlib.detector_graph import CELL, FIRST_CENTRE

    centres_N2 = (np.stack([columns_N, rows_N], axis=1) * CELL + FIRST_CENTRE).astype(np.float64)
    boxes_N4 = round_half_away(to_frame(pyramid, centres_N2, (detector.window - 1) / 2))
    boxes_N4[:, 2:] += 1  # dlib's right and bottom are inside the box
    return boxes_N4


def round_half_away(values: Float64) -> Float64:
    """C's ``lround``: halves go away from zero, where numpy's go to the even neighbour."""
    return np.trunc(values + np.copysign(0.5, values))


def suppress(boxes_N4: Float64, nms_iou: float, nms_covered: float) -> list[int]:
    """Indices of the boxes that no better one overlaps.

    Args:
        boxes_N4: (N, 4) xyxy, best first.
        nms_iou: largest intersection over the *enclosing rectangle*, which is what dlib calls IoU here.
        nms_covered: largest share of either box inside the other.
    """
    kept: list[int] = []
    area_N = np.prod(boxes_N4[:, 2:] - boxes_N4[:, :2], axis=1)
    for index, box in enumerate(boxes_N4):
        others = boxes_N4[kept]
        inner_K = _area(np.maximum(others[:, :2], box[:2]), np.minimum(others[:, 2:], box[2:]))
        outer_K = _area(np.minimum(others[:, :2], box[:2]), np.maximum(others[:, 2:], box[2:]))
        covered_K = inner_K / np.minimum(area_N[kept], area_N[index])
        if not ((inner_K / outer_K > nms_iou) | (covered_K > nms_covered)).any():
            kept.append(index)
    return kept


def _area(low_K2: Float64, high_K2: Float64) -> Float64:
    area_K: Float64 = np.prod(np.maximum(high_K2 - low_K2, 0), axis=1)
    return area_K
