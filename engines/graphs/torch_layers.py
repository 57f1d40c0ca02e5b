"""Convolutions, pooling, norms and fully connected layers of ONNX in torch.

Enters: one ONNX node with its inputs. Leaves: calls of torch functions. ``torch_ops`` has the table of all operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional

# C channels


class Unsupported(Exception):  # noqa: N818 - caught where the file's name is known
    """An operator, or a form of one, that has no line here; the message says which."""


class Step(Protocol):
    """One ONNX node while the graph is built."""

    @property
    def options(self) -> dict[str, Any]:
        """The node's attributes."""

    def has(self, index: int) -> bool:
        """Whether the input is given."""

    def x(self, index: int) -> Any:
        """An input, floats in the precision of this part of the graph."""

    def constant(self, index: int) -> torch.Tensor:
        """An input that must be constant, as it is in the file. Raises Unsupported: it is computed."""

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Record a call."""

    def number(self) -> torch.dtype:
        """The float type of this part of the graph."""


def refuse(step: Step, **allowed: Any) -> None:
    """Raises Unsupported: an attribute has another value than the one known here."""
    for name, value in allowed.items():
        got = step.options.get(name, value)
        if (tuple(got) if isinstance(got, list) else got) != value:
            raise Unsupported(f"{name}={got}")


def conv(step: Step) -> Any:
    kernel = step.constant(1).shape[2:]
    if len(kernel) != 2 or step.options.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Unsupported("Conv that is not of two axes with pads in numbers")
    x, pads = _padded(step, 0.0)
    options = {"stride": step.options.get("strides", 1), "dilation": step.options.get("dilations", 1)}
    bias = step.x(2) if step.has(2) else None
    return step.call(
        functional.conv2d, x, step.x(1), bias, padding=pads, groups=step.options.get("group", 1), **options
    )


def _padded(step: Step, value: float) -> tuple[Any, tuple[int, int]]:
    """The input, and the padding that both ends of its rows and columns still need."""
    top, left, bottom, right = step.options.get("pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right):
        return step.x(0), (top, left)
    return step.call(functional.pad, step.x(0), (left, right, top, bottom), value=value), (0, 0)


def max_pool(step: Step) -> Any:
    refuse(step, dilations=(1, 1), auto_pad="NOTSET")
    x, pads = _padded(step, -torch.inf)
    return step.call(functional.max_pool2d, x, padding=pads, **_window(step))


def average_pool(step: Step) -> Any:
    refuse(step, dilations=(1, 1), auto_pad="NOTSET")
    top, left, bottom, right = step.options.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise Unsupported("AveragePool with uneven pads")
    counted = bool(step.options.get("count_include_pad", 0))
    return step.call(functional.avg_pool2d, step.x(0), padding=(top, left), count_include_pad=counted, **_window(step))


def _window(step: Step) -> dict[str, Any]:
    kernel = step.options["kernel_shape"]
    if len(kernel) != 2:
        raise Unsupported("pooling that is not of two axes")
    strides = step.options.get("strides", (1, 1))
    return {"kernel_size": kernel, "stride": strides, "ceil_mode": bool(step.options.get("ceil_mode", 0))}


def global_average_pool(step: Step) -> Any:
    return step.call(torch.mean, step.x(0), dim=(2, 3), keepdim=True)


def prelu(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """``slope`` broadcasts to ``x`` as in ONNX."""
    return torch.where(x >= 0, x, x * slope)


def convert_prelu(step: Step) -> Any:
    """One slope for each channel, as (C, 1, 1) or (1, C, 1, 1), is torch's own."""
    slope = step.constant(1)
    if slope.dim() < 3 or slope.shape[-3] != slope.numel():
        return step.call(prelu, step.x(0), step.x(1))
    return step.call(functional.prelu, step.x(0), slope.reshape(-1).to(step.number()))


def batch_norm(x: torch.Tensor, scale_C: torch.Tensor, shift_C: torch.Tensor) -> torch.Tensor:
    """x (N, C, ...) * scale + shift."""
    shape = (-1,) + (1,) * (x.dim() - 2)
    return x * scale_C.view(shape) + shift_C.view(shape)


def convert_batch_norm(step: Step) -> Any:
    gamma, beta, mean, variance = (step.constant(index).double() for index in range(1, 5))
    scale_C = gamma / torch.sqrt(variance + step.options.get("epsilon", 1e-5))
    shift_C = beta - mean * scale_C
    return step.call(batch_norm, step.x(0), scale_C.to(step.number()), shift_C.to(step.number()))


def gemm(step: Step) -> Any:
    refuse(step, transA=0)
    weights = step.constant(1).to(step.number()) * step.options.get("alpha", 1.0)
    if not step.options.get("transB"):
        weights = weights.t().contiguous()
    if not step.has(2):
        return step.call(functional.linear, step.x(0), weights)
    bias = step.constant(2).to(step.number()) * step.options.get("beta", 1.0)
    if bias.numel() == len(weights) and bias.shape[-1] == len(weights):
        return step.call(functional.linear, step.x(0), weights, bias.reshape(-1))
    return step.call(torch.add, step.call(functional.linear, step.x(0), weights), bias)


def resize(step: Step) -> Any:
    transformation = step.options.get("coordinate_transformation_mode", "half_pixel")
    if step.options.get("mode", "nearest") != "linear" or transformation not in ("align_corners", "half_pixel"):
        raise Unsupported(f"Resize in mode {step.options.get('mode', 'nearest')}, {transformation}")
    if not step.has(3):
        raise Unsupported("Resize by scales instead of sizes")
    size = tuple(step.constant(3).tolist()[2:])
    corners = transformation == "align_corners"
    return step.call(functional.interpolate, step.x(0), size=size, mode="bilinear", align_corners=corners)
