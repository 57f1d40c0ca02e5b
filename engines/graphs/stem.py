"""The first convolution with as many input channels as matrix units take at once.

Enters: a recorded torch module. Leaves: the module, whose convolutions of three channels see eight, five of them zeros
that meet zero weights: the same sums. With three, a GPU's library may have no kernel for its matrix units.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import fx
from torch.nn import functional

CHANNELS: Final = 8
"""16 bytes of float16: what one load brings."""


def widen(module: fx.GraphModule) -> fx.GraphModule:
    """The module is changed and returned."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is functional.conv2d and _narrow(module, node):
            _widen(module, node)
    module.recompile()
    return module


def with_zeros(images_NCHW: torch.Tensor, channels: int) -> torch.Tensor:
    """More channels, channels last."""
    wide = functional.pad(images_NCHW, (0, 0, 0, 0, 0, channels - images_NCHW.shape[1]))
    return wide.contiguous(memory_format=torch.channels_last)


def _narrow(module: fx.GraphModule, node: fx.Node) -> bool:
    weights = node.args[1]
    groups = node.kwargs.get("groups", 1)
    if not isinstance(weights, fx.Node) or weights.op != "get_attr" or groups != 1:
        return False
    return module.get_buffer(str(weights.target)).shape[1] < CHANNELS


def _widen(module: fx.GraphModule, node: fx.Node) -> None:
    images, weights, *rest = node.args
    assert isinstance(weights, fx.Node)
    old = module.get_buffer(str(weights.target))
    name = f"{str(weights.target).replace('.', '_')}_wide"
    module.register_buffer(name, with_zeros(old, CHANNELS))
    with module.graph.inserting_before(node):
        wide = module.graph.call_function(with_zeros, (images, CHANNELS))
        values = module.graph.get_attr(name)
    node.args = (wide, values, *rest)
