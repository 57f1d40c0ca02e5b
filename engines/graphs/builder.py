"""Writes an ONNX graph node by node.

Enters: operator names, tensor names, numpy constants. Leaves: a checked ``onnx.ModelProto``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET: Final = 17
"""Read by ONNX Runtime since 1.12 and by every OpenVINO of this decade; nothing newer is needed."""

IR_VERSION: Final = 8
"""Goes with opset 17: an older runtime refuses a newer one."""


TINY: Final = 1e-12
"""Keeps the length of an all-zero embedding from dividing by zero."""


class GraphBuilder:
    """Collects nodes and constants; every method returns the name of the tensor that it made."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: list[int | str]) -> str:
        """A uint8 input."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def pad_end(self, tensor: str, channels: int, height: int, width: int) -> str:
        """Zeros after the end of the axes of an NCHW tensor; the tensor itself when none are wanted."""
        return self.pad(tensor, (0, 0, 0, 0), (0, channels, height, width))

    def pad(self, tensor: str, before: tuple[int, ...], after: tuple[int, ...]) -> str:
        if not any(before) and not any(after):
            return tensor
        return self.node("Pad", tensor, self.ints(*before, *after))

    def with_mirror_images(self, faces_NHWC: str, side: int) -> str:
        """The faces, and behind them their mirror images: (2N, S, S, 3)."""
        back = self.ints(-1), self.ints(-side - 1), self.ints(2), self.ints(-1)
        return self.node("Concat", faces_NHWC, self.node("Slice", faces_NHWC, *back), axis=0)

    def mean_over_mirror_images(self, embeddings: str, dimensions: int) -> str:
        """(2N, D) as ``with_mirror_images`` laid them out, to (N, D)."""
        pairs = self.node("Reshape", embeddings, self.ints(2, -1, dimensions))
        return self.node("ReduceMean", pairs, axes=[0], keepdims=0)

    def of_unit_length(self, embeddings: str) -> str:
        """Each row divided by its length; zeros stay zeros."""
        length = self.node("ReduceL2", embeddings, axes=[1], keepdims=1)
        safe = self.node("Max", length, self.constant(np.array([TINY], dtype=np.float32)))
        return self.node("Div", embeddings, safe)

    def finish(self, output: str, shape: list[int | str], producer: str) -> onnx.ModelProto:
        """The model with its one float32 output.

        Raises:
            onnx.checker.ValidationError: the graph is malformed (a mistake in this project).
        """
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, outputs, initializer=self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name=producer)
        onnx.checker.check_model(model)
        return model
