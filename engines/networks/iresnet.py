"""iresnet18 to iresnet200 as torch modules, for training and for parity.

Enters: (N, 3, S, S) float RGB in [-1, 1]. Leaves: (N, D) float32 embeddings, not of unit length. Names of parameters
and buffers are those of insightface's arcface_torch, so that its weights load with ``strict=True``.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from engines.networks import Network

CONVOLUTION_DEVIATION: Final = 0.1
"""Standard deviation of fresh convolution weights, as arcface_torch has it."""


class Block(nn.Module):
    """x + norm(conv(prelu(norm(conv(norm(x)))))); the first of a stage halves the side and widens its shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.prelu = nn.PReLU(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(filters)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != filters:
            shortcut = nn.Conv2d(channels, filters, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(filters))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """The whole network. Under autocast the body is in half precision, the last layer and its norm in float32."""

    def __init__(self, network: Network, *, dropout: float = 0.0) -> None:
        """
        Args:
            network: an entry of ``NETWORKS`` of this family, or one of your own.
            dropout: share of the features before the last layer that training sets to 0.
        """
        super().__init__()
        width = network.width
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        channels = width
        for stage, count in enumerate(network.blocks):
            filters = width << stage
            blocks = [Block(channels if i == 0 else filters, filters, 2 if i == 0 else 1) for i in range(count)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            channels = filters
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels * network.last_side**2, network.dimensions)
        self.features = nn.BatchNorm1d(network.dimensions)
        # a scale a dimension would let the loss shrink some of them to nothing
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=CONVOLUTION_DEVIATION)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        x = self.dropout(torch.flatten(self.bn2(x), 1))
        with torch.autocast(x.device.type, enabled=False):
            embeddings: Tensor = self.features(self.fc(x.float()))
        return embeddings
