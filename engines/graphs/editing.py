"""An ONNX graph that can be changed: who makes a tensor, who reads it, what is constant, and how large it is.

Enters: a model. Leaves: the model with its nodes and constants exchanged for those that the edits left.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

from engines.errors import ModelFileError

Shape = tuple[int | None, ...]
"""None for an axis that is free."""


_SMALL: Final = 64
"""A constant of at most so many elements may be a shape, axes or pads."""


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """By name, as Python values (text as str)."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initialisers and the tensors of Constant nodes."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Of every tensor whose rank follows from the input's."""
    try:
        graph = shape_inference.infer_shapes(_without_weights(model)).graph
    except (shape_inference.InferenceError, ValueError):  # a graph without shapes is folded where none are needed
        graph = model.graph
    found: dict[str, Shape] = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    return found


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large constants as inputs: inference would copy them all, and needs their shapes alone."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, known = model.graph, {value.name for value in model.graph.input}
    light.graph.name = graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(light.graph, field).extend(getattr(graph, field))
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            light.graph.initializer.append(tensor)
        elif tensor.name not in known:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


class EditableGraph:
    """Nodes in order. Edits keep every tensor made before it is read."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model: Final = model
        self._nodes = [_copied(node) for node in model.graph.node]
        self._outputs = {value.name for value in model.graph.output}
        self._shapes = shapes(model)
        self._constants = {name: _copied(tensor) for name, tensor in constants(model.graph).items()}
        self._new: dict[str, NDArray[np.float32]] = {}
        self._makers = {name: node for node in self._nodes for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self._nodes:
            for name in node.input:
                self._readers[name].append(node)

    def of(self, operator: str) -> list[onnx.NodeProto]:
        return [node for node in self._nodes if node.op_type == operator]

    def maker(self, name: str) -> onnx.NodeProto | None:
        return self._makers.get(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """One entry for every input that is ``name``; the graph's own outputs are not among them."""
        return list(self._readers[name])

    def is_output(self, name: str) -> bool:
        return name in self._outputs

    def shape(self, name: str) -> Shape | None:
        return self._shapes.get(name)

    def constant(self, name: str) -> NDArray[Any] | None:
        """The values of a constant; None for what is computed."""
        if name in self._new:
            return self._new[name]
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def add_constant(self, values: NDArray[Any], beside: str) -> str:
        """Keep values as float32 under a new name.

        Raises:
            ModelFileError: they overflow float32, or are no numbers.
        """
        with np.errstate(over="ignore"):
            kept = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(kept).all():
            raise ModelFileError(f"{beside}: its weights overflow float32 once folded; train or export the model again")
        name = f"{beside}/folded{len(self._new)}"
        self._new[name] = kept
        return name

    def reread(self, node: onnx.NodeProto, index: int, name: str) -> None:
        """Make ``name`` the input at ``index``, which may be the one after the last."""
        if index == len(node.input):
            node.input.append(name)
        else:
            self._forget(node, node.input[index])
            node.input[index] = name
        self._readers[name].append(node)

    def drop_inputs(self, node: onnx.NodeProto, first: int) -> None:
        """Those from index ``first`` on."""
        for name in node.input[first:]:
            self._forget(node, name)
        del node.input[first:]

    def rename_output(self, node: onnx.NodeProto, name: str) -> None:
        del self._makers[node.output[0]]
        node.output[0] = name
        self._makers[name] = node

    def insert_after(self, node: onnx.NodeProto, new: onnx.NodeProto) -> None:
        self._nodes.insert(self._index(node) + 1, new)
        self._makers[new.output[0]] = new
        for name in new.input:
            self._readers[name].append(new)

    def remove(self, node: onnx.NodeProto) -> None:
        del self._nodes[self._index(node)]
        for name in node.input:
            self._forget(node, name)
        for name in node.output:
            if self._makers.get(name) is node:
                del self._makers[name]

    def write(self) -> None:
        """Bring the edits into the model, and leave out the constants that nothing reads any more."""
        graph = self._model.graph
        read = {name for node in self._nodes for name in node.input} | self._outputs
        nodes = [node for node in self._nodes if node.op_type != "Constant" or node.output[0] in read]
        old = dict.fromkeys(tensor.name for tensor in graph.initializer)  # in their order: equal bytes every time
        tensors = [self._constants[name] for name in old if name in read]
        tensors += [numpy_helper.from_array(values, name) for name, values in self._new.items() if name in read]
        inputs = [_copied(value) for value in graph.input if value.name in read or value.name not in old]
        for field, values in (("node", nodes), ("initializer", tensors), ("input", inputs)):
            graph.ClearField(field)
            getattr(graph, field).extend(values)
        del graph.value_info[:]

    def _forget(self, reader: onnx.NodeProto, name: str) -> None:
        readers = self._readers[name]
        del readers[next(index for index, node in enumerate(readers) if node is reader)]

    def _index(self, node: onnx.NodeProto) -> int:
        return next(index for index, other in enumerate(self._nodes) if other is node)


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
