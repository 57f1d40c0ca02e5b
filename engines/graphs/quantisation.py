"""A graph in int8: QuantizeLinear and DequantizeLinear pairs around its convolutions.

Enters: an fp32 graph, and the range of each activation. Leaves: a graph with int8 weights (one scale a filter) and
uint8 activations (one scale and zero point a tensor) that any runtime reads. What stands before the first convolution
and behind the last one (normalisation, the fully connected layer, the length) stays as it is: it is 1 % of the work,
and the answers are sensitive to it. Each runtime is fastest on another form of the one file, and has it made here.

Ranges go by role, not by name: the convolutions and what follows them are counted in their order (``Conv3.in``), so
that the ranges of a detector hold for the graphs of all frame sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelFileError
from engines.graphs.editing import constants

Ranges = Mapping[str, tuple[float, float]]
"""Role -> smallest and largest value seen, 0 among them."""

FOLLOWERS: Final = frozenset({"Add", "BatchNormalization", "PRelu", "Relu"})
"""ONNX Runtime computes in int8 what lies between two pairs, so the outputs of these have one too."""

OPSET: Final = 13
"""Scales of single filters came with it."""

TINY: Final = 1e-6
"""Smallest range: a dead activation must not have scale 0."""


def roles(model: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> role, of every activation that has a range, in the order of the graph.

    Raises:
        ModelFileError: the graph has no convolution with constant weights, has branches, or is quantised already.
    """
    nodes, weights = list(model.graph.node), constants(model.graph)
    if any(attribute.type == onnx.AttributeProto.GRAPH for node in nodes for attribute in node.attribute):
        raise ModelFileError("the graph has branches or loops, which int8 cannot be made of; export it without")
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in nodes):
        raise ModelFileError("the graph is quantised already; give the fp32 model")
    convolutions = [index for index, node in enumerate(nodes) if _quantisable(node, weights)]
    if not convolutions:
        raise ModelFileError("the graph has no convolution with constant weights; int8 would not make it faster")
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for index in range(convolutions[0], convolutions[-1] + 1):
        node = nodes[index]
        role = f"{node.op_type}{counts[node.op_type]}"
        counts[node.op_type] += 1
        if node.op_type == "Conv":
            found.setdefault(node.input[0], f"{role}.in")
        if node.op_type == "Conv" or node.op_type in FOLLOWERS:
            found[node.output[0]] = f"{role}.out"
    return found


def quantise_graph(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """The graph with int8 convolutions, as ONNX Runtime runs it fastest.

    A convolution whose input has no range stays as it is; so does any other activation without one.

    Raises:
        ModelFileError: no convolution, no range that fits, an opset before 13, or quantised already.
    """
    if max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0) < OPSET:
        raise ModelFileError(f"int8 needs ONNX opset {OPSET} or newer; export the model again with it")
    wanted = {tensor: ranges[role] for tensor, role in roles(model).items() if role in ranges}
    weights = constants(model.graph)
    convolutions = {
        index: node.input[1]
        for index, node in enumerate(model.graph.node)
        if _quantisable(node, weights) and node.input[0] in wanted
    }
    if not convolutions:
        raise ModelFileError("the ranges are of another network; calibrate this one with `python -m engines quantise`")
    writer = _PairWriter(model)
    for tensor, bounds in wanted.items():
        writer.activation(tensor, *bounds)
    for tensor in dict.fromkeys(convolutions.values()):
        writer.weight(tensor, numpy_helper.to_array(weights[tensor]))
    return writer.finish(activations=set(wanted), convolutions=set(convolutions))


def only_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A quantised graph with pairs in front of convolutions only, as OpenVINO runs it fastest and most exactly."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    quantised = {n.output[0]: n.input[0] for n in copy.graph.node if n.op_type == "QuantizeLinear"}
    whole = {
        n.output[0]: quantised[n.input[0]]
        for n in copy.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in quantised
    }
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            if not (node.op_type == "Conv" and index == 0):
                node.input[index] = whole.get(name, name)
    _prune(copy)
    return copy


def symmetric(model: onnx.ModelProto) -> onnx.ModelProto:
    """``only_convolutions`` with int8 activations around zero, the only ones that TensorRT takes.

    What a ReLU leaves has no negative half, so it is resolved half as finely.
    """
    copy = only_convolutions(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
            reach = float(scale) * max(int(zero), 255 - int(zero))
            _set(tensors[node.input[1]], np.array(reach / 127, dtype=np.float32))
            _set(tensors[node.input[2]], np.array(0, dtype=np.int8))
    return copy


def _quantisable(node: onnx.NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    return (
        node.op_type == "Conv"
        and node.input[1] in weights
        and weights[node.input[1]].data_type == TensorProto.FLOAT
        and node.input[0] not in weights
    )


class _PairWriter:
    """Collects the pairs of a graph's tensors, then writes the graph with them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._constants: list[TensorProto] = []
        self._pairs: dict[str, list[onnx.NodeProto]] = {}

    def activation(self, tensor: str, low: float, high: float) -> None:
        """uint8 with a zero point: all 256 steps lie where the values do."""
        low, high = min(low, 0.0), max(high, 0.0, min(low, 0.0) + TINY)
        scale = np.float32((high - low) / 255)
        zero = np.uint8(np.clip(round(-low / float(scale)), 0, 255))
        names = self._kept(tensor, np.array(scale), np.array(zero))
        self._pairs[tensor] = [
            helper.make_node("QuantizeLinear", [tensor, *names], [f"{tensor}/q"], name=f"{tensor}/quantise"),
            helper.make_node("DequantizeLinear", [f"{tensor}/q", *names], [_whole(tensor)], name=f"{tensor}/whole"),
        ]

    def weight(self, tensor: str, weights_OIKK: NDArray[np.float32]) -> None:
        """int8 around zero, one scale a filter."""
        flat_OX = np.abs(weights_OIKK.reshape(len(weights_OIKK), -1))
        scales_O = (np.maximum(flat_OX.max(axis=1), TINY) / 127).astype(np.float32)
        each_O111 = scales_O.reshape(-1, *(1,) * (weights_OIKK.ndim - 1))
        steps_OIKK = np.clip(np.rint(weights_OIKK / each_O111), -127, 127).astype(np.int8)
        names = self._kept(tensor, scales_O, np.zeros(len(scales_O), dtype=np.int8))
        self._constants.append(numpy_helper.from_array(steps_OIKK, f"{tensor}/q"))
        whole = helper.make_node(
            "DequantizeLinear", [f"{tensor}/q", *names], [_whole(tensor)], name=f"{tensor}/whole", axis=0
        )
        self._pairs[tensor] = [whole]

    def finish(self, *, activations: set[str], convolutions: set[int]) -> onnx.ModelProto:
        """Every reader of ``activations`` reads what went through a pair; so do ``convolutions`` (indices) their
        weights."""
        graph = self._model.graph
        nodes: list[onnx.NodeProto] = []
        written: set[str] = set()
        for place, node in enumerate(graph.node):
            for index, name in enumerate(node.input):
                if name in activations or (index == 1 and place in convolutions):
                    if name not in written:
                        nodes.extend(self._pairs[name])
                        written.add(name)
                    node.input[index] = _whole(name)
            nodes.append(node)
        _replace(graph.node, nodes)
        graph.initializer.extend(self._constants)
        del graph.value_info[:]
        _prune(self._model)
        onnx.checker.check_model(self._model)
        return self._model

    def _kept(self, tensor: str, scale: NDArray[np.float32], zero: NDArray[np.generic]) -> tuple[str, str]:
        names = (f"{tensor}/scale", f"{tensor}/zero")
        self._constants += [numpy_helper.from_array(values, n) for values, n in zip((scale, zero), names, strict=True)]
        return names


def _whole(tensor: str) -> str:
    return f"{tensor}/dq"


def _set(tensor: TensorProto, values: NDArray[np.generic]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _prune(model: onnx.ModelProto) -> None:
    """Leave out pairs and constants that no output depends on."""
    graph = model.graph
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    _replace(graph.node, kept[::-1])
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in wanted])
    _replace(graph.input, [value for value in graph.input if value.name in wanted])


def _replace(field: Any, messages: list[Any]) -> None:
    """Exchange what a repeated field holds."""
    copies = []
    for message in messages:
        copies.append(type(message)())
        copies[-1].CopyFrom(message)
    del field[:]
    field.extend(copies)
