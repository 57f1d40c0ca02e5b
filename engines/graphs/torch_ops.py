"""What each ONNX operator is in torch.

Enters: one ONNX node with its inputs. Leaves: calls of torch functions, recorded or, where all inputs are constants,
made at once. A new operator is one function and one line in ``OPERATORS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
import torch
from torch.nn import functional

from engines.graphs.torch_layers import (
    Step,
    Unsupported,
    average_pool,
    conv,
    convert_batch_norm,
    convert_prelu,
    gemm,
    global_average_pool,
    max_pool,
    refuse,
    resize,
)


def _same(step: Step) -> Any:
    return step.x(0)


def _plain(function: Callable[..., Any]) -> Callable[[Step], Any]:
    """An operator that is one function of its inputs."""

    def convert(step: Step) -> Any:
        count = next(index for index in range(9) if not step.has(index))
        return step.call(function, *(step.x(index) for index in range(count)))

    return convert


def _cast(step: Step) -> Any:
    wanted = onnx.helper.tensor_dtype_to_np_dtype(step.options["to"])
    is_float = np.issubdtype(wanted, np.floating) or "float" in wanted.name
    dtype = step.number() if is_float else torch.from_numpy(np.empty(0, wanted)).dtype
    return step.call(torch.Tensor.to, step.x(0), dtype)


def _transpose(step: Step) -> Any:
    return step.call(torch.permute, step.x(0), tuple(step.options["perm"]))


def _pad(step: Step) -> Any:
    refuse(step, mode="constant")
    if step.has(3):
        raise Unsupported("Pad of chosen axes")
    pads = step.constant(1).tolist() if step.has(1) else step.options["pads"]
    value = float(step.constant(2)) if step.has(2) else float(step.options.get("value", 0.0))
    rank = len(pads) // 2
    ends = [size for axis in reversed(range(rank)) for size in (pads[axis], pads[axis + rank])]
    return step.call(functional.pad, step.x(0), tuple(ends), value=value)


def _concat(step: Step) -> Any:
    count = next(index for index in range(1 << 16) if not step.has(index))
    return step.call(torch.cat, [step.x(index) for index in range(count)], dim=step.options["axis"])


def cut(x: torch.Tensor, cuts: Sequence[tuple[int, int, int, int]]) -> torch.Tensor:
    """ONNX's Slice: (axis, start, end, step) each; a negative step goes backwards."""
    for axis, start, end, stride in cuts:
        size = x.shape[axis]
        low, high = (0, size) if stride > 0 else (-1, size - 1)
        first = min(max(start + size * (start < 0), 0), high)
        last = min(max(end + size * (end < 0), low), high)
        if stride < 0:
            x, first, last = x.flip(axis), size - 1 - first, size - 1 - last
        x = x[(slice(None),) * (axis % x.dim()) + (slice(first, max(first, last), abs(stride)),)]
    return x


def _slice(step: Step) -> Any:
    if not step.has(1):
        raise Unsupported("Slice of an opset before 10")
    starts, ends = step.constant(1).tolist(), step.constant(2).tolist()
    axes = step.constant(3).tolist() if step.has(3) else list(range(len(starts)))
    strides = step.constant(4).tolist() if step.has(4) else [1] * len(starts)
    return step.call(cut, step.x(0), tuple(zip(axes, starts, ends, strides, strict=True)))


def _gather(step: Step) -> Any:
    index, axis = step.constant(1), step.options.get("axis", 0)
    if index.dim() == 0:
        return step.call(torch.select, step.x(0), axis, int(index))
    if index.dim() != 1:
        raise Unsupported("Gather by more than a row of indices")
    if (index < 0).any():
        raise Unsupported("Gather by negative indices")
    return step.call(torch.index_select, step.x(0), axis, index)


def _flatten(step: Step) -> Any:
    refuse(step, axis=1)
    return step.call(torch.flatten, step.x(0), 1)


def reshape(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """ONNX's Reshape: 0 keeps an axis."""
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def _reshape(step: Step) -> Any:
    refuse(step, allowzero=0)
    return step.call(reshape, step.x(0), tuple(step.constant(1).tolist()))


def _axes(step: Step) -> tuple[int, ...]:
    """From the attribute (older opsets) or the second input."""
    axes = step.constant(1).tolist() if step.has(1) else step.options.get("axes")
    if axes is None:
        raise Unsupported("an operator over all axes")
    return tuple(axes)


def _reduce(function: Callable[..., Any]) -> Callable[[Step], Any]:
    def convert(step: Step) -> Any:
        return step.call(function, step.x(0), dim=_axes(step), keepdim=bool(step.options.get("keepdims", 1)))

    return convert


def _squeeze(step: Step) -> Any:
    return step.call(torch.squeeze, step.x(0), _axes(step))


def unsqueeze(x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """New axes, counted in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _unsqueeze(step: Step) -> Any:
    return step.call(unsqueeze, step.x(0), _axes(step))


def _clip(step: Step) -> Any:
    low = float(step.constant(1)) if step.has(1) else step.options.get("min")
    high = float(step.constant(2)) if step.has(2) else step.options.get("max")
    return step.call(torch.clamp, step.x(0), low, high)


def _lp_normalization(step: Step) -> Any:
    order, axis = step.options.get("p", 2), step.options.get("axis", -1)
    return step.call(functional.normalize, step.x(0), p=float(order), dim=axis, eps=1e-12)


OPERATORS: Final[dict[str, Callable[[Step], Any]]] = {
    "Add": _plain(torch.add),
    "AveragePool": average_pool,
    "BatchNormalization": convert_batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": conv,
    "Div": _plain(torch.div),
    "Dropout": _same,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "Identity": _same,
    "LpNormalization": _lp_normalization,
    "MatMul": _plain(torch.matmul),
    "Max": _plain(torch.maximum),
    "MaxPool": max_pool,
    "Mul": _plain(torch.mul),
    "PRelu": convert_prelu,
    "Pad": _pad,
    "ReduceL2": _reduce(torch.linalg.vector_norm),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Resize": resize,
    "Slice": _slice,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By ONNX name."""
