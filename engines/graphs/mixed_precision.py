"""A network with its body in float16 and what needs more in float32.

Enters: a float32 ``onnx.ModelProto``. Leaves: one with the same uint8 input and float32 output whose convolutions and
what lies between them compute in float16. Normalisation of the picture, the last matrix product and all after it (batch
normalisation, length) stay in float32, as training in mixed precision has them; so does a node whose constants are
beyond float16. TensorRT takes each node's precision from such a graph.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from engines.errors import ModelFileError
from engines.graphs.anatomy import (
    MATRIX,
    anatomy,
    constants_as_initialisers,
    element_types,
    float_input,
    rename_inputs,
    replace_nodes,
    unused_name,
    with_shapes,
)
from engines.graphs.editing import attributes

LARGEST: Final = float(np.finfo(np.float16).max)
"""65504: what is beyond it is infinite in float16."""

_COMPUTES: Final = frozenset({"Conv", "ConvTranspose"}) | MATRIX
"""Worth a cast of their inputs."""

_FOLLOWS: Final = frozenset(
    {"PRelu", "Relu", "LeakyRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip"}
    | {"Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Pad", "Concat"}
    | {"Slice", "Split", "Transpose", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
)
"""In float16 where what they take already is. Sums of squares, exponentials and roots are not among them."""


def to_mixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network in mixed precision; the model given is left alone.

    Raises:
        ModelFileError: the graph contradicts itself, or has control flow.
    """
    mixed = float_input(model)
    _refuse_control_flow(mixed.graph)
    constants_as_initialisers(mixed.graph)
    _split_normalisations(mixed)
    types = element_types(with_shapes(mixed).graph)
    replace_nodes(mixed.graph, _Halves(mixed.graph, types).nodes())
    del mixed.graph.value_info[:]
    try:
        onnx.checker.check_model(mixed, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as err:
        raise ModelFileError(f"the graph has no mixed-precision form ({str(err).strip()[:200]}); use fp32") from err
    return mixed


class _Halves:
    """Rewrites one graph node by node, with a cast wherever the precision changes."""

    def __init__(self, graph: onnx.GraphProto, types: dict[str, int]) -> None:
        self._graph = graph
        self._types = types
        self._body = anatomy(graph).body
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._half: set[str] = set()
        self._cast: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def nodes(self) -> list[onnx.NodeProto]:
        """All nodes in order; new constants are in the graph."""
        for number, node in enumerate(self._graph.node):
            half = self._goes_half(number, node)
            names = {name: self._as_half(name) if half else self._as_single(name) for name in node.input if name}
            rename_inputs([node], names)
            self._nodes.append(node)
            if half:
                self._half.update(name for name in node.output if self._is_float(name))
        for value in self._graph.output:
            if value.name in self._half:
                self._leave_single(value.name)
        return self._nodes

    def _goes_half(self, number: int, node: onnx.NodeProto) -> bool:
        if number not in self._body:
            return False
        follows = node.op_type in _FOLLOWS and any(name in self._half for name in node.input)
        return (node.op_type in _COMPUTES or follows) and all(map(self._fits, node.input))

    def _fits(self, name: str) -> bool:
        if name not in self._constants or not self._is_float(name):
            return True
        values = numpy_helper.to_array(self._constants[name])
        return not values.size or bool(np.abs(values).max() <= LARGEST)

    def _is_float(self, name: str) -> bool:
        return self._types.get(name) == TensorProto.FLOAT

    def _as_half(self, name: str) -> str:
        if not self._is_float(name) or name in self._half:
            return name
        if name not in self._cast:
            self._cast[name] = unused_name(self._graph, f"{name}_fp16")
            if name in self._constants:
                self._graph.initializer.append(_halved(self._constants[name], self._cast[name]))
            else:
                self._add_cast(name, self._cast[name], TensorProto.FLOAT16, self._cast[name])
        return self._cast[name]

    def _as_single(self, name: str) -> str:
        if name not in self._half:
            return name
        if name not in self._cast:
            self._cast[name] = unused_name(self._graph, f"{name}_fp32")
            self._add_cast(name, self._cast[name], TensorProto.FLOAT, self._cast[name])
        return self._cast[name]

    def _leave_single(self, output: str) -> None:
        """A graph's own output keeps its name and its type."""
        inner = unused_name(self._graph, f"{output}_fp16")
        for node in self._nodes:
            node.output[:] = [inner if name == output else name for name in node.output]
        rename_inputs(self._nodes, {output: inner})
        self._add_cast(inner, output, TensorProto.FLOAT, inner)

    def _add_cast(self, source: str, target: str, kind: int, name: str) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], name=name, to=kind))


def _halved(tensor: TensorProto, name: str) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name)


def _refuse_control_flow(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if any(each.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for each in node.attribute):
            raise ModelFileError(
                f"the graph has control flow (node {node.name or node.op_type!r}), which has no mixed-precision form; "
                "export the model without it, or use fp32"
            )


def _split_normalisations(model: onnx.ModelProto) -> None:
    """Each batch normalisation of the body becomes a product and a sum with constants computed in float64.

    In float16 as it stands, a small variance would be lost before its root is taken.
    """
    graph = model.graph
    shapes = {value.name: value.type.tensor_type.shape for value in with_shapes(model).graph.value_info}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    body = anatomy(graph).body
    nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(graph.node):
        rank = len(shapes[node.input[0]].dim) if node.input and node.input[0] in shapes else 0
        known = all(name in constants for name in node.input[1:])
        if number not in body or node.op_type != "BatchNormalization" or not known or rank < 2:
            nodes.append(node)
            continue
        names = [unused_name(graph, f"{node.output[0]}_{part}") for part in ("scale", "shift", "scaled")]
        for name, values in zip(names, _scale_and_shift(node, constants), strict=False):
            shaped = values.reshape(1, -1, *[1] * (rank - 2)).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(shaped, name))
        nodes.append(helper.make_node("Mul", [node.input[0], names[0]], [names[2]], name=names[2]))
        nodes.append(helper.make_node("Add", [names[2], names[1]], [node.output[0]], name=node.name))
    replace_nodes(graph, nodes)
    del graph.value_info[:]


def _scale_and_shift(
    node: onnx.NodeProto, constants: dict[str, TensorProto]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    gamma, beta, mean, variance = (
        numpy_helper.to_array(constants[name]).astype(np.float64) for name in node.input[1:5]
    )
    scale = gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    return scale, beta - mean * scale
