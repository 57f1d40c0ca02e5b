"""Batches of every size on graphs of few sizes.

Enters: what computes one batch on the device, and batches of uint8 images. Leaves: float32 results that are the
caller's. A batch is padded to the next bucket; each bucket has fixed buffers and one recorded graph, made when it is
first needed. Images are staged in pinned memory, uploaded as bytes, and everything else happens on the device, on one
stream. More images than the largest bucket holds are worked on in pieces: while the device computes one, the next is
staged.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engines.errors import EngineError, OutOfDeviceMemory
from engines.gpu.cuda_errors import translated

# N images of a call, B of its bucket; H, W pixels
BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

PIECES: Final = 8
"""Of the largest bucket that a call on a GPU may bring."""

SLOTS: Final = 2
"""Pieces under way at once: one that the device works on, one that the host stages or reads."""

WARM_UPS: Final = 3
"""Runs before a graph is recorded: kernels are compiled, algorithms chosen and workspaces taken in them."""

Compute = Callable[[torch.Tensor], torch.Tensor]
"""(B, H, W, 3) uint8 on the device -> (B, ...) float32 there."""

Record = Callable[[Compute, torch.Tensor], Callable[[], torch.Tensor]]
"""Ties a computation to an input at a fixed address; each call of what it returns computes from what lies there."""

_log = logging.getLogger(__name__)


def bucket_for(count: int, sizes: Sequence[int]) -> int:
    """The smallest of the rising ``sizes`` that holds ``count`` images."""
    return next(size for size in sizes if size >= count)


def plain(compute: Compute, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A ``Record`` that records nothing: for processors, and where graphs do not work."""
    return lambda: compute(images)


def cuda_graph(compute: Compute, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A ``Record`` as a CUDA graph in memory of its own: one launch instead of hundreds."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        for _ in range(WARM_UPS):
            compute(images)
        stream = torch.cuda.current_stream()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # other threads may use the GPU meanwhile: only this one must keep to what can be recorded
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            output = compute(images)

    def replay() -> torch.Tensor:
        graph.replay()
        return output

    return replay


def host_buffer(shape: Sequence[int], dtype: torch.dtype, *, pinned: bool) -> torch.Tensor:
    """Zeros in memory that the GPU reads by itself; in ordinary memory where the system gives no such."""
    if pinned:
        try:
            return torch.zeros(*shape, dtype=dtype, pin_memory=True)
        except RuntimeError as err:
            _log.debug("no pinned memory for %s: %s", tuple(shape), err)
    return torch.zeros(*shape, dtype=dtype)


class Bucket:
    """One batch size: fixed buffers on both sides, ``SLOTS`` of them on the host, and the graph between them."""

    def __init__(
        self, compute: Compute, size: int, image_shape: Sequence[int], device: torch.device, record: Record
    ) -> None:
        self._on_gpu = device.type == "cuda"
        self.images = torch.zeros(size, *image_shape, dtype=torch.uint8, device=device)
        """What ``replay`` computes from."""
        self.replay = record(compute, self.images)
        self._results = self.replay().shape
        self._slots: list[_Slot] = []

    def start(self, images_NHWC: NDArray[np.uint8], slot: int) -> None:
        """Give up to the bucket's size to the device; ``finish`` of what was in the slot before must have been called.

        What lies behind them in the buffers is of an earlier call and not returned.
        """
        if not self._slots:  # whoever has images on the device needs none: of 64 frames they are a gigabyte
            self._slots = [_Slot(self.images.shape, self._results, pinned=self._on_gpu) for _ in range(SLOTS)]
        count, own = len(images_NHWC), self._slots[slot]
        own.staged_BHWC[:count] = images_NHWC
        self.images[:count].copy_(own.staged[:count], non_blocking=True)
        own.result[:count].copy_(self.replay()[:count], non_blocking=True)
        if own.done is not None:
            own.done.record()

    def finish(self, count: int, slot: int) -> NDArray[np.float32]:
        """Wait for what was started in a slot, asleep: a thread that spins takes a core from decoding and detection."""
        own = self._slots[slot]
        if own.done is not None:
            own.done.synchronize()
        result: NDArray[np.float32] = own.result[:count].numpy().copy()
        return result


class _Slot:
    """Buffers on the host for one batch."""

    def __init__(self, images: Sequence[int], results: Sequence[int], *, pinned: bool) -> None:
        self.staged = host_buffer(images, torch.uint8, pinned=pinned)
        self.staged_BHWC: NDArray[np.uint8] = self.staged.numpy()
        self.result = host_buffer(results, torch.float32, pinned=pinned)
        self.done = torch.cuda.Event(blocking=True) if pinned else None  # type: ignore[no-untyped-call]


class BucketedSession:
    """A ``Session`` over buckets. From one thread at a time, any thread."""

    def __init__(
        self,
        compute: Compute,
        where: str,
        runtime: str,
        *,
        image_shape: Sequence[int],
        device: torch.device,
        sizes: Sequence[int] = BUCKETS,
        pieces: int | None = None,
        record: Record | None = None,
    ) -> None:
        """
        Args:
            compute: on ``device``.
            where: names the model in messages.
            runtime: for messages.
            image_shape: (H, W, 3).
            device: on another one than a GPU all runs without streams and pinned memory.
            sizes: of buckets, rising.
            pieces: of the largest bucket that one call may bring; ``PIECES`` on a GPU, else 1.
            record: by default a CUDA graph on a GPU, nothing elsewhere.
        """
        self._compute: Compute | None = compute
        self._where = where
        self._runtime = runtime
        self._image_shape = tuple(image_shape)
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._record: Record = record or (plain if self._stream is None else cuda_graph)
        self._sizes = tuple(sizes)
        self._pieces = pieces or (PIECES if self._stream is not None else 1)
        self._buckets: dict[int, Bucket] = {}

    @property
    def max_batch(self) -> int:
        """Falls when a larger bucket did not fit."""
        return self._sizes[-1] * self._pieces

    def prepare(self, sizes: Sequence[int]) -> None:
        """Make buckets now rather than when they are first needed; those that do not fit are left out.

        Raises:
            OutOfDeviceMemory: not even the smallest fits.
            DeviceLost, EngineError: as ``run``.
        """
        for size in sizes:
            try:
                self.run(np.zeros((size, *self._image_shape), dtype=np.uint8))
            except OutOfDeviceMemory as err:
                if size == min(sizes):
                    raise
                _log.warning("%s", err)
                return

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._compute is None:
            raise EngineError(f"{self._where}: the engine is closed; open it again")
        try:
            with _current(self._stream):
                return self._in_pieces(images)
        except (RuntimeError, MemoryError) as err:
            failure = translated(_first(err), self._where, self._runtime)
        self._settle()
        # outside the handler: the exception's frames held what is now to be freed
        if isinstance(failure, OutOfDeviceMemory):
            self._give_up(bucket_for(min(len(images), self._sizes[-1]), self._sizes))
        raise failure

    def on_device(self, images: torch.Tensor) -> torch.Tensor:
        """Images that lie on the device already, results that stay there; the host waits for nothing.

        Args:
            images: (N, H, W, 3) uint8, any N, made on the caller's current stream.

        Returns:
            (N, ...) float32, the caller's to keep and to use on that stream.

        Raises:
            OutOfDeviceMemory, DeviceLost, EngineError: as ``run``.
        """
        if self._compute is None:
            raise EngineError(f"{self._where}: the engine is closed; open it again")
        largest = self._sizes[-1]
        caller = None
        if self._stream is not None:
            caller = torch.cuda.current_stream(self._device)
            self._stream.wait_stream(caller)
        try:
            with _current(self._stream):
                parts = [self._piece_on_device(part) for part in torch.split(images, largest)]
                result = parts[0] if len(parts) == 1 else torch.cat(parts)
        except (RuntimeError, MemoryError) as err:
            failure = translated(_first(err), self._where, self._runtime)
            raise failure from err
        if self._stream is not None and caller is not None:
            caller.wait_stream(self._stream)
            images.record_stream(self._stream)
            result.record_stream(caller)
        return result

    def _in_pieces(self, images_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Start a piece before the one before it is read."""
        largest, done = self._sizes[-1], []
        under_way: deque[tuple[Bucket, int, int]] = deque()
        for number, start in enumerate(range(0, max(len(images_NHWC), 1), largest)):
            part = images_NHWC[start : start + largest]
            bucket, slot = self._bucket(len(part)), number % SLOTS
            if len(under_way) == SLOTS:
                done.append(_finish(*under_way.popleft()))
            bucket.start(part, slot)
            under_way.append((bucket, len(part), slot))
        done += [_finish(*one) for one in under_way]
        return done[0] if len(done) == 1 else np.concatenate(done)

    def _piece_on_device(self, images: torch.Tensor) -> torch.Tensor:
        count, bucket = len(images), self._bucket(len(images))
        bucket.images[:count].copy_(images)
        return bucket.replay()[:count].clone()

    def _bucket(self, count: int) -> Bucket:
        """That holds so many, made where it is new."""
        assert self._compute is not None
        size = bucket_for(count, self._sizes)
        if size not in self._buckets:
            self._buckets[size] = Bucket(self._compute, size, self._image_shape, self._device, self._record)
        return self._buckets[size]

    @property
    def prepared(self) -> tuple[int, ...]:
        """Sizes of the buckets that are made."""
        return tuple(sorted(self._buckets))

    def measured(self, size: int, clock: Callable[[Callable[[], object]], float]) -> float:
        """What ``clock`` says of one run of a bucket that is made."""
        with _current(self._stream):
            return clock(self._buckets[size].replay)

    def close(self) -> None:
        self._compute = None
        self._free()

    def _settle(self) -> None:
        """After a failure: pieces that were under way may still read the buffers that the next call fills."""
        if self._stream is not None:
            with contextlib.suppress(RuntimeError):  # the device may be gone
                self._stream.synchronize()

    def _give_up(self, size: int) -> None:
        """Free a bucket that does not fit, and offer smaller ones alone from now on."""
        self._sizes = tuple(smaller for smaller in self._sizes if smaller < size) or self._sizes[:1]
        self._free(size)

    def _free(self, smallest: int = 0) -> None:
        for size in [size for size in self._buckets if size >= smallest]:
            del self._buckets[size]
        if self._stream is not None:
            gc.collect()
            with contextlib.suppress(RuntimeError):  # the device may be gone
                torch.cuda.empty_cache()


def _finish(bucket: Bucket, count: int, slot: int) -> NDArray[np.float32]:
    return bucket.finish(count, slot)


def _first(err: Exception) -> Exception:
    """Where memory ends while a graph is recorded, ending the recording fails too, and hides why."""
    while isinstance(err.__context__, RuntimeError | MemoryError):
        err = err.__context__
    return err


@contextlib.contextmanager
def _current(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Without gradients, on the session's stream and its device, for this thread."""
    with torch.no_grad():
        if stream is None:
            yield
        else:
            with torch.cuda.stream(stream):
                yield
