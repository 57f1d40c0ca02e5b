"""How fast a run could be here: the machine's matrix products, and the work of a crop.

Enters: a device, a network. Leaves: multiplications and additions a second, and a crop. Training takes three times the
forward pass: one for the activations' gradient, one for the weights'. An iresnet50 takes 37.8 GFLOP a crop.
"""

from __future__ import annotations

import time
from typing import Final

import torch

from engines.networks import Network
from engines.networks.shapes import multiply_adds
from train.fit.precision import DTYPES, Precision

PASSES: Final = 3
"""Forward, and two backward."""

SIDES: Final = {"cpu": 1024, "cuda": 8192}
"""Of the square matrices: large enough that starting costs nothing."""

SECONDS: Final = 0.3
"""Of measuring, after one product that does not count."""


def training_flops(network: Network, centres: int) -> float:
    """Of one crop: multiplications and additions each count; norms and activations are left out.

    Args:
        network: of the run.
        centres: columns that a crop is compared with in a step.
    """
    return 2.0 * PASSES * (multiply_adds(network) + network.dimensions * centres)


def matmul_flops(device: torch.device, precision: Precision) -> float:
    """Measured on this machine, now, with torch's number of threads.

    torch lets cuDNN round the float32 inputs of a convolution to TF32, and a matrix product not: the measure against
    which convolutions are held does as they do. The head's products stay float32.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        return _measured(device, precision)
    finally:
        torch.set_float32_matmul_precision(before)


def _measured(device: torch.device, precision: Precision) -> float:
    side = SIDES.get(device.type, SIDES["cpu"])
    a = torch.randn(side, side, device=device).to(DTYPES[precision])
    b = torch.randn(side, side, device=device).to(DTYPES[precision])
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)
    finish(device)
    products, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        torch.mm(a, b, out=out)
        finish(device)
        products += 1
    return products * 2.0 * side**3 / (time.perf_counter() - start)


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
