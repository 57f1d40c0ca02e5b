"""The contract of every loaded embedding model, and how one is opened.

Enters: a model file. Leaves: an ``Engine`` whose ``run`` turns aligned faces into embeddings, and the words that say
which runtime was chosen and why the faster ones were not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.export import ModelFile, load_model
from engines.manifest import Manifest
from engines.runtimes import Choice, RuntimeInfo, Session, choose, describe_runtimes, open_session
from engines.store import default_model

__all__ = ["Engine", "RuntimeInfo", "describe_runtimes", "open_engine", "open_model"]

# N faces; H, W pixels; C = 3 channels, always RGB; D embedding
Faces_NHWC = NDArray[np.uint8]
Embeddings_ND = NDArray[np.float32]

MAX_BATCH: Final = 32
"""Larger batches run in parts: on a CPU they are no faster, and memory grows with them."""


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
    file: Path | None = None, *, runtime: str = "auto", precision: str = "auto", threads: int = 1
) -> Engine:
    """Load a model on the fastest runtime that works here.

    Args:
        file: an ONNX file with a manifest; None for the embedded dlib descriptor.
        runtime: ``auto``, ``onnxruntime`` or ``openvino``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        threads: of the runtime.

    Raises:
        ModelFileError: the file is missing, foreign or damaged.
        RuntimeMissing: what was asked for does not work here.
        ValueError: unknown runtime or precision, or fewer than one thread.
    """
    choice = choose(runtime, precision, threads)
    return _LoadedEngine(default_model() if file is None else load_model(file), choice)


def open_model(model: ModelFile, *, runtime: str = "auto", precision: str = "auto", threads: int = 1) -> Engine:
    """As ``open_engine``, for a model in memory."""
    return _LoadedEngine(model, choose(runtime, precision, threads))


class _LoadedEngine:
    """A checked model file on one session: shapes and batches are the same for every runtime."""

    def __init__(self, model: ModelFile, choice: Choice) -> None:
        self.manifest: Final = model.manifest
        self.runtime: Final = choice.short
        self.choice: Final = choice.text
        self._session: Session = open_session(choice, model.content, model.where)

    def run(self, faces_NHWC: NDArray[Any]) -> Embeddings_ND:
        side = self.manifest.input_size
        faces = np.asarray(faces_NHWC)
        if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1:] != (side, side, 3):
            raise ValueError(
                f"faces are {faces.dtype} of shape {faces.shape}; "
                f"{self.manifest.name} takes uint8 of shape (N, {side}, {side}, 3)"
            )
        parts = [self._embed(faces[start : start + MAX_BATCH]) for start in range(0, len(faces), MAX_BATCH)]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, self.manifest.dimensions), dtype=np.float32)

    def _embed(self, faces_NHWC: NDArray[np.uint8]) -> Embeddings_ND:
        return self._session.run(np.ascontiguousarray(faces_NHWC))

    def close(self) -> None:
        self._session.close()
