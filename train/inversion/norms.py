"""How far a batch of images is from what the norms of a network remember of the faces it was trained on.

Enters: a network. Leaves: a sum over its BatchNorm2d layers of squared distances between the statistics of their inputs
and the running ones. The network is in eval mode, so the statistics are looked at and not used.

Source: ArcFace (arXiv 1801.07698v4), section 3.6, after Yin et al., Dreaming to Distill (CVPR 2020).
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

# B images; C channels; H, W sides of a feature map


class NormDistance:
    """While it is entered, each forward pass of the network leaves its distance in ``take``."""

    def __init__(self, module: nn.Module) -> None:
        self._norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
        self._found: list[Tensor] = []
        self._hooks: list[RemovableHandle] = []

    def __len__(self) -> int:
        """Norms that are looked at."""
        return len(self._norms)

    def __enter__(self) -> NormDistance:
        self._hooks = [norm.register_forward_pre_hook(self._look) for norm in self._norms]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._found = [], []

    def take(self) -> Tensor:
        """Scalar: of the last forward pass, and forget it."""
        found, self._found = self._found, []
        return torch.stack(found).sum() if found else torch.zeros(())

    def _look(self, norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        self._found.append(norm_distance(norm, inputs[0]))


def norm_distance(norm: nn.BatchNorm2d, maps_BCHW: Tensor) -> Tensor:
    """|mu - running mean|^2 + |sigma - running sigma|^2 over the channels, scalar.

    Means and standard deviations are over the batch and all places of a map.
    """
    centre_C, spread_C = norm.running_mean, norm.running_var
    assert centre_C is not None, "a norm without running statistics remembers nothing"
    assert spread_C is not None
    variance_C, mean_C = torch.var_mean(maps_BCHW, dim=(0, 2, 3), correction=0)
    remembered_C = (spread_C + norm.eps).sqrt()
    sigma_C = (variance_C + norm.eps).sqrt()
    return (mean_C - centre_C).square().sum() + (sigma_C - remembered_C).square().sum()
