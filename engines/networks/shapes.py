"""What a network's weights are called, how they are shaped, and what the network costs; without torch.

Enters: a ``Network``. Leaves: the shape of every array that its state dict must hold, in its order, and the number of
multiplications and additions a face.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engines.networks import Network
from engines.networks.layouts import Convolution, Head, Maps, write

NORM: tuple[str, ...] = ("weight", "bias", "running_mean", "running_var")
"""The arrays of a BatchNorm; its counter of batches is of no use to anybody who does not train."""


@dataclass(slots=True)
class _Shapes:
    """Writes nothing, notes everything."""

    found: dict[str, tuple[int, ...]] = field(default_factory=dict)
    macs: int = 0

    def convolution(self, x: Maps, spec: Convolution) -> Maps:
        shape = (spec.filters, x.channels // spec.groups, spec.size, spec.size)
        self.found[f"{spec.name}.weight"] = shape
        side = spec.side(x.side)
        self.macs += shape[0] * shape[1] * shape[2] * shape[3] * side * side
        return self.norm(Maps("", spec.filters, side), spec.norm)

    def norm(self, x: Maps, name: str) -> Maps:
        self.found |= {f"{name}.{part}": (x.channels,) for part in NORM}
        return x

    def prelu(self, x: Maps, name: str) -> Maps:
        self.found[f"{name}.weight"] = (x.channels,)
        return x

    def add(self, x: Maps, y: Maps) -> Maps:
        return x

    def head(self, x: Maps, head: Head) -> str:
        if head.before is not None:
            self.norm(x, head.before)
        features = x.channels * x.side * x.side
        self.found[f"{head.linear}.weight"] = (head.dimensions, features)
        if head.bias:
            self.found[f"{head.linear}.bias"] = (head.dimensions,)
        self.found |= {f"{head.after}.{part}": (head.dimensions,) for part in NORM}
        self.macs += head.dimensions * features
        return ""


def expected_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Name and shape of every float array of the state dict, in its order."""
    return _noted(network).found


def multiply_adds(network: Network) -> int:
    """Of one face: convolutions and the last layer."""
    return _noted(network).macs


def _noted(network: Network) -> _Shapes:
    shapes = _Shapes()
    write(network, shapes, Maps("", 3, network.input_size))
    return shapes
