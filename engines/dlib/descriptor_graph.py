"""dlib's face descriptor as an ONNX graph.

Enters: the layers read by ``engines.dlib.networks``. Leaves: a graph from uint8 RGB chips (N, 150, 150, 3) to float32
embeddings (N, 128), any N, normalisation inside, affine layers folded into the convolutions before them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.dlib.networks import Layer, Network
from engines.errors import ModelFileError
from engines.graphs.builder import GraphBuilder

CHIP: Final = 150
"""Side of the input, pixels."""

DIMENSIONS: Final = 128

INPUT: Final = "faces"
OUTPUT: Final = "embeddings"

# O output channels, I input channels, K side of the window
Float32 = NDArray[np.float32]


def embedding_graph(network: Network, *, unit_length: bool, mirrored: bool) -> onnx.ModelProto:
    """The descriptor.

    Args:
        network: what ``engines.dlib.networks.read_resnet`` returned.
        unit_length: divide each embedding by its length; dlib does not.
        mirrored: the mean of the embeddings of the chip and of its mirror image.

    Raises:
        ModelFileError: the weights overflow float32.
    """
    graph = GraphBuilder("dlib_resnet")
    faces = graph.input(INPUT, ["N", CHIP, CHIP, 3])
    if mirrored:
        faces = graph.with_mirror_images(faces, CHIP)
    embeddings = _residual_layers(graph, normalise(graph, faces, network.mean_rgb), network.layers)
    if mirrored:
        embeddings = graph.mean_over_mirror_images(embeddings, DIMENSIONS)
    if unit_length:
        embeddings = graph.of_unit_length(embeddings)
    graph.node("Identity", embeddings, output=OUTPUT)
    return graph.finish(OUTPUT, ["N", DIMENSIONS], "realtime")


def normalise(graph: GraphBuilder, images_NHWC: str, mean_rgb: tuple[float, float, float]) -> str:
    """(x - mean) / 256 as dlib does, and channels first: the name of a float32 NCHW tensor."""
    planes = graph.node("Transpose", images_NHWC, perm=[0, 3, 1, 2])
    values = graph.node("Cast", planes, to=onnx.TensorProto.FLOAT)
    centred = graph.node("Sub", values, graph.constant(np.array(mean_rgb, dtype=np.float32).reshape(1, 3, 1, 1)))
    return graph.node("Mul", centred, graph.constant(np.array(1 / 256, dtype=np.float32)))


def convolution(graph: GraphBuilder, x: str, con: Layer, affine: Layer) -> str:
    """One convolution with its bias and the affine layer after it.

    Raises:
        ModelFileError: the folded weights overflow float32.
    """
    weights_OIKK, bias_O = folded(con, affine)
    spec = con.spec
    constants = graph.constant(weights_OIKK), graph.constant(bias_O)
    return graph.node(
        "Conv", x, *constants, kernel_shape=[spec.size] * 2, strides=[spec.stride] * 2, pads=[spec.pad] * 4
    )


def folded(con: Layer, affine: Layer) -> tuple[Float32, Float32]:
    """Weights (O, I, K, K) and bias (O,) of the convolution with the affine layer in it, computed in float64.

    Raises:
        ModelFileError: they overflow float32.
    """
    assert con.weights is not None
    assert con.bias is not None
    assert affine.weights is not None
    assert affine.bias is not None
    scale_O = affine.weights.astype(np.float64)
    weights_OIKK = con.weights * scale_O[:, None, None, None]
    bias_O = con.bias * scale_O + affine.bias
    largest = max(np.abs(weights_OIKK).max(), np.abs(bias_O).max())
    if not largest < np.finfo(np.float32).max:
        raise ModelFileError("dlib's network has weights beyond float32; get the .dat file again from its publisher")
    return weights_OIKK.astype(np.float32), bias_O.astype(np.float32)


def _residual_layers(graph: GraphBuilder, x: str, layers: tuple[Layer, ...]) -> str:
    """The layers in order; a ``tag`` that a ``skip`` returns to splits a block into its body and its shortcut."""
    side, channels = CHIP, 3
    start = body = (x, side, channels)
    for index, layer in enumerate(layers):
        spec = layer.spec
        if spec.kind == "con":
            x = convolution(graph, x, layer, layers[index + 1])
            side, channels = (side + 2 * spec.pad - spec.size) // spec.stride + 1, spec.filters
        elif spec.kind == "relu":
            x = graph.node("Relu", x)
        elif spec.kind in ("max_pool", "avg_pool") and spec.size:
            operator = "MaxPool" if spec.kind == "max_pool" else "AveragePool"
            x = graph.node(operator, x, kernel_shape=[spec.size] * 2, strides=[spec.stride] * 2)
            side = (side - spec.size) // spec.stride + 1
        elif spec.kind == "avg_pool":
            x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
        elif spec.kind == "tag" and layers[index + 1].spec.kind == "skip":
            body = (x, side, channels)
        elif spec.kind == "tag":
            start = body = (x, side, channels)
        elif spec.kind == "skip":
            x, side, channels = start
        elif spec.kind == "add_prev":
            x, side, channels = _add(graph, (x, side, channels), body)
        elif spec.kind == "fc":
            assert layer.weights is not None
            x = graph.node("MatMul", x, graph.constant(layer.weights))
    return x


def _add(graph: GraphBuilder, a: tuple[str, int, int], b: tuple[str, int, int]) -> tuple[str, int, int]:
    """dlib's addition: both (tensor, side, channels) grow with zeros at the end to the larger of each axis."""
    side, channels = max(a[1], b[1]), max(a[2], b[2])
    padded = [graph.pad_end(x, channels - had, side - was, side - was) for x, was, had in (a, b)]
    return graph.node("Add", *padded), side, channels
