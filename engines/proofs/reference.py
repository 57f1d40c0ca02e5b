"""The processor's answers, which every way on a device is held to.

Enters: a model and faces. Leaves: their embeddings by ONNX Runtime in fp32.
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.export import ModelFile
from engines.runtimes import onnxruntime

BATCH: Final = 16
"""Faces of a call: about as fast as any, and little memory."""


def processor_embeddings(model: ModelFile, faces_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, D) float32, on all cores; N at least 1."""
    session = onnxruntime.open_session(model.content, model.where, precision="fp32", threads=os.cpu_count() or 1)
    parts = np.array_split(faces_NHWC, max(1, len(faces_NHWC) // BATCH))
    embeddings: NDArray[np.float32] = np.concatenate([session.run(part) for part in parts])
    session.close()
    return embeddings
