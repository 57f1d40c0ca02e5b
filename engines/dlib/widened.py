"""dlib's CNN detector as a torch module whose layers suit matrix units.

Enters: the layers read by ``engines.dlib.networks`` and a pyramid's layout. Leaves: a module from frames of that size,
any number of them, to score maps. The sums are those of ``detector_graph``: channels are filled up with zeros to
multiples of eight, which GPU libraries have their fast kernels for, the levels of the pyramid are drawn straight onto
such a canvas, and the last filter's rows are added in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import fx
from torch.nn import functional

from engines.dlib.detector_graph import detector_graph
from engines.dlib.networks import Layer, Network
from engines.dlib.pyramid import Pyramid
from engines.graphs.stem import with_zeros
from engines.graphs.torch_graph import to_torch

STEP: Final = 8
"""Channels come in multiples of it: 16 bytes of float16."""


def detector_module(network: Network, pyramid: Pyramid, dtype: torch.dtype, where: str) -> fx.GraphModule:
    """forward((B, H, W, 3) uint8) -> (B, 1, h, w) float32; the pyramid in float32, the convolutions in ``dtype``.

    Raises:
        ModelFileError: the weights overflow float32.
    """
    module = to_torch(detector_graph(widened(network), pyramid), dtype=dtype, where=where)
    _draw_canvas(module, network, pyramid, dtype)
    _add_rows_in_full(module)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def widened(network: Network) -> Network:
    """The same function with channels in multiples of ``STEP`` between its layers."""
    layers: list[Layer] = []
    channels = 3
    for index, layer in enumerate(network.layers):
        if layer.spec.kind == "con":
            last = index + 1 == len(network.layers)
            layers.append(_widened_con(layer, channels, 1 if last else _up(layer.spec.filters)))
            channels = layers[-1].spec.filters
        elif layer.spec.kind == "affine":
            layers.append(_widened_affine(layer, channels))
        else:
            layers.append(layer)
    return replace(network, layers=tuple(layers))


def _widened_con(layer: Layer, channels: int, filters: int) -> Layer:
    assert layer.weights is not None
    assert layer.bias is not None
    more = filters - len(layer.weights)
    weights = np.pad(layer.weights, ((0, more), (0, channels - layer.weights.shape[1]), (0, 0), (0, 0)))
    spec = replace(layer.spec, filters=filters, channels=channels)
    return Layer(spec, weights, np.pad(layer.bias, (0, more)))


def _widened_affine(layer: Layer, channels: int) -> Layer:
    assert layer.weights is not None
    assert layer.bias is not None
    more = (0, channels - len(layer.weights))
    return Layer(replace(layer.spec, filters=channels), np.pad(layer.weights, more), np.pad(layer.bias, more))


def _up(channels: int) -> int:
    return -(-channels // STEP) * STEP


def _draw_canvas(module: fx.GraphModule, network: Network, pyramid: Pyramid, dtype: torch.dtype) -> None:
    """What the first convolution reads is ``canvas``; what made it before goes."""
    first = next(node for node in module.graph.nodes if node.target is functional.conv2d)
    images = next(node for node in module.graph.nodes if node.op == "placeholder")
    weights = module.get_buffer(str(first.args[1].target))
    module.register_buffer("mean", torch.tensor(network.mean_rgb, dtype=torch.float32).view(1, 3, 1, 1))
    module.register_buffer("first", with_zeros(weights, STEP))
    tiles = tuple((tile.x, tile.y, tile.width, tile.height) for tile in pyramid.tiles)
    with module.graph.inserting_before(first):
        mean, wide = module.graph.get_attr("mean"), module.graph.get_attr("first")
        size = (pyramid.width, pyramid.height)
        drawn = module.graph.call_function(canvas, (images, mean, tiles, size, dtype))
    first.args = (drawn, wide, *first.args[2:])


def canvas(
    frames_BHWC: torch.Tensor,
    mean: torch.Tensor,
    tiles: Sequence[tuple[int, int, int, int]],
    size: tuple[int, int],
    dtype: torch.dtype,
) -> torch.Tensor:
    """The tiled pyramid of each frame, made in float32, each level from the one before it.

    Args:
        frames_BHWC: uint8.
        mean: (1, 3, 1, 1), the colour that becomes 0.
        tiles: x, y, width, height of each level; the larger one lies above where two overlap.
        size: width and height of the canvas.
        dtype: of the canvas.

    Returns:
        (B, STEP, height, width), channels last, zeros where nothing is.
    """
    levels = [((frames_BHWC.permute(0, 3, 1, 2).float().contiguous() - mean) * (1 / 256))]
    for _, _, width, height in tiles[1:]:
        levels.append(functional.interpolate(levels[-1], size=(height, width), mode="bilinear", align_corners=True))
    drawn_BHWC = torch.zeros(len(frames_BHWC), size[1], size[0], STEP, dtype=dtype, device=frames_BHWC.device)
    drawn = drawn_BHWC.permute(0, 3, 1, 2)
    for level, (x, y, width, height) in reversed(list(zip(levels, tiles, strict=True))):
        drawn[:, :3, y : y + height, x : x + width] = level
    return drawn


def _add_rows_in_full(module: fx.GraphModule) -> None:
    """The last convolution, which adds the rows of the last filter, is ``added_rows``."""
    convs = [node for node in module.graph.nodes if node.target is functional.conv2d]
    rows, adding = convs[-2:]
    weights = module.get_buffer(str(rows.args[1].target))
    size = len(weights)
    name = f"{rows.args[1].target}_up"
    wide = functional.pad(weights, (0, 0, 0, 0, 0, 0, 0, _up(size) - size))
    module.register_buffer(name, wide.contiguous(memory_format=torch.channels_last))
    with module.graph.inserting_before(rows):
        rows.args = (rows.args[0], module.graph.get_attr(name), *rows.args[2:])
    with module.graph.inserting_before(adding):
        added = module.graph.call_function(added_rows, (rows, adding.args[2], size))
    adding.replace_all_uses_with(added)
    module.graph.erase_node(adding)


def added_rows(each_BFHW: torch.Tensor, bias: torch.Tensor, size: int) -> torch.Tensor:
    """The ``size`` first maps added in float32, each from its own row: the rows of one filter.

    Args:
        each_BFHW: of the filter's rows, from the top.
        bias: (1,).
        size: rows of the filter, odd.

    Returns:
        (B, 1, H, W) float32.
    """
    batch, _, height, width = each_BFHW.shape
    padded = functional.pad(each_BFHW[:, :size].float().contiguous(), (0, 0, size // 2, size // 2))
    frame, row, line, column = padded.stride()
    shifted = padded.as_strided((batch, size, height, width), (frame, row + line, line, column))
    return shifted.sum(dim=1, keepdim=True) + bias.float()
