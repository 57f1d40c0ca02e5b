"""TensorRT engines at work.

Enters: a loaded plan and batches of uint8 faces. Leaves: float32 embeddings. ``buckets`` pads, uploads and
downloads; here a bucket gets its execution context, its scratch memory and, where TensorRT allows it, its CUDA graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch

from engines.errors import first_line
from engines.gpu.buckets import BUCKETS, BucketedSession, Compute, cuda_graph
from engines.gpu.trt_build import PROFILES, LoadedPlan

# B faces of a bucket; S pixels; D embedding
_log = logging.getLogger(__name__)


def profile_of(bucket: int) -> int:
    """Number of the optimisation profile whose range the bucket lies in."""
    return next(number for number, (low, _, high) in enumerate(PROFILES) if low <= bucket <= high)


class TensorRtSession(BucketedSession):
    """One engine on one stream; from one thread at a time, any thread."""

    def __init__(self, plan: LoadedPlan, where: str, device: torch.device, *, graphs: bool | None = None) -> None:
        """
        Args:
            plan: loaded; closed with the session.
            where: names the model in messages.
            device: of CUDA. On another one all runs without streams, for tests.
            graphs: record CUDA graphs; None for where there is a GPU.
        """
        self._plan: Final = plan
        record_graphs = device.type == "cuda" if graphs is None else graphs
        super().__init__(
            lambda images: _Launch(plan, images)(),
            where,
            "TensorRT",
            image_shape=_Tensors(plan).image_shape,
            device=device,
            sizes=BUCKETS,
            record=partial(_record, plan, where, record_graphs),
        )

    def close(self) -> None:
        super().close()
        self._plan.close()


class _Tensors:
    """Names and shapes of an engine's input and output."""

    def __init__(self, plan: LoadedPlan) -> None:
        engine = plan.engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == plan.trt.TensorIOMode.INPUT]
        self.faces: Final[str] = inputs[0]
        self.embeddings: Final[str] = next(name for name in names if name not in inputs)
        self.image_shape: Final = tuple(engine.get_tensor_shape(self.faces))[1:]
        self.dimensions: Final = int(tuple(engine.get_tensor_shape(self.embeddings))[-1])


class _Launch:
    """An execution context tied to one input at a fixed address; each call computes from what lies there.

    A context that a graph was recorded from may not change its shapes any more, so each bucket has one of its own. Its
    scratch memory is what TensorRT asks for at this size.
    """

    def __init__(self, plan: LoadedPlan, images_BSSC: torch.Tensor) -> None:
        tensors = _Tensors(plan)
        device, size = images_BSSC.device, len(images_BSSC)
        self._log = plan.log
        self._embeddings_BD = torch.empty(size, tensors.dimensions, dtype=torch.float32, device=device)
        strategy = plan.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context: Any = plan.engine.create_execution_context(strategy)
        self._demand(self._context is not None)
        self._demand(self._context.set_optimization_profile_async(profile_of(size), _stream_of(images_BSSC)))
        self._demand(self._context.set_input_shape(tensors.faces, tuple(images_BSSC.shape)))
        self._demand(self._context.set_tensor_address(tensors.faces, images_BSSC.data_ptr()))
        self._demand(self._context.set_tensor_address(tensors.embeddings, self._embeddings_BD.data_ptr()))
        self._images_BSSC = images_BSSC
        needed = int(self._context.update_device_memory_size_for_shapes())
        self._scratch = torch.empty(max(needed, 1), dtype=torch.uint8, device=device)
        self._context.set_device_memory(self._scratch.data_ptr(), self._scratch.numel())

    def __call__(self) -> torch.Tensor:
        self._demand(self._context.execute_async_v3(_stream_of(self._images_BSSC)))
        return self._embeddings_BD

    def _demand(self, worked: bool) -> None:
        """TensorRT says no by returning False; why stands in its log. The session reads the error's kind from it."""
        if not worked:
            raise RuntimeError(self._log.last)


def _record(
    plan: LoadedPlan, where: str, graphs: bool, _compute: Compute, images_BSSC: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """One bucket, as a CUDA graph where that can be had."""
    launch = _Launch(plan, images_BSSC)
    launch()
    if not graphs:
        return launch
    try:
        replay = cuda_graph(lambda _: launch(), images_BSSC)
    except RuntimeError as err:
        _log.info("%s: batches of %d run without a CUDA graph (%s)", where, len(images_BSSC), first_line(err))
        return launch
    return partial(_replayed, launch, replay)


def _replayed(_kept: _Launch, replay: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The graph works in the context's memory, which must live as long as it does."""
    return replay()


def _stream_of(images: torch.Tensor) -> int:
    return int(torch.cuda.current_stream(images.device).cuda_stream) if images.is_cuda else 0
