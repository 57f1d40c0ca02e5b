"""What follows a convolution as one Triton kernel.

Enters: a convolution's output and what is to be done to it. Leaves: the same memory, done. ``epilogues.reference`` says
the same in torch. Imported only where Triton is installed.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import torch

from engines.graphs.epilogues import reference

triton: Any = importlib.import_module("triton")
tl: Any = importlib.import_module("triton.language")

_BLOCK: Final = 1024
"""Elements of one program: 16 bytes of float16 for each of 128 threads."""

_MOST: Final = (1 << 31) - _BLOCK
"""Positions are of 32 bits."""


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]  # Triton reads the annotations, and knows only its own
    x_ptr,
    shift_ptr,
    residual_ptr,
    slope_ptr,
    count,
    PERIOD: tl.constexpr,
    CHANNELS: tl.constexpr,
    SHIFTED: tl.constexpr,
    RESIDUAL: tl.constexpr,
    SLOPED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Channels last: the channel is the position modulo C, the place in the shift the position modulo its size."""
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = position < count
    y = tl.load(x_ptr + position, mask=inside).to(tl.float32)
    if SHIFTED:
        y += tl.load(shift_ptr + position % PERIOD, mask=inside).to(tl.float32)
    if RESIDUAL:
        y += tl.load(residual_ptr + position, mask=inside).to(tl.float32)
    if SLOPED:
        y = tl.where(y >= 0, y, y * tl.load(slope_ptr + position % CHANNELS, mask=inside).to(tl.float32))
    tl.store(x_ptr + position, y.to(x_ptr.dtype.element_ty), mask=inside)


def epilogue(
    x: torch.Tensor, shift: torch.Tensor | None, residual: torch.Tensor | None, slope_C: torch.Tensor | None
) -> torch.Tensor:
    """An ``epilogues.Epilogue``; writes into ``x`` where that is channels last already."""
    if x.numel() > _MOST:
        return reference(x, shift, residual, slope_C)
    x = x.contiguous(memory_format=torch.channels_last)
    if residual is not None:
        residual = residual.expand_as(x).contiguous(memory_format=torch.channels_last)
    grid = (triton.cdiv(x.numel(), _BLOCK),)
    _kernel[grid](
        x,
        x if shift is None else shift,
        x if residual is None else residual,
        x if slope_C is None else slope_C,
        x.numel(),
        PERIOD=1 if shift is None else shift.numel(),
        CHANNELS=x.shape[1],
        SHIFTED=shift is not None,
        RESIDUAL=residual is not None,
        SLOPED=slope_C is not None,
        BLOCK=_BLOCK,
    )
    return x
