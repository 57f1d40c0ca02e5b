"""MobileFaceNet as a torch module, for training and for parity.

Enters: (N, 3, S, S) float RGB in [-1, 1]. Leaves: (N, D) float32 embeddings, not of unit length. Names of parameters
and buffers are those of insightface's arcface_torch (mbf, mbf_large), so that its weights load with ``strict=True``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engines.networks import Network


class Layers(nn.Module):
    """Modules in order, under the name ``layers`` as in the files."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class DepthWise(Layers):
    """Widen, filter each channel by itself, narrow; with a shortcut where neither side nor width changes."""

    def __init__(self, channels: int, filters: int, inner: int, *, stride: int) -> None:
        super().__init__(
            _convolution(channels, inner, 1),
            _convolution(inner, inner, 3, stride=stride, groups=inner),
            _convolution(inner, filters, 1, active=False),
        )
        self.shortcut = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return x + y if self.shortcut else y


class MobileFaceNet(nn.Module):
    """The whole network. Under autocast the body is in half precision; from ``conv_sep`` on it is float32."""

    def __init__(self, network: Network, *, dropout: float = 0.0) -> None:
        """
        Args:
            network: an entry of ``NETWORKS`` of this family, or one of your own.
            dropout: share of the features before the last layer that training sets to 0.
        """
        super().__init__()
        width, inner, last = network.width, network.expansion, 4 * network.expansion
        first, second, third, fourth = network.blocks
        self.layers = nn.ModuleList(
            [
                _convolution(3, width, 3, stride=2),
                _convolution(width, width, 3, groups=inner // 2) if first == 1 else _residual(width, inner, first),
                DepthWise(width, width, inner, stride=2),
                _residual(width, inner, second),
                DepthWise(width, 2 * width, 2 * inner, stride=2),
                _residual(2 * width, 2 * inner, third),
                DepthWise(2 * width, 2 * width, 4 * inner, stride=2),
                _residual(2 * width, 2 * inner, fourth),
            ]
        )
        self.conv_sep = _convolution(2 * width, last, 1)
        self.features = Layers(
            _convolution(last, last, network.last_side, groups=last, active=False, pad=0),
            nn.Sequential(nn.Flatten(), nn.Dropout(dropout)),
            nn.Linear(last, network.dimensions, bias=False),
            nn.BatchNorm1d(network.dimensions),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        with torch.autocast(x.device.type, enabled=False):
            embeddings: Tensor = self.features(self.conv_sep(x.float()))
        return embeddings


def _convolution(
    channels: int,
    filters: int,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    active: bool = True,
    pad: int | None = None,
) -> Layers:
    """Convolution and norm, and a PReLU where ``active``."""
    padding = size // 2 if pad is None else pad
    convolution = nn.Conv2d(channels, filters, size, stride, padding, groups=groups, bias=False)
    return Layers(convolution, nn.BatchNorm2d(filters), *([nn.PReLU(filters)] if active else []))


def _residual(channels: int, inner: int, count: int) -> Layers:
    return Layers(*(DepthWise(channels, channels, inner, stride=1) for _ in range(count)))
