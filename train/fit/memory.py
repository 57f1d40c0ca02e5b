"""What a run takes of the device's memory, by part, before anything of it is there.

Enters: a network and the numbers of a run. Leaves: bytes by name. Activations are counted layer by layer: what autograd
keeps is the input of every convolution, norm and PReLU, each tensor once (a test counts them in torch).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Final

from engines.networks import Network
from engines.networks.layouts import Convolution, Head, Maps, write
from engines.networks.shapes import expected_shapes

FLOAT: Final = 4
"""Bytes of a float32."""

HEAD_COPIES: Final = 4
"""Matrices of a row a crop and a column a class that the head keeps: cosines, logits, shares, their gradient."""


@dataclass(slots=True)
class _Kept:
    """Writes nothing, notes what a backward pass needs: values by the tensor that holds them."""

    values: dict[str, int] = field(default_factory=dict)
    _made: int = 0

    def convolution(self, x: Maps, spec: Convolution) -> Maps:
        self._keep(x)
        return self.norm(self._new(spec.filters, spec.side(x.side)), spec.norm)

    def norm(self, x: Maps, name: str) -> Maps:
        self._keep(x)
        return self._new(x.channels, x.side)

    def prelu(self, x: Maps, name: str) -> Maps:
        self._keep(x)
        return self._new(x.channels, x.side)

    def add(self, x: Maps, y: Maps) -> Maps:
        return self._new(x.channels, x.side)

    def head(self, x: Maps, head: Head) -> str:
        if head.before is not None:
            x = self.norm(x, head.before)
        self._keep(x)
        return ""

    def _new(self, channels: int, side: int) -> Maps:
        self._made += 1
        return Maps(str(self._made), channels, side)

    def _keep(self, x: Maps) -> None:
        self.values[x.name] = x.channels * x.side**2


def kept_values(network: Network) -> int:
    """Numbers of one crop that a forward pass keeps for the backward pass."""
    return sum(_noted(network).values.values())


def parameters(network: Network) -> int:
    """Numbers that the network's weights and statistics are."""
    return sum(prod(shape) for shape in expected_shapes(network).values())


def memory(
    network: Network, *, part: int, half: bool, centres: int, columns: int, ema: bool, crops: int
) -> dict[str, int]:
    """Bytes by part.

    Args:
        network: of the run.
        part: crops that are worked on at a time.
        half: the body computes in half precision.
        centres: class centres on this rank, K of each class.
        columns: of them that a step looks at.
        ema: a running mean of the weights is kept.
        crops: bytes of crops that lie on the device.
    """
    kept = _noted(network).values
    weights = parameters(network) * FLOAT
    size = FLOAT // 2 if half else FLOAT
    return {
        "weights": weights + (weights // 2 if half else 0),
        "gradients and momentum": 2 * weights,
        **({"running mean of the weights": weights} if ema else {}),
        "class centres, their gradients and momentum": centres * network.dimensions * FLOAT * 3,
        "logits": HEAD_COPIES * part * columns * FLOAT,
        "activations": part * (sum(kept.values()) + 2 * max(kept.values())) * size,
        **({"crops": crops} if crops else {}),
    }


def _noted(network: Network) -> _Kept:
    kept = _Kept()
    write(network, kept, Maps("", 3, network.input_size))
    return kept
