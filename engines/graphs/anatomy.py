"""Where an embedding network begins and ends inside its ONNX graph.

Enters: an ``onnx.ModelProto`` from uint8 faces to embeddings. Leaves: its parts (what prepares the picture, the body
that computes, what finishes the embedding), and the same network with its input turned into floats first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelFileError, first_line
from engines.graphs.editing import attributes

MATRIX: Final = frozenset({"Gemm", "MatMul"})

_MOVES: Final = frozenset(
    {"Transpose", "Slice", "Concat", "Gather", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
)
"""What only moves values: it gives the same on floats as on bytes."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Node numbers of a graph, in its own order."""

    stem: frozenset[int]
    """Before the first convolution: channel order, mirror image, normalisation."""
    body: frozenset[int]
    head: frozenset[int]
    """The last matrix product, which makes the embedding, and everything after it; empty in a detector."""


def anatomy(graph: onnx.GraphProto) -> Anatomy:
    """Split the nodes; all are stem in a graph without convolutions."""
    from_convolution = _descendants(graph, [i for i, node in enumerate(graph.node) if node.op_type == "Conv"])
    products = [i for i in sorted(from_convolution) if graph.node[i].op_type in MATRIX]
    head = _descendants(graph, products[-1:])
    stem = frozenset(range(len(graph.node))) - from_convolution
    return Anatomy(stem, from_convolution - head, head)


def float_input(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose first node casts the faces to float32; the one that did so later is gone.

    TensorRT allows nothing else on a uint8 input. A graph that computes with bytes, or that has the cast in its place,
    is copied as it is.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.ir_version = max(model.ir_version, 4)
    graph = changed.graph
    faces = next((value for value in _inputs(graph) if value.type.tensor_type.elem_type == TensorProto.UINT8), None)
    if faces is None:
        return changed
    moved, casts = {faces.name}, []
    for node in graph.node:
        if not moved.intersection(node.input):
            continue
        if node.op_type == "Cast" and _target(node) == TensorProto.FLOAT:
            casts.append(node)
        elif node.op_type in _MOVES and (node.op_type != "Concat" or moved.issuperset(node.input)):
            moved.update(node.output)
        else:
            return changed
    if any(value.name in moved for value in graph.output) or [node.input[0] for node in casts] == [faces.name]:
        return changed
    first = unused_name(graph, f"{faces.name}_float")
    rename_inputs(graph.node, {faces.name: first})
    for node in casts:
        node.op_type = "Identity"
        del node.attribute[:]
    nodes = [helper.make_node("Cast", [faces.name], [first], name=first, to=TensorProto.FLOAT), *graph.node]
    replace_nodes(graph, nodes)
    del graph.value_info[:]
    return changed


def split(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto, onnx.ModelProto]:
    """Three models in a row: pictures to normalised floats, those to raw embeddings, those to the embeddings promised.

    The body begins at the convolutions and ends with the last matrix product, so its batch may be any, mirrored or not.

    Raises:
        ModelFileError: more than one tensor passes from a part to the next, or there is no such body.
    """
    whole = with_shapes(model)
    parts = anatomy(whole.graph)
    if not parts.head:
        raise ModelFileError("the graph has no convolutions that end in a matrix product; use another runtime")
    last = min(parts.head)
    if parts.head == {last}:
        _append_identity(whole.graph)
        parts = anatomy(whole.graph)
    cuts = [parts.stem, parts.body | {last}, parts.head - {last}]
    models = [_part(whole, numbers, f"part{index}") for index, numbers in enumerate(cuts)]
    return models[0], models[1], models[2]


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every tensor has its element type and what is known of its shape.

    Raises:
        ModelFileError: types or shapes contradict each other.
    """
    try:
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as err:
        raise ModelFileError(f"the graph contradicts itself ({first_line(err)}); export the model again") from err
    return inferred


def element_types(graph: onnx.GraphProto) -> dict[str, int]:
    """``TensorProto`` element type by tensor, as far as the graph tells."""
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def unused_name(graph: onnx.GraphProto, wanted: str) -> str:
    """``wanted``, with underscores after it until no tensor and no node is called so."""
    taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    while wanted in taken:
        wanted += "_"
    return wanted


def rename_inputs(nodes: Iterable[onnx.NodeProto], names: dict[str, str]) -> None:
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Also drops the constants that nothing uses any more, and no constant is called an input, as old files have it."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    used = {name for node in copies for name in node.input} | {value.name for value in graph.output}
    unused = [index for index, tensor in enumerate(graph.initializer) if tensor.name not in used]
    inputs = list(_inputs(graph))
    for index in reversed(unused):
        del graph.initializer[index]
    del graph.input[:]
    graph.input.extend(inputs)


def constants_as_initialisers(graph: onnx.GraphProto) -> None:
    """Tensors of ``Constant`` nodes join the others."""
    nodes = []
    for node in graph.node:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if node.op_type != "Constant" or value is None:
            nodes.append(node)
            continue
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(value), node.output[0]))
    replace_nodes(graph, nodes)


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def _target(node: onnx.NodeProto) -> int:
    return int(attributes(node).get("to", TensorProto.UNDEFINED))


def _descendants(graph: onnx.GraphProto, numbers: list[int]) -> frozenset[int]:
    """The nodes and all that depend on them; a graph's nodes are in order."""
    found, tensors = set(numbers), {name for number in numbers for name in graph.node[number].output}
    for number, node in enumerate(graph.node):
        if tensors.intersection(node.input):
            found.add(number)
            tensors.update(node.output)
    return frozenset(found)


def _append_identity(graph: onnx.GraphProto) -> None:
    """So that something comes after the last node."""
    output = graph.output[0]
    inner = onnx.ValueInfoProto()
    inner.CopyFrom(output)
    inner.name = unused_name(graph, f"{output.name}_inner")
    for node in graph.node:
        node.output[:] = [inner.name if name == output.name else name for name in node.output]
    rename_inputs(graph.node, {output.name: inner.name})
    graph.value_info.append(inner)
    graph.node.append(helper.make_node("Identity", [inner.name], [output.name], name=inner.name))


def _part(whole: onnx.ModelProto, numbers: frozenset[int], name: str) -> onnx.ModelProto:
    graph = whole.graph
    nodes = [graph.node[number] for number in sorted(numbers)]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {output for node in nodes for output in node.output}
    outside = {each for number, node in enumerate(graph.node) if number not in numbers for each in node.input}
    outside |= {value.name for value in graph.output}
    needed = list(dict.fromkeys(each for node in nodes for each in node.input if each and each not in made))
    entering = [each for each in needed if each not in constants]
    leaving = [each for each in dict.fromkeys(output for node in nodes for output in node.output) if each in outside]
    if len(entering) != 1 or len(leaving) != 1:
        raise ModelFileError(
            f"the graph does not come apart: {len(entering)} tensors enter and {len(leaving)} leave its {name}; "
            "use another runtime"
        )
    values = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}
    part = helper.make_graph(
        nodes,
        name,
        [values[entering[0]]],
        [values[leaving[0]]],
        initializer=[constants[each] for each in needed if each in constants],
    )
    return helper.make_model(part, opset_imports=whole.opset_import, ir_version=max(whole.ir_version, 4))
