"""The contract of every runtime, and the choice among them.

Enters: a model file. Leaves: an ``Engine`` whose ``run`` turns aligned faces into embeddings, and the words that say
which runtime was chosen and why the faster ones were not.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest

# N faces; H, W pixels; C = 3 channels, always RGB; D embedding
Faces_NHWC = NDArray[np.uint8]
Embeddings_ND = NDArray[np.float32]


class Engine(Protocol):
    """One loaded embedding model. Safe to call from one thread at a time; releases the GIL while it computes."""

    @property
    def manifest(self) -> Manifest:
        """What the file promises."""

    @property
    def runtime(self) -> str:
        """For people: ``openvino bf16, 1 thread``."""

    def run(self, faces_NHWC: NDArray[Any]) -> Embeddings_ND:
        """Embed aligned faces.

        Args:
            faces_NHWC: (N, S, S, 3) uint8 RGB, S the manifest's input size, any N >= 0, any strides.

        Returns:
            (N, D) float32; the buffer is the caller's to keep.

        Raises:
            ValueError: wrong shape or dtype; the message names both.
        """

    def close(self) -> None:
        """Free what the runtime holds; may be called twice."""
