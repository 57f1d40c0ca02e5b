"""The embedding networks that this project knows by their layers.

Enters: a name. Leaves: the numbers that make the network, or the network itself as a torch module. This table needs no
torch; ``layouts`` says what the numbers mean, ``iresnet`` and ``mobilefacenet`` are the same networks for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from torch import nn

STRIDE: Final = 16
"""Every network here halves its input four times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What tells one network of a family from another. Small numbers make a network that is quick to test."""

    name: str
    family: Literal["iresnet", "mobilefacenet"]
    blocks: tuple[int, int, int, int]
    """Residual blocks of the four stages."""
    width: int
    """Channels of the first stage."""
    expansion: int = 0
    """Channels inside the first blocks of a mobilefacenet; later ones have two and four times as many."""
    dimensions: int = 512
    """Length D of an embedding."""
    input_size: int = 112
    """Side of the input, pixels: a multiple of 16."""

    def __post_init__(self) -> None:
        if min(self.blocks) < 1 or min(self.width, self.dimensions, self.input_size) < 1:
            raise ValueError(f"{self.name}: blocks {self.blocks}, width {self.width}: every number must be positive")
        if self.input_size % STRIDE:
            raise ValueError(f"{self.name}: input_size is {self.input_size}; a multiple of {STRIDE} is needed")

    @property
    def last_side(self) -> int:
        """Side of the last feature map, 7 for an input of 112 pixels."""
        return self.input_size // STRIDE


def _iresnet(depth: int, *blocks: int) -> Network:
    first, second, third, fourth = blocks
    return Network(name=f"iresnet{depth}", family="iresnet", blocks=(first, second, third, fourth), width=64)


NETWORKS: Final = {
    network.name: network
    for network in (
        _iresnet(18, 2, 2, 2, 2),
        _iresnet(34, 3, 4, 6, 3),
        _iresnet(50, 3, 4, 14, 3),
        _iresnet(100, 3, 13, 30, 3),
        _iresnet(200, 6, 26, 60, 6),
        Network(name="mobilefacenet", family="mobilefacenet", blocks=(1, 4, 6, 2), width=128, expansion=128),
        Network(name="mobilefacenet-large", family="mobilefacenet", blocks=(2, 8, 12, 4), width=256, expansion=128),
    )
}
"""By name; the depths and widths are those of insightface's arcface_torch (its r18 to r200, mbf and mbf_large)."""


def known_network(name: str) -> Network:
    """One entry.

    Raises:
        ValueError: no such network; the message lists the known ones.
    """
    if name not in NETWORKS:
        raise ValueError(f"network is {name!r}; known are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def build(network: Network, **options: Any) -> nn.Module:
    """The network as a torch module with fresh weights; ``options`` are those of its family (``dropout``).

    Raises:
        RuntimeMissing: torch is not installed.
    """
    from engines.networks.library import torch_library

    torch_library()
    from engines.networks.iresnet import IResNet
    from engines.networks.mobilefacenet import MobileFaceNet

    families: dict[str, type[nn.Module]] = {"iresnet": IResNet, "mobilefacenet": MobileFaceNet}
    return families[network.family](network, **options)
