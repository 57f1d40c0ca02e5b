"""dlib's CNN face detector as an ONNX graph for one frame size.

Enters: the layers read by ``engines.dlib.networks`` and a pyramid's layout. Leaves: a graph from one uint8 RGB frame
(1, H, W, 3) to the detector's scores (1, 1, h, w), one for every 8x8 pixels of the tiled pyramid. The pyramid is built
inside: each level is resized from the one before it, as dlib does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx

from engines.dlib.descriptor_graph import convolution, normalise
from engines.dlib.networks import Layer, Network
from engines.dlib.pyramid import Pyramid
from engines.graphs.builder import GraphBuilder

CELL: Final = 8
"""Pixels of the canvas from one score to the next: three convolutions of stride 2."""

FIRST_CENTRE: Final = 14
"""Where on the canvas the first score's window has its centre: 2 + 2*2 + 4*2, half a window of each."""

SMALLEST_CANVAS: Final = 29
"""Below it the three unpadded convolutions have nothing left, pixels."""


def detector_graph(network: Network, pyramid: Pyramid) -> onnx.ModelProto:
    """The detector for frames of the size that ``pyramid`` was laid out for; its canvas is at least SMALLEST_CANVAS.

    Raises:
        ModelFileError: the weights overflow float32.
    """
    graph = GraphBuilder("dlib_mmod")
    first = pyramid.tiles[0]
    frame = graph.input("frame", [1, first.height, first.width, 3])
    x = _canvas(graph, normalise(graph, frame, network.mean_rgb), pyramid)
    rows, columns = pyramid.height, pyramid.width
    layers = network.layers
    for index, layer in enumerate(layers):
        spec = layer.spec
        if spec.kind == "con":
            last = index + 1 == len(layers)
            x = _scores(graph, x, layer) if last else convolution(graph, x, layer, layers[index + 1])
            rows, columns = ((n + 2 * spec.pad - spec.size) // spec.stride + 1 for n in (rows, columns))
        elif spec.kind == "relu":
            x = graph.node("Relu", x)
    graph.node("Identity", x, output="scores")
    return graph.finish("scores", [1, 1, rows, columns], "realtime")


def _scores(graph: GraphBuilder, x: str, con: Layer) -> str:
    """The last convolution, one filter of 9x9, as nine of 1x9 whose results are then added at their rows.

    The same sum, 10 % less time for the whole detector: runtimes compute 16 filters at once, wanted or not.
    """
    assert con.weights is not None
    assert con.bias is not None
    size, pad = con.spec.size, con.spec.pad
    rows_KI1K = con.weights[0].transpose(1, 0, 2)[:, :, None, :]
    each = graph.node("Conv", x, graph.constant(rows_KI1K), kernel_shape=[1, size], pads=[0, pad, 0, pad])
    shift_1KK1 = np.eye(size, dtype=np.float32)[None, :, :, None]
    constants = graph.constant(shift_1KK1), graph.constant(con.bias)
    return graph.node("Conv", each, *constants, kernel_shape=[size, 1], pads=[pad, 0, pad, 0])


def _canvas(graph: GraphBuilder, frame: str, pyramid: Pyramid) -> str:
    levels = [frame]
    for tile in pyramid.tiles[1:]:
        levels.append(_resize(graph, levels[-1], tile.width, tile.height))
    indices = list(range(len(levels)))
    shown = [_carved(graph, level, index, pyramid) for index, level in enumerate(levels)]
    left = _column(graph, shown, indices[: pyramid.left], pyramid)
    if pyramid.left == len(levels):
        return left
    return graph.node("Add", left, _column(graph, shown, indices[: pyramid.left - 1 : -1], pyramid))


def _carved(graph: GraphBuilder, level: str, index: int, pyramid: Pyramid) -> str:
    """The level without what an earlier one covers: in some tall frames the smallest climbs into the largest."""
    if index < pyramid.left:
        return level
    tile = pyramid.tiles[index]
    mask_HW = np.ones((tile.height, tile.width), dtype=np.float32)
    for earlier in pyramid.tiles[: pyramid.left]:
        x, y = earlier.x - tile.x, earlier.y - tile.y
        mask_HW[max(y, 0) : max(y + earlier.height, 0), max(x, 0) : max(x + earlier.width, 0)] = 0
    return level if mask_HW.all() else graph.node("Mul", level, graph.constant(mask_HW[None, None]))


def _column(graph: GraphBuilder, levels: list[str], indices: list[int], pyramid: Pyramid) -> str:
    """Levels below each other, from the top, each with the zeros (dlib's mean colour) beside and above it."""
    parts = []
    end = 0
    for index in indices:
        tile = pyramid.tiles[index]
        below = pyramid.height - tile.y - tile.height if index == indices[-1] else 0
        before = (0, 0, tile.y - end, tile.x)
        parts.append(graph.pad(levels[index], before, (0, 0, below, pyramid.width - tile.x - tile.width)))
        end = tile.y + tile.height
    return graph.node("Concat", *parts, axis=2)


def _resize(graph: GraphBuilder, level: str, width: int, height: int) -> str:
    sizes = graph.constant(np.array([1, 3, height, width], dtype=np.int64))
    mode = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return graph.node("Resize", level, "", "", sizes, **mode)
