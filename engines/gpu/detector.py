"""dlib's CNN face detector for batches of frames that lie on a device.

Enters: frames of one size, uint8 RGB, on the device. Leaves: boxes and scores there, the same that
``engines.dlib.detector.CnnDetector`` gives; the host waits for nothing. On a processor the same code runs without
graphs and streams.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engines.dlib.detector import MAX_SIZES, Found, boxes_of_cells, decode
from engines.dlib.detector_graph import SMALLEST_CANVAS
from engines.dlib.networks import read_mmod
from engines.dlib.pyramid import Pyramid, layout
from engines.dlib.widened import STEP, detector_module
from engines.errors import DeviceLost, EngineError, OutOfDeviceMemory, first_line
from engines.gpu.buckets import BucketedSession, Compute, bucket_for, cuda_graph, host_buffer, plain
from engines.gpu.candidates import DTYPES, WAYS
from engines.gpu.cuda_errors import translated
from engines.gpu.decoding import HEAD, PLACES, Rules, decoded
from engines.models import CNN_DETECTOR, find_weights

BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)
"""Frames of one graph."""

GPU_WAYS: Final = ("triton", "eager")
"""Of making the kernels, each taken where the one before it does not work."""

RECORDED_FROM: Final = 3
"""Frames of a size are computed without a graph until its third call: photos of many sizes would each wait seconds."""

_MOST_VALUES: Final = 1 << 31
"""Of one tensor: many kernels count in 32 bits."""

_RUNTIME: Final = "torch-cuda"

_log = logging.getLogger(__name__)

# B frames of a call; K=PLACES places for boxes; H, W pixels; M cells of a score map
Frames = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
"""(H, W, 3) RGB each, of one size, any strides."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in a batch, on the device."""

    boxes_BK4: torch.Tensor
    """float32 xyxy, whole pixels, inclusive-exclusive, possibly beyond the frame; zeros behind the last."""
    scores_BK: torch.Tensor
    """float32, highest first."""
    counts_B: torch.Tensor
    """int64: how many of the places are taken."""
    overflowed_B: torch.Tensor
    """bool: the frame held more than the places do, and what stands in them is not all of it; ``on_host`` gives all."""
    _flat_BX: torch.Tensor = field(repr=False)
    """What ``decoded`` gave: all of these, and the score maps."""
    _from_map: Callable[[NDArray[np.float32]], Found] = field(repr=False)

    def on_host(self) -> list[Found]:
        """Boxes and scores of each frame, all of them; waits for the device."""
        found: list[Found] = []
        for index, head in enumerate(self._flat_BX[:, :HEAD].cpu().numpy()):
            count, overflowed = int(head[-2]), bool(head[-1])
            if overflowed:
                found.append(self._from_map(self._flat_BX[index, HEAD:].cpu().numpy()))
            else:
                boxes_K4, scores_K = head[: 4 * PLACES].reshape(PLACES, 4), head[4 * PLACES : 5 * PLACES]
                found.append((boxes_K4[:count].copy(), scores_K[:count].copy()))
        return found


@dataclass(slots=True)
class _Sized:
    """What frames of one size need; no session where they are too small for the network."""

    pyramid: Pyramid
    rows: int = 0
    sizes: tuple[int, ...] = ()
    compute: Compute | None = None
    session: BucketedSession | None = None
    calls: int = 0


class DeviceDetector:
    """One loaded detector. From one thread at a time; graphs are made when a frame size and a batch first come."""

    def __init__(
        self,
        device: torch.device,
        precision: str = "fp32",
        *,
        path: Path | None = None,
        ways: tuple[str, ...] | None = None,
    ) -> None:
        """
        Args:
            device: to run on.
            precision: ``fp32``, ``fp16`` or ``bf16``, of the convolutions.
            path: ``mmod_human_face_detector.dat``; None for the installed one.
            ways: of ``engines.gpu.candidates.WAYS``, the first that works is taken; by default ``GPU_WAYS``, and
                torch's own kernels on a processor.

        Raises:
            ModelFileError: the file is missing, foreign or damaged.
            ValueError: unknown precision.
        """
        if precision not in DTYPES:
            raise ValueError(f"precision is {precision!r}; known are {', '.join(DTYPES)}")
        self._device = device
        self._dtype = DTYPES[precision]
        self._path = find_weights(*CNN_DETECTOR) if path is None else path
        self._detector = read_mmod(self._path)
        self._ways = ways or (GPU_WAYS if device.type == "cuda" else GPU_WAYS[-1:])
        self._least = torch.zeros((), dtype=torch.float32, device=device)
        self._least_set = 0.0
        self._sized: OrderedDict[tuple[int, int], _Sized] = OrderedDict()
        self._staged: torch.Tensor | None = None
        self.recordable = True
        """False once a GPU refused to record a graph, and computes call by call since."""

    @property
    def way(self) -> str:
        """Of making the kernels; it falls back when the first frame shows that one does not work here."""
        return self._ways[0]

    def detect(self, frames_BHWC: torch.Tensor, *, min_score: float = 0.0) -> Detections:
        """Find faces at least 80 pixels wide.

        Args:
            frames_BHWC: (B, H, W, 3) uint8 RGB on the device, B at least 1, made on the caller's current stream.
            min_score: boxes at or below it are left out; 0 is dlib's.

        Returns:
            The caller's to keep, on that stream.

        Raises:
            ValueError: wrong shape, dtype or device.
            OutOfDeviceMemory: not even one frame fits.
            DeviceLost, EngineError: the device failed.
        """
        shape = tuple(frames_BHWC.shape)
        if frames_BHWC.dtype != torch.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise ValueError(
                f"the frames are {frames_BHWC.dtype} of shape {shape}; uint8 of shape (B, H, W, 3) is needed"
            )
        if frames_BHWC.device.type != self._device.type:
            raise ValueError(f"the frames lie on {frames_BHWC.device}; they must lie on {self._device}")
        self._set_least(min_score)
        sized = self._for_size(shape[2], shape[1])
        flat = self._run(sized, frames_BHWC) if sized.session else frames_BHWC.new_zeros(shape[0], HEAD).float()
        return self._detections(flat, sized, min_score)

    def detect_on_host(self, frames: Frames, *, min_score: float = 0.0) -> list[Found]:
        """As ``detect``, from frames on the host to boxes there."""
        return self.detect(self._uploaded(frames), min_score=min_score).on_host() if len(frames) else []

    def close(self) -> None:
        """Free the graphs; may be called twice. A later ``detect`` makes them again."""
        while self._sized:
            self._drop_oldest()
        self._staged = None

    def _set_least(self, min_score: float) -> None:
        if min_score != self._least_set:
            self._least.fill_(min_score)
            self._least_set = min_score

    def _uploaded(self, frames: Frames) -> torch.Tensor:
        """Through pinned memory, each frame while the next one is staged.

        The memory is free again: whoever filled it before has waited for what became of it.
        """
        if self._device.type != "cuda":
            return torch.from_numpy(np.stack(list(frames)))
        shape = (len(frames), *frames[0].shape)
        size = math.prod(shape)
        if self._staged is None or self._staged.numel() < size:
            self._staged = host_buffer((size,), torch.uint8, pinned=True)
        uploaded = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for frame, staged, target in zip(frames, self._staged[:size].view(shape), uploaded, strict=True):
            np.copyto(staged.numpy(), frame)
            target.copy_(staged, non_blocking=True)
        return uploaded

    def _detections(self, flat_BX: torch.Tensor, sized: _Sized, min_score: float) -> Detections:
        detector, pyramid, rows = self._detector, sized.pyramid, sized.rows

        def from_map(map_M: NDArray[np.float32]) -> Found:
            return decode(map_M.reshape(rows, -1), detector, pyramid, min_score)

        return Detections(
            boxes_BK4=flat_BX[:, : 4 * PLACES].view(-1, PLACES, 4),
            scores_BK=flat_BX[:, 4 * PLACES : 5 * PLACES],
            counts_B=flat_BX[:, HEAD - 2].long(),
            overflowed_B=flat_BX[:, HEAD - 1] > 0,
            _flat_BX=flat_BX,
            _from_map=from_map,
        )

    def _run(self, sized: _Sized, frames_BHWC: torch.Tensor) -> torch.Tensor:
        """In smaller pieces where the device has no memory for large ones; another way where one does not work."""
        sized.calls += 1
        if sized.calls == RECORDED_FROM:
            self._open(sized)
        while True:
            try:
                assert sized.session is not None
                return sized.session.on_device(frames_BHWC)
            except OutOfDeviceMemory as err:
                taken = bucket_for(min(len(frames_BHWC), sized.sizes[-1]), sized.sizes)
                if taken == sized.sizes[0]:
                    raise
                sizes, note = tuple(size for size in sized.sizes if size < taken), str(err)
            except DeviceLost:
                raise
            except EngineError as err:
                if len(self._ways) == 1:
                    raise
                sizes, note = sized.sizes, str(err)
                self._ways = self._ways[1:]
            # outside the handlers: the exception's frames held what is now to be freed
            _log.warning("%s; going on with %s, at most %d frames at once", note, self.way, sizes[-1])
            if sized.sizes == sizes:
                sized.compute = None
            sized.sizes = sizes
            self._open(sized)

    def _for_size(self, width: int, height: int) -> _Sized:
        key = (width, height)
        if key not in self._sized:
            while len(self._sized) >= MAX_SIZES:
                self._drop_oldest()
            self._sized[key] = self._new(layout(width, height))
        self._sized.move_to_end(key)
        return self._sized[key]

    def _new(self, pyramid: Pyramid) -> _Sized:
        if min(pyramid.width, pyramid.height) < SMALLEST_CANVAS:
            return _Sized(pyramid)
        sized = _Sized(pyramid, map_size(pyramid)[0], buckets_for(pyramid))
        self._open(sized)
        return sized

    def _open(self, sized: _Sized) -> None:
        """A new session in place of the one before it. Raises EngineError: no way works here."""
        if sized.session is not None:
            sized.session.close()
        while sized.compute is None:
            try:
                sized.compute = self._compute(sized.pyramid)
            except (ImportError, RuntimeError) as err:
                if len(self._ways) == 1:
                    raise translated(err, str(self._path), _RUNTIME) from err
                _log.warning("%s is passed over: %s", self.way, first_line(err))
                self._ways = self._ways[1:]
        first = sized.pyramid.tiles[0]
        sized.session = BucketedSession(
            sized.compute,
            str(self._path),
            _RUNTIME,
            image_shape=(first.height, first.width, 3),
            device=self._device,
            sizes=sized.sizes,
            record=self._recorded if sized.calls >= RECORDED_FROM and self._device.type == "cuda" else plain,
        )

    def _recorded(self, compute: Compute, images: torch.Tensor) -> Callable[[], torch.Tensor]:
        """A graph, or call by call where something in the computation cannot be recorded."""
        try:
            return cuda_graph(compute, images)
        except RuntimeError as err:
            if not unrecordable(err):
                raise
            _log.warning("%s: goes on without a recorded graph: %s", self._path, first_line(err))
        self.recordable = False
        return plain(compute, images)

    def _compute(self, pyramid: Pyramid) -> Compute:
        module = detector_module(self._detector.network, pyramid, self._dtype, str(self._path))
        scores = WAYS[self.way](module, self._device)
        height, width = map_size(pyramid)
        rows, columns = (axis.ravel() for axis in np.indices((height, width)))
        parts = [
            boxes_of_cells(*part, self._detector, pyramid)
            for part in zip(np.array_split(rows, height), np.array_split(columns, height), strict=True)
        ]
        boxes_M4 = torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(self._device)
        rules = Rules(boxes_M4, self._detector.nms_iou, self._detector.nms_covered)
        least = self._least

        def compute(frames_BHWC: torch.Tensor) -> torch.Tensor:
            # whoever records this has torch try its algorithms, and that stays; float32 means all of its bits
            with torch.backends.cudnn.flags(enabled=True, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False):
                maps_BM = scores(frames_BHWC).flatten(1)
            return decoded(maps_BM, least, rules)

        return compute

    def _drop_oldest(self) -> None:
        _, sized = self._sized.popitem(last=False)
        if sized.session is not None:
            with contextlib.suppress(EngineError):
                sized.session.close()


def unrecordable(err: BaseException) -> bool:
    """Whether an error of recording is of what was recorded, and memory was not what was missing."""
    causes: list[BaseException] = []
    cause: BaseException | None = err
    while cause is not None:
        causes.append(cause)
        cause = cause.__context__
    if any(isinstance(translated(str(one), "", _RUNTIME), OutOfDeviceMemory) for one in causes):
        return False
    return any("captur" in str(one).lower() for one in causes)


def map_size(pyramid: Pyramid) -> tuple[int, int]:
    """Rows and columns of the score map: three convolutions of 5x5 in steps of 2, and others that keep the size."""
    height, width = pyramid.height, pyramid.width
    for _ in range(3):
        height, width = (height - 5) // 2 + 1, (width - 5) // 2 + 1
    return height, width


def buckets_for(pyramid: Pyramid) -> tuple[int, ...]:
    """Those whose largest tensor, the canvas with its channels filled up, can be counted in 32 bits."""
    most = _MOST_VALUES // (STEP * pyramid.width * pyramid.height)
    return tuple(size for size in BUCKETS if size <= most) or BUCKETS[:1]
