"""In which numbers the body of the network computes, and the scale of the loss that fp16 needs.

Enters: a wish and a device. Leaves: a dtype, and a ``LossScale``. The head is float32 in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Literal

import torch

from train.errors import Diverged

Precision = Literal["fp32", "bf16", "fp16"]

DTYPES: Final[dict[str, torch.dtype]] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

BF16_CAPABILITY: Final = (8, 0)
FP16_CAPABILITY: Final = (7, 0)
"""Compute capabilities of NVIDIA from which the precision is fast."""


def precision_for(wish: str, device: torch.device) -> Precision:
    """What was asked for; ``auto`` is bf16 on a GPU that has it, fp16 on one that has only that, else fp32."""
    if wish != "auto":
        assert wish in DTYPES, wish
        return wish  # type: ignore[return-value]
    if device.type != "cuda":
        return "fp32"
    capability = torch.cuda.get_device_capability(device)
    return "bf16" if capability >= BF16_CAPABILITY else "fp16" if capability >= FP16_CAPABILITY else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Around the network's forward pass; the network itself keeps its last layer in float32."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")


class LossScale:
    """The factor that keeps gradients inside fp16's range: halved when one overflows, doubled after a long calm.

    torch's ``GradScaler`` decides on each rank by itself; here the decision is the caller's, one for all ranks.
    """

    FIRST: Final = 2.0**16
    CALM: Final = 2000
    """Steps without an overflow after which the scale is doubled."""

    def __init__(self, precision: Precision) -> None:
        self._used = precision == "fp16"
        self.scale = self.FIRST if self._used else 1.0
        self._calm = 0

    @property
    def used(self) -> bool:
        return self._used

    def saw(self, finite: bool) -> bool:
        """Take note of a step's gradients; whether the step is to be taken.

        Raises:
            Diverged: they overflow at every scale.
        """
        if not self._used:
            return True
        if finite:
            self._calm += 1
            if self._calm == self.CALM:
                self.scale, self._calm = self.scale * 2, 0
            return True
        self.scale, self._calm = self.scale / 2, 0
        if self.scale < 1:
            raise Diverged("gradients overflow fp16 at every scale")
        return False

    def state(self) -> dict[str, float]:
        return {"scale": self.scale, "calm": float(self._calm)}

    def load(self, state: Mapping[str, float]) -> None:
        if self._used:
            self.scale, self._calm = float(state["scale"]), int(state["calm"])
