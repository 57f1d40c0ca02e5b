"""The contract of every loaded embedding model, and how one is opened.

Enters: a model file or the name of one, and wishes. Leaves: a ``LoadedEngine`` whose ``run`` turns aligned faces into
embeddings on the fastest runtime that works here and answers as it should, and the words that say which one that is and
why the faster ones were not taken.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engines import verdicts
from engines.errors import DeviceLost, EngineError, OutOfDeviceMemory
from engines.export import ModelFile
from engines.manifest import Manifest
from engines.opening import Forms, Opened, open_first
from engines.quantise import Calibration
from engines.runtimes import Choice, Row, RuntimeInfo, Wishes, describe_runtimes, runtime_module
from engines.store import default_model, find_model
from engines.verdicts import Verdict

__all__ = ["Engine", "LoadedEngine", "RuntimeInfo", "describe_runtimes", "open_engine", "open_model"]

# N faces; H, W pixels; C = 3 channels, always RGB; D embedding
Faces_NHWC = NDArray[np.uint8]
Embeddings_ND = NDArray[np.float32]

OnDeviceLoss = Literal["fall_back", "stop"]

_log: Final = logging.getLogger(__name__)


class Engine(Protocol):
    """One loaded embedding model. Safe to call from one thread at a time; releases the GIL while it computes."""

    @property
    def manifest(self) -> Manifest:
        """What the file promises."""

    @property
    def runtime(self) -> str:
        """For people: ``openvino bf16, 1 thread``."""

    @property
    def choice(self) -> str:
        """``runtime``, and why each faster one was passed over."""

    def run(self, faces_NHWC: NDArray[Any]) -> Embeddings_ND:
        """Embed aligned faces.

        Args:
            faces_NHWC: (N, S, S, 3) uint8 RGB, S the manifest's input size, any N >= 0, any strides.

        Returns:
            (N, D) float32; the buffer is the caller's to keep.

        Raises:
            ValueError: wrong shape or dtype; the message names both.
            EngineError: the runtime failed, or the engine is closed.
        """

    def close(self) -> None:
        """Free what the runtime holds; may be called twice."""


def open_engine(
    file: Path | str | None = None,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    threads: int = 1,
    require_gpu: bool = False,
    on_device_loss: OnDeviceLoss = "fall_back",
    calibration: Calibration | None = None,
    wait: bool = True,
) -> LoadedEngine:
    """Load a model on the fastest runtime that works here.

    Args:
        file: an ONNX file with a manifest, or the name of a fetched or imported model; None for the embedded dlib
            descriptor.
        runtime: ``auto`` or a name of ``engines.runtimes.MODULES``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        threads: of a runtime on the processor.
        require_gpu: refuse anything that runs on the processor.
        on_device_loss: what ``run`` does when the GPU is lost: go on with the next runtime, or raise.
        calibration: faces for an int8 form that is not at hand.
        wait: False opens what is ready at once, and leaves a slower build to ``LoadedEngine.build_better``.

    Raises:
        ModelFileError: the file is missing, foreign or damaged.
        RuntimeMissing: what was asked for does not work here.
        EngineError: what was asked for cannot be built.
        ValueError: unknown runtime or precision, or fewer than one thread.
    """
    wishes = Wishes(runtime=runtime, precision=precision, threads=threads, require_gpu=require_gpu)
    model = default_model() if file is None else find_model(str(file))
    return _open(Forms(model, calibration), wishes, on_device_loss, wait=wait)


def open_model(
    model: ModelFile,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    threads: int = 1,
    require_gpu: bool = False,
    on_device_loss: OnDeviceLoss = "fall_back",
    calibration: Calibration | None = None,
    wait: bool = True,
) -> LoadedEngine:
    """As ``open_engine``, for a model in memory."""
    wishes = Wishes(runtime=runtime, precision=precision, threads=threads, require_gpu=require_gpu)
    return _open(Forms(model, calibration), wishes, on_device_loss, wait=wait)


class LoadedEngine:
    """A checked model file on one session: shapes, batches and lost devices are the same for every runtime."""

    def __init__(self, forms: Forms, wishes: Wishes, opened: Opened, on_device_loss: OnDeviceLoss) -> None:
        self._forms = forms
        self._wishes = wishes
        self._on_device_loss: OnDeviceLoss = on_device_loss
        self._closed = False
        self._take(opened)

    def _take(self, opened: Opened) -> None:
        self._session = opened.session
        self._choice = opened.choice
        self._better = opened.better
        self._max_batch = opened.session.max_batch

    @property
    def manifest(self) -> Manifest:
        return self._forms.model.manifest

    @property
    def runtime(self) -> str:
        return self._choice.short

    @property
    def choice(self) -> str:
        return self._choice.text

    @property
    def row(self) -> Row:
        """Of the runtimes' table."""
        return self._choice.row

    @property
    def better(self) -> Choice | None:
        """A faster runtime that has to be built first; None when this is the one that was wished for."""
        return self._better

    def build_better(self) -> LoadedEngine:
        """Build what ``better`` names and open it; may take minutes. This engine stays as it is.

        Raises:
            EngineError: the build failed.
        """
        return _open(self._forms, self._wishes, self._on_device_loss, wait=True)

    def reject_better(self, reason: str) -> None:
        """Remember that what ``build_better`` gave answers otherwise; ``auto`` does not take it again."""
        if self._better is None:
            return
        row = self._better.row
        verdicts.record(
            Verdict(
                model_sha256=self._forms.file(row).sha256,
                runtime=row.runtime,
                version=runtime_module(row.runtime).version(),
                precision=row.precision,
                passed=False,
                reason=reason,
            )
        )
        self._better = None

    def run(self, faces_NHWC: NDArray[Any]) -> Embeddings_ND:
        side = self.manifest.input_size
        faces = np.asarray(faces_NHWC)
        if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1:] != (side, side, 3):
            raise ValueError(
                f"faces are {faces.dtype} of shape {faces.shape}; "
                f"{self.manifest.name} takes uint8 of shape (N, {side}, {side}, 3)"
            )
        parts: list[Embeddings_ND] = []
        done = 0
        while done < len(faces):
            part = np.ascontiguousarray(faces[done : done + self._max_batch])
            if (embeddings := self._try(part)) is not None:
                parts.append(embeddings)
                done += len(part)
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, self.manifest.dimensions), dtype=np.float32)

    def close(self) -> None:
        self._closed = True
        self._session.close()

    def _try(self, part_NHWC: Faces_NHWC) -> Embeddings_ND | None:
        """Embeddings of a part, or None where it is to be tried again, smaller or elsewhere."""
        try:
            return self._session.run(part_NHWC)
        except OutOfDeviceMemory as err:
            if len(part_NHWC) > 1:
                self._max_batch = len(part_NHWC) // 2
                _log.warning("%s; going on with batches of %d", err, self._max_batch)
            else:
                self._leave_device(err)
        except DeviceLost as err:
            self._leave_device(err)
        return None

    def _leave_device(self, err: EngineError) -> None:
        """Go on with the fastest runtime on the processor, or raise. What one runtime lost, all of this process did."""
        if self._closed or self._on_device_loss == "stop" or self._wishes.require_gpu:
            raise err
        self._session.close()
        self._take(open_first(self._forms, Wishes(threads=self._wishes.threads), lost=str(err)))
        _log.warning("%s; going on with %s", err, self.runtime)


def _open(forms: Forms, wishes: Wishes, on_device_loss: OnDeviceLoss, *, wait: bool) -> LoadedEngine:
    opened = open_first(forms, wishes, only_ready=not (wait or wishes.require_gpu))
    return LoadedEngine(forms, wishes, opened, on_device_loss)
