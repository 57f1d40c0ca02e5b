"""Training as people write it: modules of torch, SGD of torch, a step after the other.

Enters: a network, a number of classes, a device. Leaves: a call that trains one step. Nothing of it is used elsewhere:
it is what our own loop is measured beside.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.networks import Network, build
from train.fit.crops import Part

MARGIN: Final = 0.5
SCALE: Final = 64.0

Step = Callable[[Part], Tensor]
"""Trains on a batch; gives its loss."""


class ArcFaceHead(nn.Module):
    """ArcFace (arXiv 1801.07698, equation 3) through the angle, as tutorials have it."""

    def __init__(self, classes: int, dimensions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dimensions) * 0.01)

    def forward(self, embeddings_MD: Tensor, labels_M: Tensor) -> Tensor:
        cosines_MC = functional.linear(functional.normalize(embeddings_MD), functional.normalize(self.weight))
        angles_MC = torch.acos(cosines_MC.clamp(-1 + 1e-7, 1 - 1e-7))
        own_MC = functional.one_hot(labels_M, len(self.weight)).bool()
        return SCALE * torch.where(own_MC, torch.cos(angles_MC + MARGIN), cosines_MC)


def plain_step(
    network: Network,
    classes: int,
    device: torch.device,
    *,
    half: torch.dtype | None = None,
    tf32: bool = True,
    compiled: bool = False,
) -> Step:
    """
    Args:
        network: trained from scratch.
        classes: of the head.
        device: to train on.
        half: of autocast around the network; None trains in float32.
        tf32: convolutions may round to TF32, which is torch's default.
        compiled: the network goes through torch.compile.
    """
    torch.manual_seed(1)
    module, head = build(network).to(device).train(), ArcFaceHead(classes, network.dimensions).to(device)
    parameters = [*module.parameters(), *head.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=5e-4)
    forward: Callable[[Tensor], Tensor] = torch.compile(module) if compiled else module

    def step(part: Part) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
            images = (part.crops_MSSC.permute(0, 3, 1, 2).float() - 127.5) / 127.5
            optimiser.zero_grad()
            with torch.autocast(device.type, dtype=half) if half is not None else nullcontext():
                embeddings_MD = forward(images)
            loss = functional.cross_entropy(head(embeddings_MD.float(), part.labels_M), part.labels_M)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimiser.step()
        return loss.detach()

    return step
