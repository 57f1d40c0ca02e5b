"""The margin on a cosine: cos(m1 theta + m2) - m3, with its true gradient or the tutorial's.

Enters: the cosine of each embedding to its own class centre. Leaves: the cosine that the softmax sees instead.
One function serves SphereFace, ArcFace, CosFace, their mixtures CM1 and CM2, and AdaFace's margin for each row.

ArcFace (arXiv 1801.07698v4), section 3.1 and equation 4, is the source of the formula and of the figures in MARGINS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from train.settings import LossSettings

# B embeddings of a batch

MIN_ANGLE: Final = 1e-4
"""Radians from either pole at which the slope stops growing: 1 / sin is infinite at cos = +-1. float32 tells apart no
angles below 3.5e-4, so only the poles themselves are touched."""


@dataclass(frozen=True, slots=True)
class Margin:
    """cos(m1 theta + m2) - m3 in place of cos(theta)."""

    m1: float = 1.0
    m2: float = 0.0
    """Radians."""
    m3: float = 0.0

    @property
    def is_none(self) -> bool:
        return (self.m1, self.m2, self.m3) == (1.0, 0.0, 0.0)


MARGINS: Final = {
    "softmax": Margin(),
    "norm_softmax": Margin(),
    "sphereface": Margin(m1=1.35),
    "arcface": Margin(m2=0.5),
    "cosface": Margin(m3=0.35),
    "cm1": Margin(m2=0.3, m3=0.2),
    "cm2": Margin(m1=0.9, m2=0.4, m3=0.15),
    "combined": Margin(),
    "adaface": Margin(m2=0.4, m3=0.4),
    "triplet": Margin(),
}
"""Each kind's own. AdaFace's are the most that a row can get, see ``train.losses.adaface``."""


def margin_of(loss: LossSettings) -> Margin:
    """The kind's own margin, with what the settings give in its place."""
    own = MARGINS[loss.kind]
    return Margin(
        m1=own.m1 if loss.m1 is None else loss.m1,
        m2=own.m2 if loss.m2 is None else loss.m2,
        m3=own.m3 if loss.m3 is None else loss.m3,
    )


def with_margin(
    target_cosine_B: Tensor,
    margin: Margin,
    grad: Literal["exact", "straight_through"] = "exact",
    *,
    m2_B: Tensor | None = None,
    m3_B: Tensor | None = None,
) -> Tensor:
    """cos(m1 theta + m2) - m3, row by row.

    ``exact`` has the slope m1 sin(m1 theta + m2) / sin(theta), finite at both poles. Beyond m1 theta + m2 = pi the
    cosine would rise again and push the embedding away from its centre; there the value is cos(theta) less a constant,
    so that the slope is 1 and the value still falls with theta. Below m1 theta + m2 = 0, which only AdaFace's negative
    m2 reaches, the value is 1 - m3 and the slope 0, as in AdaFace's own code.

    ``straight_through`` is the tutorial's listing: the same formula without a guard, and the gradient of the identity.

    Args:
        target_cosine_B: to the own centre, [-1, 1] but for rounding; half precision is raised to float32.
        margin: m1, m2 and m3 of all rows.
        grad: see above.
        m2_B, m3_B: in place of the margin's, one for each row; constants, no gradient goes into them.

    Returns:
        (B,) float32, or float64 if that came in.
    """
    cosine_B = target_cosine_B if target_cosine_B.dtype == torch.float64 else target_cosine_B.float()
    if margin.is_none and m2_B is None and m3_B is None:
        return cosine_B
    m2 = margin.m2 if m2_B is None else m2_B.detach().to(cosine_B)
    m3 = margin.m3 if m3_B is None else m3_B.detach().to(cosine_B)
    if grad == "straight_through":
        values_B = torch.cos(margin.m1 * torch.acos(cosine_B.detach().clamp(-1, 1)) + m2) - m3
        return _StraightThrough.apply(cosine_B, values_B)  # type: ignore[no-any-return, no-untyped-call]
    return _Exact.apply(cosine_B, margin.m1, m2, m3)  # type: ignore[no-any-return, no-untyped-call]


def angle(cosine: Tensor) -> Tensor:
    """acos whose gradient is finite at both poles; any shape, float32 or float64, radians out."""
    return _Angle.apply(cosine if cosine.dtype == torch.float64 else cosine.float())  # type: ignore[no-any-return, no-untyped-call]


def _guard_drop(m1: float, m2: float | Tensor) -> float | Tensor:
    """What is taken off the cosine beyond m1 theta + m2 = pi.

    For m1 = 1 it is m2 sin(m2), as in the authors' code (at the border the value falls by m2 sin m2 - 1 + cos m2, .117
    for ArcFace). That rule would let the value rise for another m1; there the border is made continuous.
    """
    if m1 == 1:
        return m2 * (torch.sin(m2) if isinstance(m2, Tensor) else math.sin(m2))
    border = (math.pi - m2) / m1
    return 1 + (torch.cos(border) if isinstance(border, Tensor) else math.cos(border))


class _Exact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cosine_B: Tensor, m1: float, m2: float | Tensor, m3: float | Tensor) -> Tensor:
        clamped_B = cosine_B.clamp(-1, 1)
        moved_B = m1 * torch.acos(clamped_B) + m2
        guarded_B = moved_B > math.pi
        # the slope is that of an angle a hair inside the poles; sin / sin is then exactly 1 for CosFace
        inside_B = torch.acos(clamped_B).clamp(MIN_ANGLE, math.pi - MIN_ANGLE)
        slope_B = m1 * torch.sin((m1 * inside_B + m2).clamp(0, math.pi)) / torch.sin(inside_B)
        ctx.save_for_backward(torch.where(guarded_B, torch.ones_like(slope_B), slope_B))
        values_B = torch.where(guarded_B, clamped_B - _guard_drop(m1, m2), torch.cos(moved_B.clamp(min=0)))
        return values_B - m3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None, None, None]:
        (slope_B,) = ctx.saved_tensors
        return grad_B * slope_B, None, None, None


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cosine_B: Tensor, values_B: Tensor) -> Tensor:
        return values_B.clone()

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None]:
        return grad_B, None


class _Angle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cosine: Tensor) -> Tensor:
        angles = torch.acos(cosine.clamp(-1, 1))
        ctx.save_for_backward(angles)
        return angles

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (angles,) = ctx.saved_tensors
        sine: Tensor = torch.sin(angles.clamp(MIN_ANGLE, math.pi - MIN_ANGLE))
        return grad.neg().div(sine)
