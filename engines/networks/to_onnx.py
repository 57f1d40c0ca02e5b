"""A network's weights as an ONNX graph.

Enters: arrays by name, and the network that they fit. Leaves: a graph from uint8 RGB faces (N, S, S, 3) to float32
embeddings (N, D), any N, normalisation and channel order inside. Every BatchNorm behind a convolution is folded into
it, as are those around the last layer; those in front of a padded convolution stay nodes, since folding them needs a
map (``graphs.folding``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.errors import ModelFileError
from engines.graphs.builder import GraphBuilder
from engines.networks import Network
from engines.networks.layouts import Convolution, Head, Maps, write
from engines.networks.shapes import expected_shapes

INPUT: Final = "faces"
OUTPUT: Final = "embeddings"

MEAN: Final = 127.5
"""Subtracted from every value; the networks were trained on (x - 127.5) / 127.5."""

EPSILON: Final = 1e-5
"""Of every BatchNorm."""

COLOURS: Final = {"rgb": slice(None), "bgr": slice(None, None, -1)}
"""Order of channels that the weights were trained on, and how the first layer's filters are turned to RGB."""

# O output channels, I input channels, K side of the window, F features, D dimensions
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Arrays = Mapping[str, Float32]


def to_onnx(
    network: Network, arrays: Arrays, *, unit_length: bool, mirrored: bool, colour: str = "rgb"
) -> onnx.ModelProto:
    """The network as a model without a manifest.

    Args:
        network: which one; its ``dimensions`` are those of the weights.
        arrays: every array of ``expected_shapes(network)``, as ``matching.match`` has checked.
        unit_length: divide each embedding by its length.
        mirrored: the mean of the embeddings of the face and of its mirror image.
        colour: order of channels that the weights were trained on, ``rgb`` or ``bgr``.

    Raises:
        ModelFileError: a norm has no valid scale, or folded weights overflow float32.
    """
    first = next(iter(expected_shapes(network)))
    arrays = {**arrays, first: arrays[first][:, COLOURS[colour]]}
    graph = GraphBuilder(network.name.replace("-", "_"))
    side = network.input_size
    faces = graph.input(INPUT, ["N", side, side, 3])
    if mirrored:
        faces = graph.with_mirror_images(faces, side)
    embeddings = write(network, GraphWriter(graph, arrays), Maps(normalised(graph, faces), 3, side))
    if mirrored:
        embeddings = graph.mean_over_mirror_images(embeddings, network.dimensions)
    if unit_length:
        embeddings = graph.of_unit_length(embeddings)
    graph.node("Identity", embeddings, output=OUTPUT)
    return graph.finish(OUTPUT, ["N", network.dimensions], "realtime")


def normalised(graph: GraphBuilder, faces_NHWC: str) -> str:
    """(x - 127.5) / 127.5 and channels first: the name of a float32 NCHW tensor."""
    planes = graph.node("Transpose", faces_NHWC, perm=[0, 3, 1, 2])
    values = graph.node("Cast", planes, to=onnx.TensorProto.FLOAT)
    centred = graph.node("Sub", values, graph.constant(np.array(MEAN, dtype=np.float32)))
    return graph.node("Mul", centred, graph.constant(np.array(1 / MEAN, dtype=np.float32)))


class GraphWriter:
    """Writes the layers of ``layouts`` into a graph."""

    def __init__(self, graph: GraphBuilder, arrays: Arrays) -> None:
        self.graph = graph
        self.arrays = arrays

    def convolution(self, x: Maps, spec: Convolution) -> Maps:
        weights_OIKK = self.arrays[f"{spec.name}.weight"]
        scale_O, shift_O = self._scale_and_shift(spec.norm)
        folded = weights_OIKK.astype(np.float64) * scale_O[:, None, None, None]
        return self.convolve(x, spec, _as_float32(folded, spec.name), _as_float32(shift_O, spec.norm))

    def convolve(self, x: Maps, spec: Convolution, *constants: Float32) -> Maps:
        """A node of its own: ``constants`` are weights (O, I, K, K) and, where there is one, the bias (O,)."""
        name = self.graph.node(
            "Conv",
            x.name,
            *map(self.graph.constant, constants),
            kernel_shape=[spec.size] * 2,
            strides=[spec.stride] * 2,
            pads=[spec.pad] * 4,
            group=spec.groups,
        )
        return Maps(name, spec.filters, spec.side(x.side))

    def norm(self, x: Maps, name: str) -> Maps:
        self._scale_and_shift(name)
        constants = (self.arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        node = self.graph.node("BatchNormalization", x.name, *map(self.graph.constant, constants), epsilon=EPSILON)
        return Maps(node, x.channels, x.side)

    def prelu(self, x: Maps, name: str) -> Maps:
        slopes = self.graph.constant(self.arrays[f"{name}.weight"].reshape(-1, 1, 1))
        return Maps(self.graph.node("PRelu", x.name, slopes), x.channels, x.side)

    def add(self, x: Maps, y: Maps) -> Maps:
        return Maps(self.graph.node("Add", x.name, y.name), x.channels, x.side)

    def head(self, x: Maps, head: Head) -> str:
        """One Gemm: after((linear(before(x)))) with both norms inside."""
        weights_DF = self.arrays[f"{head.linear}.weight"].astype(np.float64)
        bias_D = self.arrays[f"{head.linear}.bias"].astype(np.float64) if head.bias else np.zeros(len(weights_DF))
        if head.before is not None:
            scale_F, shift_F = (np.repeat(part, x.side**2) for part in self._scale_and_shift(head.before))
            bias_D = bias_D + weights_DF @ shift_F
            weights_DF = weights_DF * scale_F
        scale_D, shift_D = self._scale_and_shift(head.after)
        weights = self.graph.constant(_as_float32(weights_DF * scale_D[:, None], head.linear))
        bias = self.graph.constant(_as_float32(bias_D * scale_D + shift_D, head.linear))
        return self.graph.node("Gemm", self.graph.node("Flatten", x.name, axis=1), weights, bias, transB=1)

    def _scale_and_shift(self, norm: str) -> tuple[Float64, Float64]:
        """y = scale * x + shift, both (O,), computed in float64."""
        weight, bias, mean, variance = (
            self.arrays[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise ModelFileError(f"{norm}.running_var holds a negative variance; get the weights again")
        scale = weight / np.sqrt(variance + EPSILON)
        return scale, bias - scale * mean


def _as_float32(values: Float64, name: str) -> Float32:
    if not (np.abs(values) < np.finfo(np.float32).max).all():
        raise ModelFileError(f"{name} is beyond float32 once its norm is folded in; get the weights again")
    return values.astype(np.float32)
