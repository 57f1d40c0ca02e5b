"""What stands before and after a foreign network, as ONNX nodes.

Enters: a float32 graph and a ``Wrap``. Leaves: a graph from uint8 RGB faces (N, S, S, 3) to float32 embeddings (N, D),
any N, at opset 17 or what the graph had above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from engines.dlib.descriptor_graph import INPUT, OUTPUT
from engines.errors import ModelFileError, first_line
from engines.graphs.builder import OPSET, TINY
from engines.intake.foreign import Ports
from engines.models import ForeignInput

MIN_OPSET: Final = 11
"""Below it, operators that this module writes do not exist."""

AXES_AS_INPUT: Final = 18
"""Opset from which the reductions take their axes as an input."""

PREFIX: Final = "net."
"""Before every name of the foreign graph, so that none can be one of ours."""


@dataclass(frozen=True, slots=True)
class Wrap:
    """What goes around a network."""

    reading: ForeignInput
    """With numbers for mean and std."""
    ports: Ports
    side: int
    dimensions: int
    unit_length: bool
    mirrored: bool


def wrapped(model: onnx.ModelProto, wrap: Wrap, where: str) -> onnx.ModelProto:
    """The network between its prologue and its epilogue; ``model`` is changed.

    Raises:
        ModelFileError: its opset is too old to be raised.
    """
    model = _raised(model, where)
    if wrap.ports.batch is not None:
        _free_batch(model.graph, wrap.ports)
    model = compose.add_prefix(model, PREFIX, inplace=True)
    opset = model.opset_import[0].version
    before, after = _Nodes("before", opset), _Nodes("after", opset)
    _prologue(before, wrap, PREFIX + wrap.ports.input)
    _epilogue(after, wrap, PREFIX + wrap.ports.output)
    graph = helper.make_graph(
        [*before.nodes, *model.graph.node, *after.nodes],
        "adopted",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", wrap.side, wrap.side, 3])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", wrap.dimensions])],
        initializer=[*before.constants, *model.graph.initializer, *after.constants],
        sparse_initializer=list(model.graph.sparse_initializer),
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(
        graph,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="realtime",
    )


class _Nodes:
    """Nodes and constants with names of their own."""

    def __init__(self, name: str, opset: int) -> None:
        self._name = name
        self._opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(values, f"{self._name}.c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def real(self, value: float) -> str:
        return self.constant(np.array(value, dtype=np.float32))

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = f"{self._name}.{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output or name], name=name, **attributes))
        return output or name

    def reduce(self, operator: str, x: str, axis: int, keepdims: int) -> str:
        if self._opset >= AXES_AS_INPUT:
            return self.node(operator, x, self.ints(axis), keepdims=keepdims)
        return self.node(operator, x, axes=[axis], keepdims=keepdims)


def _prologue(nodes: _Nodes, wrap: Wrap, output: str) -> None:
    """uint8 NHWC RGB to what the network takes; with mirror images behind the images where they are wanted."""
    reading = wrap.reading
    x = nodes.node("Cast", INPUT, to=TensorProto.FLOAT)
    if wrap.mirrored:
        back = nodes.ints(-1), nodes.ints(-wrap.side - 1), nodes.ints(2), nodes.ints(-1)
        x = nodes.node("Concat", x, nodes.node("Slice", x, *back), axis=0)
    if reading.layout == "nchw":
        x = nodes.node("Transpose", x, perm=[0, 3, 1, 2])
    if reading.colour == "bgr":
        x = nodes.node("Gather", x, nodes.ints(2, 1, 0), axis=1 if reading.layout == "nchw" else 3)
    if reading.mean:
        x = nodes.node("Sub", x, nodes.real(reading.mean))
    if reading.std not in (None, 1):
        x = nodes.node("Div", x, nodes.real(reading.std or 1))
    nodes.node("Identity", x, output=output)


def _epilogue(nodes: _Nodes, wrap: Wrap, x: str) -> None:
    if wrap.mirrored:
        x = nodes.reduce("ReduceMean", nodes.node("Reshape", x, nodes.ints(2, -1, wrap.dimensions)), 0, 0)
    if wrap.unit_length:
        length = nodes.reduce("ReduceL2", x, 1, 1)
        x = nodes.node("Div", x, nodes.node("Max", length, nodes.real(TINY)))
    nodes.node("Identity", x, output=OUTPUT)


def _raised(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """At opset 17 or above; as it is where ONNX cannot convert it and it need not be."""
    imports = [one for one in model.opset_import if one.domain in ("", "ai.onnx")]
    opset = imports[0].version if imports else 1
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:], model.graph.value_info[:], model.opset_import[:]
    model.graph.input.extend(inputs)  # old files list their weights as inputs too
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = max(model.ir_version, 4)
    if opset >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except (version_converter.ConvertError, RuntimeError) as err:
        if opset >= MIN_OPSET:
            return model
        raise ModelFileError(
            f"{where}: opset {opset} is too old and cannot be raised ({first_line(err)}); export it again"
        ) from err


def _free_batch(graph: onnx.GraphProto, ports: Ports) -> None:
    """Let Reshapes of images keep any number of them where the exporter wrote the one that it saw.

    Nothing else is touched: a graph that holds its batch in another way fails its proof.
    """
    constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
    images = {ports.input}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        if not images & set(node.input):
            continue
        images |= set(node.output)
        if node.op_type == "Reshape" and node.input[1] in constants and node.input[0] in images:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            literal_zeros = any(one.name == "allowzero" and one.i for one in node.attribute)
            if len(shape) and shape[0] == ports.batch and not literal_zeros:
                shape[0] = 0  # whatever the input has there
                name = f"{node.output[0]}.any_batch"
                graph.initializer.append(numpy_helper.from_array(shape, name))
                node.input[1] = name
