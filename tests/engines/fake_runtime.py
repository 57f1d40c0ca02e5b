"""A GPU runtime that is none: it answers with ONNX Runtime, and fails when a test tells it to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import DeviceLost, EngineError, OutOfDeviceMemory, RuntimeMissing
from engines.runtimes import onnxruntime


class Script:
    """What happens; ``tests`` change it, a fixture resets it."""

    missing = False
    is_ready = True
    refuses = ""
    fits: int | None = None
    lost_after: int | None = None
    answers: Any = None
    """Called with the embeddings: other answers than the reference's."""
    opened = 0
    batches: list[int] = []  # noqa: RUF012 - one script for the whole module


def version() -> str:
    if Script.missing:
        raise RuntimeMissing("the fake runtime is not installed; install it with `pip install fake`")
    return "1.0"


def obstacle(precision: str) -> str | None:
    return None


def ready(content: bytes, precision: str) -> bool:
    return Script.is_ready


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> FakeSession:
    if Script.refuses:
        raise EngineError(Script.refuses)
    Script.opened += 1
    return FakeSession(onnxruntime.open_session(model, where, precision="fp32", threads=1))


class FakeSession:
    max_batch = 16

    def __init__(self, session: onnxruntime.OnnxRuntimeSession) -> None:
        self._session = session
        self._runs = 0

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if Script.lost_after is not None and self._runs >= Script.lost_after:
            raise DeviceLost("fake GPU: has fallen off the bus")
        if Script.fits is not None and len(images) > Script.fits:
            raise OutOfDeviceMemory(f"fake GPU: no room for {len(images)} faces")
        self._runs += 1
        Script.batches.append(len(images))
        embeddings = self._session.run(images)
        return embeddings if Script.answers is None else np.asarray(Script.answers(embeddings), dtype=np.float32)

    def close(self) -> None:
        self._session.close()
