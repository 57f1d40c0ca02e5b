"""A whole step as one CUDA graph, for batches so small that starting kernels takes longer than running them.

Enters: a ``Trainer``. Leaves: the same steps. The first few run as they are, on a stream of their own, as the recording
needs; then one is recorded, and each later one copies its crops, flips, labels and rate into the recorded tensors and
starts the graph. What depends on the step's number cannot be recorded; ``obstacle`` lists it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from train.fit.crops import Part
from train.fit.precision import Precision
from train.fit.step import StepResult, Trainer
from train.settings import FitSettings
from train.sharding.ranks import Ranks

WARM: Final = 3
"""Steps before the recording: libraries choose their kernels in them."""

LARGEST_BATCH: Final = 64
"""A step of more crops keeps the GPU busy by itself."""


def obstacle(settings: FitSettings, precision: Precision, ranks: Ranks) -> str | None:
    """Why a run's steps are not recorded; None if they are."""
    reasons = (
        (settings.run.cuda_graph == "never", "run.cuda_graph is never"),
        (ranks.device.type != "cuda", "there is no GPU"),
        (ranks.size > 1, "several ranks talk within a step"),
        (settings.run.batch > LARGEST_BATCH, f"a batch of more than {LARGEST_BATCH} keeps the GPU busy"),
        (precision == "fp16", "fp16 looks at its gradients within a step"),
        (settings.loss.sample_rate < 1, "each step draws other classes"),
        (settings.network.dropout > 0, "each step draws another dropout"),
    )
    return next((words for applies, words in reasons if applies), None)


def stepper(trainer: Trainer, settings: FitSettings, precision: Precision, ranks: Ranks) -> Trainer | RecordedTrainer:
    """What takes a run's steps: recorded ones where nothing stands against it."""
    return trainer if obstacle(settings, precision, ranks) else RecordedTrainer(trainer)


class RecordedTrainer:
    """Calls of ``step`` as those of a ``Trainer``; frozen steps are not recorded."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._warm = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._parts: list[Part] = []
        self._rate = torch.zeros(())
        self._result: StepResult | None = None

    def step(self, parts: Sequence[Part], step: int, rate: Tensor, *, frozen: bool = False) -> StepResult:
        """As ``Trainer.step``; what is given back is overwritten by the next call."""
        if frozen:
            return self._trainer.step(parts, step, rate, frozen=True)
        if self._warm < WARM:
            self._warm += 1
            return self._apart(parts, step, rate)
        if self._graph is None:
            self._record(parts, step, rate)
        assert self._graph is not None
        assert self._result is not None
        for into, part in zip(self._parts, parts, strict=True):
            into.crops_MSSC.copy_(part.crops_MSSC)
            into.flips_M.copy_(part.flips_M)
            into.labels_M.copy_(part.labels_M)
        self._rate.copy_(rate)
        self._graph.replay()
        return self._result

    def _apart(self, parts: Sequence[Part], step: int, rate: Tensor) -> StepResult:
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            result = self._trainer.step(parts, step, rate)
        here.wait_stream(self._stream)
        return result

    def _record(self, parts: Sequence[Part], step: int, rate: Tensor) -> None:
        """Nothing is computed while recording: weights stay as they are."""
        self._parts = [Part(each.crops_MSSC.clone(), each.flips_M.clone(), each.labels_M.clone()) for each in parts]
        self._rate = rate.clone()
        graph = torch.cuda.CUDAGraph()
        # the thread that reads crops ahead may ask the driver for memory meanwhile
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._result = self._trainer.step(self._parts, step, self._rate)
        self._graph = graph
