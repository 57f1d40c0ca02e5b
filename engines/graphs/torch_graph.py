"""An ONNX graph as a torch module.

Enters: an ONNX model, normalisation inside. Leaves: a ``torch.fx.GraphModule`` from uint8 NHWC to float32. Three parts:
what comes before the first convolution (normalisation) and what comes from the last fully connected layer on (its
sums, the length of an embedding) compute in float32, as the networks were trained; the body between computes in the
precision asked for, channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx

from engines.errors import ModelFileError, first_line
from engines.graphs.editing import attributes, constants
from engines.graphs.torch_layers import Unsupported
from engines.graphs.torch_ops import OPERATORS

Value = fx.Node | torch.Tensor
"""While the graph is built: recorded, or constant."""

_STARTS_TAIL: Final = frozenset({"Gemm", "MatMul", "ReduceL2", "ReduceMean", "ReduceSum", "LpNormalization"})
"""From the first of these that no convolution follows, all is float32."""


def to_torch(model: onnx.ModelProto, *, dtype: torch.dtype, where: str = "the model") -> fx.GraphModule:
    """The model as a module on the CPU, without gradients.

    Args:
        model: one uint8 input (N, H, W, 3), one float output.
        dtype: of the body's weights and activations: float32, bfloat16 or float16.
        where: names the model in messages.

    Returns:
        forward(uint8 NHWC tensor, any batch that the graph allows) -> float32 tensor.

    Raises:
        ModelFileError: an operator, or a form of one, that is not known here; the message names operator and node.
    """
    node = onnx.NodeProto()
    try:
        builder = _Builder(model, dtype)
        for node in model.graph.node:
            if node.op_type != "Constant":
                builder.convert(node)
        return builder.finish(model.graph.output[0].name)
    except Unsupported as err:
        raise ModelFileError(f"{_refusal(where, node)}: no {err} in torch here; use another runtime") from err
    except (LookupError, RuntimeError, TypeError, ValueError) as err:  # whatever a malformed graph leads to
        raise ModelFileError(f"{_refusal(where, node)}: {first_line(err)}; export the model again") from err


def image_shape(model: onnx.ModelProto, where: str) -> tuple[int | None, tuple[int, ...]]:
    """Batch (None where it is free) and (H, W, 3) of the model's one uint8 input.

    Raises:
        ModelFileError: the input is of another form.
    """
    initialisers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initialisers]
    dims = [dim.dim_value or None for dim in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    shape = tuple(size for size in dims[1:] if size is not None)
    if len(dims) != 4 or len(shape) != 3 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        raise ModelFileError(f"{where}: torch needs one uint8 input of fixed height and width; export the model again")
    return dims[0], shape


def _refusal(where: str, node: onnx.NodeProto) -> str:
    name = node.name or (node.output[0] if node.output else "")
    return f"{where}: torch cannot load it ({node.op_type} {name!r})"


def body_nodes(graph: onnx.GraphProto) -> set[str]:
    """First outputs of the nodes that compute in low precision: convolutions, what follows one, and is no tail."""
    body: set[str] = set()
    for node in graph.node:
        if node.op_type == "Conv" or any(name in body for name in node.input):
            body.update(node.output)
    feeds_conv: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "Conv" or any(name in feeds_conv for name in node.output):
            feeds_conv.update(node.input)
    tail: set[str] = set()
    for node in graph.node:
        starts = node.op_type in _STARTS_TAIL and not any(name in feeds_conv for name in node.output)
        if starts or any(name in tail for name in node.input):
            tail.update(node.output)
    return {node.output[0] for node in graph.node if node.output[0] in body - tail}


def to_body(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Floats in ``dtype``, images channels last; other tensors as they are."""
    if not x.is_floating_point():
        return x
    layout = torch.channels_last if x.dim() == 4 else torch.preserve_format
    return x.to(dtype, memory_format=layout)


def to_float32(x: torch.Tensor) -> torch.Tensor:
    """Floats in float32; other tensors as they are."""
    return x.float() if x.is_floating_point() else x


class _Builder:
    """Values by ONNX name: recorded nodes, or constants as they are in the file."""

    def __init__(self, model: onnx.ModelProto, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._graph = fx.Graph()
        self._module = torch.nn.Module()
        self._body = body_nodes(model.graph)
        self._values: dict[str, Value] = {name: _tensor(proto) for name, proto in constants(model.graph).items()}
        self._in_body: dict[fx.Node, bool] = {}
        self._moved: dict[tuple[fx.Node, bool], fx.Node] = {}
        inputs = [value.name for value in model.graph.input if value.name not in self._values]
        self._values[inputs[0]] = self._placed(self._graph.placeholder("images"), in_body=False)

    def convert(self, node: onnx.NodeProto) -> None:
        """Record one ONNX node. Raises Unsupported."""
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            raise Unsupported(" ".join(filter(None, (node.domain, node.op_type))))
        step = _Step(self, node, in_body=node.output[0] in self._body)
        self._values[node.output[0]] = OPERATORS[node.op_type](step)

    def finish(self, output: str) -> fx.GraphModule:
        self._graph.output(self.read(self._values[output], in_body=False))
        return fx.GraphModule(self._module, self._graph).eval().requires_grad_(False)

    def number(self, *, in_body: bool) -> torch.dtype:
        return self._dtype if in_body else torch.float32

    def value(self, name: str) -> Value:
        if name not in self._values:
            raise Unsupported(f"the tensor {name!r}, which nothing here makes")
        return self._values[name]

    def read(self, value: Value, *, in_body: bool) -> fx.Node:
        """A value for a call in one part of the graph: constants become buffers, floats get that part's precision."""
        if isinstance(value, torch.Tensor):
            name = f"c{sum(1 for _ in self._module.buffers())}"
            self._module.register_buffer(name, to_body(value, self._dtype) if in_body else to_float32(value))
            return self._placed(self._graph.get_attr(name), in_body=in_body)
        if self._in_body[value] == in_body:
            return value
        if (value, in_body) not in self._moved:
            moved = self._graph.call_function(*((to_body, (value, self._dtype)) if in_body else (to_float32, (value,))))
            self._moved[value, in_body] = self._placed(moved, in_body=in_body)
        return self._moved[value, in_body]

    def call(self, function: Callable[..., Any], args: Any, options: Any, *, in_body: bool) -> Value:
        """Record a call; of constants alone, make it."""
        if not any(isinstance(value, fx.Node) for value in _leaves((args, options))):
            computed: torch.Tensor = function(*args, **options)
            return computed
        read = {
            id(value): self.read(value, in_body=in_body)
            for value in _leaves((args, options))
            if isinstance(value, fx.Node | torch.Tensor)
        }
        exchange = partial(_exchanged, read)
        return self._placed(self._graph.call_function(function, exchange(args), exchange(options)), in_body=in_body)

    def _placed(self, node: fx.Node, *, in_body: bool) -> fx.Node:
        self._in_body[node] = in_body
        return node


class _Step:
    """One ONNX node, as ``torch_layers.Step``."""

    def __init__(self, builder: _Builder, node: onnx.NodeProto, *, in_body: bool) -> None:
        self._builder = builder
        self._node = node
        self._in_body = in_body
        self.options: Final = attributes(node)

    def has(self, index: int) -> bool:
        return index < len(self._node.input) and self._node.input[index] != ""

    def x(self, index: int) -> Value:
        value = self._builder.value(self._node.input[index])
        if isinstance(value, torch.Tensor):
            return value.to(self.number()) if value.is_floating_point() else value
        return self._builder.read(value, in_body=self._in_body)

    def constant(self, index: int) -> torch.Tensor:
        value = self._builder.value(self._node.input[index])
        if not isinstance(value, torch.Tensor):
            raise Unsupported(f"{self._node.op_type} whose input {index} is computed")
        return value

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Value:
        return self._builder.call(function, args, options, in_body=self._in_body)

    def number(self) -> torch.dtype:
        return self._builder.number(in_body=self._in_body)


def _tensor(proto: onnx.TensorProto) -> torch.Tensor:
    array = numpy_helper.to_array(proto)
    return torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "V" else array.copy())  # V: bfloat16


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _exchanged(read: dict[int, fx.Node], value: Any) -> Any:
    """The same structure with recorded nodes in place of what they stand for."""
    if isinstance(value, dict):
        return {key: _exchanged(read, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_exchanged(read, item) for item in value)
    return read.get(id(value), value)
