"""BatchNormalization folded into the convolutions and fully connected layers beside it, exactly.

Enters: an ONNX model. Leaves: another one with the same answers and fewer nodes. Behind a layer the scale goes into its
weights and the shift into its bias. In front of a convolution that pads with zeros the shift is not a bias: the padding
has none of it. There it becomes a map, the convolution of the constant shift with zero padding, which is added after
the convolution. All is computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import helper

from engines.errors import ModelFileError
from engines.graphs.editing import EditableGraph, attributes

# O output channels, I input channels of one group, A rows and B columns of a kernel; H, W pixels; C channels
Float64 = NDArray[np.float64]

_TRANSPARENT: Final = frozenset({"Identity", "Dropout", "Flatten"})
"""May stand between a BatchNormalization and the layer that takes it in; a Flatten only before a Gemm."""


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model without the BatchNormalization that its neighbours can take.

    One stays where something else than a convolution or Gemm with constant weights also reads what would change, and
    where a padded input's size is not known. A model with subgraphs is returned as it is.

    Raises:
        ModelFileError: the folded weights overflow float32.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    if any(attribute.type == onnx.AttributeProto.GRAPH for node in model.graph.node for attribute in node.attribute):
        return folded
    graph = EditableGraph(folded)
    for direction in (_behind, _in_front):
        while [node for node in graph.of("BatchNormalization") if direction(graph, node)]:
            pass
    graph.write()
    return folded


def fold_bytes(content: bytes, where: str) -> onnx.ModelProto:
    """As ``fold``, for a model in memory; ``where`` names it in messages.

    Raises:
        ModelFileError: not ONNX, or the folded weights overflow float32.
    """
    try:
        return fold(onnx.ModelProto.FromString(content))
    except DecodeError as err:
        raise ModelFileError(f"{where}: is not a whole ONNX file; export or download it again") from err
    except ModelFileError as err:
        raise ModelFileError(f"{where}: {err}") from err


@dataclass(frozen=True, slots=True)
class _Affine:
    """What a BatchNormalization does to channel c: x * scale_C[c] + shift_C[c]."""

    scale_C: Float64
    shift_C: Float64


def _affine(graph: EditableGraph, node: onnx.NodeProto) -> _Affine | None:
    """None where it is one of training, or its parameters are computed."""
    values = [graph.constant(name) for name in node.input[1:5]]
    options = attributes(node)
    if options.get("training_mode") or len(node.output) > 1:
        return None
    if any(value is None or value.dtype != np.float32 for value in values):
        return None
    gamma, beta, mean, variance = (np.asarray(value, dtype=np.float64) for value in values)
    scale_C = gamma / np.sqrt(variance + options.get("epsilon", 1e-5))
    return _Affine(scale_C, beta - mean * scale_C)


def _behind(graph: EditableGraph, node: onnx.NodeProto) -> bool:
    """Fold into the layer before, if nothing else reads that layer's output."""
    layer, affine = graph.maker(node.input[0]), _affine(graph, node)
    if layer is None or affine is None or not _takes(graph, layer):
        return False
    if len(graph.readers(layer.output[0])) != 1 or graph.is_output(layer.output[0]):
        return False
    weights, bias_O = _weights(graph, layer), _bias(graph, layer)
    shape = (-1,) + (1,) * (weights.ndim - 1)
    _set_weights(graph, layer, weights * affine.scale_C.reshape(shape))
    _set_bias(graph, layer, bias_O * affine.scale_C + affine.shift_C)
    graph.remove(node)
    graph.rename_output(layer, node.output[0])
    return True


def _in_front(graph: EditableGraph, node: onnx.NodeProto) -> bool:
    """Fold into the layers behind, if all that read the output are such layers."""
    affine = _affine(graph, node)
    if affine is None or graph.is_output(node.output[0]):
        return False
    paths = [_path(graph, reader) for reader in graph.readers(node.output[0])]
    takers = [_taker(graph, node, path, affine) for path in paths]
    if not takers or not all(takers):
        return False
    for path, taker in zip(paths, takers, strict=True):
        assert taker is not None
        taker()
        graph.reread(path[0], 0, node.input[0])
    graph.remove(node)
    return True


def _path(graph: EditableGraph, reader: onnx.NodeProto) -> list[onnx.NodeProto]:
    """From a reader through what changes no value to the layer that may fold."""
    path = [reader]
    while path[-1].op_type in _TRANSPARENT and not graph.is_output(path[-1].output[0]):
        readers = graph.readers(path[-1].output[0])
        if len(readers) != 1:
            break
        path.append(readers[0])
    return path


def _taker(
    graph: EditableGraph, node: onnx.NodeProto, path: list[onnx.NodeProto], affine: _Affine
) -> Callable[[], None] | None:
    """What folds ``affine`` into the layer at the end of the path; None if that cannot be done."""
    layer = path[-1]
    if not _takes(graph, layer) or layer.input[0] not in (node.output[0], *(step.output[0] for step in path)):
        return None
    if any(step.op_type == "Flatten" and attributes(step).get("axis", 1) != 1 for step in path):
        return None
    if layer.op_type == "Gemm":
        return lambda: _into_gemm(graph, layer, affine)
    if any(step.op_type == "Flatten" for step in path):
        return None
    pads = attributes(layer).get("pads", [0] * 2 * (_weights(graph, layer).ndim - 2))
    shape = graph.shape(node.input[0])
    if not any(pads):
        return lambda: _into_unpadded(graph, layer, affine)
    if shape is None or len(shape) != 4 or None in shape[2:]:
        return None
    height, width = (int(size) for size in shape[2:] if size is not None)
    return lambda: _into_padded(graph, layer, affine, height, width)


def _into_gemm(graph: EditableGraph, layer: onnx.NodeProto, affine: _Affine) -> None:
    weights_OI, bias_O = _weights(graph, layer), _bias(graph, layer)
    positions = weights_OI.shape[1] // len(affine.scale_C)
    _set_weights(graph, layer, weights_OI * np.repeat(affine.scale_C, positions))
    _set_bias(graph, layer, bias_O + weights_OI @ np.repeat(affine.shift_C, positions))


def _into_unpadded(graph: EditableGraph, layer: onnx.NodeProto, affine: _Affine) -> None:
    weights_OIAB, bias_O = _weights(graph, layer), _bias(graph, layer)
    scale, shift = (_by_group(values, layer, weights_OIAB) for values in (affine.scale_C, affine.shift_C))
    _set_weights(graph, layer, weights_OIAB * scale)
    _set_bias(graph, layer, bias_O + (weights_OIAB * shift).reshape(len(bias_O), -1).sum(axis=1))


def _into_padded(graph: EditableGraph, layer: onnx.NodeProto, affine: _Affine, height: int, width: int) -> None:
    """The convolution loses its bias: it is part of the map."""
    weights_OIAB, bias_O = _weights(graph, layer), _bias(graph, layer)
    scale, shift = (_by_group(values, layer, weights_OIAB) for values in (affine.scale_C, affine.shift_C))
    sums_OAB = (weights_OIAB * shift).sum(axis=1)
    inside_HA, inside_WB = (_inside(layer, axis, (height, width)[axis], sums_OAB.shape[1 + axis]) for axis in (0, 1))
    map_OHW = np.einsum("ha,oab,wb->ohw", inside_HA, sums_OAB, inside_WB) + bias_O[:, None, None]
    _set_weights(graph, layer, weights_OIAB * scale)
    graph.drop_inputs(layer, 2)
    output = layer.output[0]
    graph.rename_output(layer, f"{output}/without_shift")
    name = graph.add_constant(map_OHW[None], output)
    graph.insert_after(layer, helper.make_node("Add", [layer.output[0], name], [output], name=f"{output}/shift"))


def _inside(layer: onnx.NodeProto, axis: int, size: int, kernel: int) -> Float64:
    """(outputs, kernel): 1 where that part of the kernel lies on the image, 0 where it lies on the padding."""
    options = attributes(layer)
    pads = options.get("pads", [0, 0, 0, 0])
    stride, dilation = options.get("strides", [1, 1])[axis], options.get("dilations", [1, 1])[axis]
    outputs = (size + pads[axis] + pads[axis + 2] - dilation * (kernel - 1) - 1) // stride + 1
    positions = np.arange(outputs)[:, None] * stride + np.arange(kernel)[None] * dilation - pads[axis]
    inside: Float64 = ((positions >= 0) & (positions < size)).astype(np.float64)
    return inside


def _by_group(values_C: Float64, layer: onnx.NodeProto, weights: Float64) -> Float64:
    """One value for every input channel that every output channel sees: (O, I, 1, ...)."""
    groups = attributes(layer).get("group", 1)
    per_output: Float64 = np.repeat(values_C.reshape(groups, -1), len(weights) // groups, axis=0)
    return per_output.reshape(*per_output.shape, *(1,) * (weights.ndim - 2))


def _takes(graph: EditableGraph, layer: onnx.NodeProto) -> bool:
    """A convolution or Gemm whose weights and bias are float32 constants of a form that is understood here."""
    if layer.op_type not in ("Conv", "Gemm"):
        return False
    weights, options = graph.constant(layer.input[1]), attributes(layer)
    if weights is None or weights.dtype != np.float32 or options.get("transA"):
        return False
    return options.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and _has_plain_bias(graph, layer)


def _has_plain_bias(graph: EditableGraph, layer: onnx.NodeProto) -> bool:
    """None, one number, or one for each output channel."""
    if not _has_bias(layer):
        return True
    values = graph.constant(layer.input[2])
    return values is not None and values.dtype == np.float32 and _is_row(values, _outputs(graph, layer))


def _is_row(values: NDArray[Any], length: int) -> bool:
    return values.size == 1 or (values.size == length and values.shape[-1] == length)


def _weights(graph: EditableGraph, layer: onnx.NodeProto) -> Float64:
    """(O, I, ...) in float64; a Gemm's alpha is in them."""
    values = graph.constant(layer.input[1])
    assert values is not None
    weights: Float64 = values.astype(np.float64)
    if layer.op_type == "Gemm":
        options = attributes(layer)
        weights = (weights if options.get("transB") else weights.T) * options.get("alpha", 1.0)
    return weights


def _bias(graph: EditableGraph, layer: onnx.NodeProto) -> Float64:
    """(O,) in float64, zeros where there is none; a Gemm's beta is in it."""
    outputs = _outputs(graph, layer)
    if not _has_bias(layer):
        return np.zeros(outputs)
    values = graph.constant(layer.input[2])
    assert values is not None
    beta = float(attributes(layer).get("beta", 1.0))
    return np.broadcast_to(values.astype(np.float64).reshape(-1) * beta, (outputs,))


def _has_bias(layer: onnx.NodeProto) -> bool:
    return len(layer.input) > 2 and layer.input[2] != ""


def _outputs(graph: EditableGraph, layer: onnx.NodeProto) -> int:
    weights = graph.constant(layer.input[1])
    assert weights is not None
    transposed = layer.op_type == "Gemm" and not attributes(layer).get("transB")
    return int(weights.shape[1 if transposed else 0])


def _set_weights(graph: EditableGraph, layer: onnx.NodeProto, weights: Float64) -> None:
    """Into the layer alone, whoever else reads its old ones; a Gemm gets its plain form."""
    graph.reread(layer, 1, graph.add_constant(weights, layer.output[0]))
    if layer.op_type == "Gemm":
        del layer.attribute[:]
        layer.attribute.append(helper.make_attribute("transB", 1))


def _set_bias(graph: EditableGraph, layer: onnx.NodeProto, bias_O: Float64) -> None:
    graph.reread(layer, 2, graph.add_constant(bias_O, layer.output[0]))
