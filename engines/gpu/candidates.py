"""Ways of making one network's kernels on a GPU, and which of them is the fastest there.

Enters: a folded graph, a device, a precision. Leaves: the name of the fastest way that works, measured once and kept;
a session made that way. A new way is one function and one line in ``WAYS``.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import statistics
import sys
from collections.abc import Callable, Mapping
from subprocess import SubprocessError
from types import MappingProxyType
from typing import Final, Protocol

import onnx
import torch
from torch import fx

from engines import plans
from engines.errors import DeviceLost, EngineError, first_line
from engines.gpu.buckets import BUCKETS, BucketedSession, Compute
from engines.gpu.cuda_errors import translated
from engines.graphs.epilogues import Epilogue, fuse
from engines.graphs.stem import widen
from engines.graphs.torch_graph import image_shape, to_torch

RUNTIME: Final = "torch-cuda"

MEASURED: Final = (1, 32)
"""Batches by which the ways are compared: the latency of one face and the rate of many count alike."""

DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Of a body, by precision."""

SIZES: Final = (*BUCKETS, 512)
"""Of buckets: the largest GPUs gain a little from the last one."""

AT_OPEN: Final = (1, 2, 4, 8)
"""Buckets made when a session opens, as live video meets them at any moment; larger ones when they are first needed."""

REPEATS: Final = 20

COMPILE_MARGIN: Final = 1.05
"""torch.compile has to be so much faster than the best of the others: it takes half a minute at every start."""

Way = Callable[[fx.GraphModule, torch.device], Compute]

_log = logging.getLogger(__name__)


def _eager(module: fx.GraphModule, device: torch.device) -> Compute:
    """Torch's own kernels, one for each addition and activation."""
    return module.to(device).forward


def _triton(module: fx.GraphModule, device: torch.device) -> Compute:
    """One kernel of ours behind each convolution."""
    epilogue: Epilogue = importlib.import_module("engines.graphs.triton_epilogue").epilogue
    return fuse(module, epilogue).to(device).forward


def _triton_wide(module: fx.GraphModule, device: torch.device) -> Compute:
    """The same, and a first convolution that the matrix units take."""
    return _triton(widen(module), device)


def _compile(module: fx.GraphModule, device: torch.device) -> Compute:
    """Torch makes the kernels; one compilation serves all batches but 1."""
    compiled: Compute = torch.compile(fuse(module).to(device), dynamic=True)
    return compiled


WAYS: Final[Mapping[str, Way]] = MappingProxyType(
    {"triton": _triton, "triton-wide": _triton_wide, "eager": _eager, "compile": _compile}
)
"""Those that are soon ready first."""


class Measurable(Protocol):
    """One network in several ways."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the ways, in the order in which they are tried."""

    def seconds(self, way: str) -> float:
        """Of one run, over the measured batches. Raises EngineError: it does not work here."""


class Candidates:
    """One network in every way."""

    def __init__(
        self,
        folded: onnx.ModelProto,
        where: str,
        device: torch.device,
        dtype: torch.dtype,
        *,
        ways: Mapping[str, Way] = WAYS,
        clock: Callable[[Callable[[], object]], float] | None = None,
    ) -> None:
        """
        Args:
            folded: what ``fold`` returned.
            where: names the model in messages.
            device: to run on.
            dtype: of the body.
            ways: by name.
            clock: seconds of one call; by default measured with the GPU's own events.
        """
        batch, self._shape = image_shape(folded, where)
        self._sizes = (batch,) if batch else SIZES
        self._folded = folded
        self._where = where
        self._device = device
        self._dtype = dtype
        self._ways = ways
        self._clock = clock or gpu_seconds

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._ways)

    def session(self, way: str) -> BucketedSession:
        """Raises ModelFileError: the graph is refused; EngineError: the way does not work here."""
        module = to_torch(self._folded, dtype=self._dtype, where=self._where)
        try:
            compute = _guarded(self._ways[way](module, self._device))
        except (ImportError, RuntimeError) as err:
            raise translated(err, self._where, RUNTIME) from err
        return BucketedSession(
            compute, self._where, RUNTIME, image_shape=self._shape, device=self._device, sizes=self._sizes
        )

    def seconds(self, way: str) -> float:
        """Geometric mean over ``MEASURED``."""
        session = self.session(way)
        try:
            session.prepare([size for size in MEASURED if size in self._sizes] or self._sizes[:1])
            times = [session.measured(size, self._clock) for size in session.prepared]
        finally:
            session.close()
        return math.exp(statistics.mean(map(math.log, times)))


def open_fastest(candidates: Candidates, key: tuple[str, ...]) -> BucketedSession:
    """A session in the fastest way, its first buckets made; ``key`` as for ``remembered``.

    Raises:
        ModelFileError: an operator is not known here.
        OutOfDeviceMemory: not even the smallest bucket fits.
        DeviceLost: in the middle of it.
        EngineError: no way works here.
    """
    session = candidates.session(remembered(key, candidates))
    try:
        session.prepare([size for size in AT_OPEN if size <= session.max_batch] or [session.max_batch])
    except EngineError:
        session.close()
        raise
    return session


def remembered(key: tuple[str, ...], candidates: Measurable) -> str:
    """The fastest way, measured where it is not known yet.

    Args:
        key: all that decides which one it is: network, torch, GPU, precision.
        candidates: of that network.

    Raises:
        EngineError: none works here.
    """

    def build() -> bytes:
        times = measured(candidates)
        return json.dumps({"way": best(times), "seconds": times}).encode()

    content = plans.kept(RUNTIME, key, build, accept=lambda kept: _way(kept) in candidates.names)
    way = _way(content)
    assert way is not None
    return way


def measured(candidates: Measurable) -> dict[str, float]:
    """Seconds by way, of those that work here.

    Raises:
        DeviceLost: in the middle of it.
        EngineError: none works; the first one's error.
    """
    times: dict[str, float] = {}
    failures: list[EngineError] = []
    for way in candidates.names:
        try:
            times[way] = candidates.seconds(way)
        except DeviceLost:
            raise
        except EngineError as err:
            _log.info("%s is passed over: %s", way, err)
            failures.append(err)
    if not times:
        raise failures[0]
    _log.info("measured: %s", ", ".join(f"{way} {1e3 * seconds:.2f} ms" for way, seconds in times.items()))
    return times


def best(times: Mapping[str, float]) -> str:
    """The fastest; ``compile`` only where it is worth its start."""
    return min(times, key=lambda way: times[way] * (COMPILE_MARGIN if way == "compile" else 1))


def gpu_seconds(call: Callable[[], object]) -> float:
    """Median of what the GPU takes for a call, without the images' way there and back."""
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    median: float = statistics.median(times)
    return median


def _guarded(compute: Compute) -> Compute:
    """Errors of the compilers behind torch and Triton as what torch itself raises."""

    def guarded(images: torch.Tensor) -> torch.Tensor:
        try:
            return compute(images)
        except _compiler_errors() as err:
            raise RuntimeError(f"its kernels cannot be compiled: {first_line(err)}") from err

    return guarded


def _compiler_errors() -> tuple[type[Exception], ...]:
    """Triton's errors have a base of their own; both call a C compiler, which may be missing."""
    triton = sys.modules.get("triton")
    own = (triton.TritonError,) if triton is not None and hasattr(triton, "TritonError") else ()
    return (OSError, SubprocessError, *own)


def _way(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["way"])
    except (ValueError, KeyError, TypeError):
        return None
