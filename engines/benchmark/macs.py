"""Multiplications of one face, counted in the graph.

Enters: an ONNX model. Leaves: multiply-accumulates of its convolutions and matrix products, which are all but a
thousandth of the work of these networks, and the values that each of them reads and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or matrix product, for a batch of one."""

    weights: Shape
    output: Shape
    macs: int
    values: int
    """Of its input and output."""


def count_macs(model: Any) -> int | None:
    """Multiply-accumulates for a batch of one; a mirrored model computes two images for it, and both count.

    Args:
        model: an ``onnx.ModelProto`` whose first input axis is the batch; it is left as it is.

    Returns:
        None where the graph does not tell the size of a convolution's or product's result.
    """
    found = layers(model)
    return None if found is None else sum(layer.macs for layer in found)


def layers(model: Any) -> list[Layer] | None:
    """Every convolution and product in the order of the graph; None as ``count_macs``."""
    shapes, found = _shapes(model), []
    for node in model.graph.node:
        if (count := COUNTERS.get(node.op_type)) is not None:
            x, weights, y = (shapes.get(name) for name in (*node.input[:2], node.output[0]))
            if x is None or weights is None or y is None:
                return None
            found.append(Layer(weights, y, count(node, x, weights, y), prod(x) + prod(y)))
    return found


def _conv(node: Any, x: Shape, weights: Shape, y: Shape) -> int:
    """``weights`` are (out, in / groups, *window): one result takes all but the first axis."""
    return prod(y) * prod(weights[1:])


def _product(node: Any, x: Shape, weights: Shape, y: Shape) -> int:
    return prod(y) * x[-1]


def _gemm(node: Any, x: Shape, weights: Shape, y: Shape) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(y) * x[0 if transposed else -1]


COUNTERS: Final[Mapping[str, Callable[..., int]]] = {"Conv": _conv, "MatMul": _product, "Gemm": _gemm}


def _shapes(model: Any) -> dict[str, Shape]:
    """Of every tensor whose size is known when the batch is one."""
    from onnx import ModelProto, shape_inference

    light = ModelProto()
    light.CopyFrom(model)
    constants = {tensor.name: tuple(tensor.dims) for tensor in light.graph.initializer}
    for value in light.graph.input:
        if value.name not in constants and not value.type.tensor_type.shape.dim[0].dim_value:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    del light.graph.value_info[:]
    inferred = shape_inference.infer_shapes(light, data_prop=True).graph
    shapes = dict(constants)
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        sizes = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if sizes and all(sizes):
            shapes[value.name] = sizes
    return shapes
