"""What follows a convolution, in one pass over its output.

Enters: a recorded torch module. Leaves: the module with shift (bias or map), residual and activation of each
convolution as one call. On a GPU the convolutions leave these to kernels of their own, and each reads and writes the
whole image once more.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import fx
from torch.nn import functional

Epilogue = Callable[
    [torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None],
    torch.Tensor,
]
"""(x, shift, residual, slope) -> activation(x + shift + residual); may write into x.

x and residual (N, C, H, W), channels last; shift (1, C, 1, 1) or (1, C, H, W); slope (C,), 0 for a ReLU, None for none.
"""

_ADDITIONS: Final = (torch.add, operator.add)


def reference(
    x: torch.Tensor, shift: torch.Tensor | None, residual: torch.Tensor | None, slope_C: torch.Tensor | None
) -> torch.Tensor:
    """An ``Epilogue`` in plain torch: sums in float32, rounded once at the end."""
    y = x.float()
    if shift is not None:
        y = y + shift
    if residual is not None:
        y = y + residual
    if slope_C is not None:
        y = torch.where(y >= 0, y, y * slope_C.view(-1, 1, 1))
    return y.to(x.dtype)


def fuse(module: fx.GraphModule, epilogue: Epilogue = reference) -> fx.GraphModule:
    """Exchange what follows each convolution for one call of ``epilogue``; the module is changed and returned."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is functional.conv2d:
            _fuse_behind(module, node, epilogue)
    module.graph.eliminate_dead_code()
    read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in module.named_buffers() if name not in read]:
        delattr(module, name)
    module.recompile()
    return module


@dataclass(slots=True)
class _Chain:
    """What was found behind one convolution; ``last`` is the node whose value the epilogue gives."""

    last: fx.Node
    shifts: list[torch.Tensor] = field(default_factory=list)
    residual: fx.Node | None = None
    slope: torch.Tensor | None = None


def _fuse_behind(module: fx.GraphModule, conv: fx.Node, epilogue: Epilogue) -> None:
    chain = _Chain(conv, _taken_bias(module, conv))
    while chain.slope is None and (follower := _only_reader(chain.last)) and _joins(module, follower, chain):
        chain.last = follower
    if not chain.shifts and chain.residual is None and chain.slope is None:
        return
    graph = module.graph
    weights = _constant(module, conv.args[1])
    assert weights is not None
    with graph.inserting_after(chain.last):
        call = graph.call_function(epilogue)
    chain.last.replace_all_uses_with(call)
    with graph.inserting_before(call):
        shift = _kept(module, _sum(chain.shifts, len(weights), weights.dtype)) if chain.shifts else None
        slope = None if chain.slope is None else _kept(module, chain.slope.to(weights.dtype).expand(len(weights)))
    call.args = (conv, shift, chain.residual, slope)


def _joins(module: fx.GraphModule, node: fx.Node, chain: _Chain) -> bool:
    """Take one node into the chain; False where it does not belong there."""
    if node.op != "call_function":
        return False
    if node.target is torch.relu:
        chain.slope = torch.zeros(1)
    elif node.target is functional.prelu:
        chain.slope = _constant(module, node.args[1])
    elif node.target in _ADDITIONS and not node.kwargs:
        return _joins_addition(module, node, chain)
    return chain.slope is not None


def _joins_addition(module: fx.GraphModule, node: fx.Node, chain: _Chain) -> bool:
    others = [value for value in node.args if value is not chain.last]
    if len(others) != 1 or not isinstance(others[0], fx.Node):
        return False
    constant = _constant(module, others[0])
    if constant is not None and constant.dim() == 4 and len(constant) == 1:
        chain.shifts.append(constant)
    elif constant is None and chain.residual is None:
        chain.residual = others[0]
        if others[0].target is functional.conv2d and _only_reader(others[0]) is node:
            chain.shifts += _taken_bias(module, others[0])
    else:
        return False
    return True


def _taken_bias(module: fx.GraphModule, conv: fx.Node) -> list[torch.Tensor]:
    """A convolution's bias as (1, C, 1, 1), which it loses; nothing where it has none."""
    bias = _constant(module, conv.args[2]) if len(conv.args) > 2 else None
    if bias is None:
        return []
    conv.args = (*conv.args[:2], None)
    return [bias.view(1, -1, 1, 1)]


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _constant(module: fx.GraphModule, value: object) -> torch.Tensor | None:
    if isinstance(value, fx.Node) and value.op == "get_attr":
        return module.get_buffer(str(value.target))
    return None


def _sum(shifts: list[torch.Tensor], channels: int, dtype: torch.dtype) -> torch.Tensor:
    total = torch.zeros(1, channels, 1, 1)
    for shift in shifts:
        total = total + shift
    return total.to(dtype, memory_format=torch.channels_last)


def _kept(module: fx.GraphModule, tensor: torch.Tensor) -> fx.Node:
    name = f"e{sum(1 for _ in module.buffers())}"
    module.register_buffer(name, tensor.contiguous() if tensor.dim() < 4 else tensor)
    return module.graph.get_attr(name)
