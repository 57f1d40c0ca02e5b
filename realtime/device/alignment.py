"""Crops of all faces of all cameras, on any device that torch knows; pixels as ``realtime.faces.alignment`` gives them.

Enters: RGB frames of one size, points of faces and the frame of each. Leaves: uint8 crops. Matrices are float64 as on
the processor; bilinear sampling is float32 as in OpenCV, and a pixel differs by 1 now and then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from realtime.errors import RealtimeError
from realtime.faces.alignment import Template, template_named

# B frames of H x W pixels; N faces; P points; K points that are fitted; S side of a crop; Q=4 pixels around a place

REACH = 3
"""What is averaged down reaches so many widths of the points around them."""


AT_ONCE = 256
"""Faces of one pass, which takes some 8 MB each."""


class DeviceAligner:
    """Warps faces upright. Each call works on the device's current stream."""

    def __init__(self, template: str | Template, points: int, *, device: torch.device | str) -> None:
        """
        Args:
            template: name in ``TEMPLATES``, or one of the caller's own.
            points: 5 or 68, of each face.
            device: that frames lie on.

        Raises:
            RealtimeError: the template samples cubically.
            ValueError: unknown template, or another number of points.
        """
        wanted = template_named(template) if isinstance(template, str) else template
        if points not in (5, 68):
            raise ValueError(f"points are 5 or 68 a face, but got {points}")
        if wanted.cubic:
            raise RealtimeError(
                "this model's alignment template is sampled cubically, which is not done on a device; run it on the "
                "processor, or use a model of another template"
            )
        self.size = wanted.size
        self.device = torch.device(device)
        self._corners = wanted.dlib_corners
        picks, targets = (wanted.pick_5, wanted.from_5) if points == 5 else (wanted.pick_68, wanted.from_68)
        means_KP = torch.zeros(len(picks), points, dtype=torch.float64)
        for row, pick in enumerate(picks):
            means_KP[row, list(pick)] = 1 / len(pick)
        self._means_KP = means_KP.to(self.device)
        targets_K2 = torch.as_tensor(targets, dtype=torch.float64)
        self._target_2 = targets_K2.mean(dim=0).to(self.device)
        self._targets_K2 = (targets_K2 - targets_K2.mean(dim=0)).to(self.device)

    def matrices(self, points_NP2: Tensor) -> Tensor:
        """Image pixels -> crop pixels, (N, 2, 3) float64; see ``realtime.faces.alignment.alignment_matrix``."""
        sources_NK2 = torch.einsum("kp,npc->nkc", self._means_KP, points_NP2.double())
        source_N2 = sources_NK2.mean(dim=1)
        centred = sources_NK2 - source_N2[:, None]
        spread_N = centred.square().sum(dim=(1, 2))
        targets_K2 = self._targets_K2
        crossed_NK = centred[..., 0] * targets_K2[:, 1] - centred[..., 1] * targets_K2[:, 0]
        some_N = spread_N > 0
        divisor_N = torch.where(some_N, spread_N, 1.0)
        real_N = torch.where(some_N, (centred * targets_K2).sum(dim=(1, 2)) / divisor_N, 1.0)
        imaginary_N = crossed_NK.sum(dim=1) / divisor_N
        x_N, y_N = source_N2.unbind(1)
        shift_x_N = self._target_2[0] - (real_N * x_N - imaginary_N * y_N)
        shift_y_N = self._target_2[1] - (imaginary_N * x_N + real_N * y_N)
        rows = [real_N, -imaginary_N, shift_x_N, imaginary_N, real_N, shift_y_N]
        matrices_N23 = torch.stack(rows, dim=1).view(-1, 2, 3)
        return self._to_dlib_corners(matrices_N23) if self._corners else matrices_N23

    def steps(self, matrices_N23: Tensor) -> Tensor:
        """How often each face is halved before it is sampled: (N,) int64, 0 for those below twice their crop."""
        scale_N = torch.hypot(matrices_N23[:, 0, 0], matrices_N23[:, 1, 0])
        large_N = (scale_N > 0) & (scale_N < 0.5)
        return torch.where(large_N, torch.floor(torch.log2(1 / torch.where(large_N, scale_N, 1.0))), 0.0).long()

    def crops(
        self,
        rgb_BHW3: Tensor,
        points_NP2: Tensor,
        frames_N: Tensor,
        matrices_N23: Tensor,
        steps_N: Tensor,
        steps: Sequence[int],
    ) -> Tensor:
        """
        Args:
            rgb_BHW3: uint8 frames.
            points_NP2: pixels of their frame.
            frames_N: int64, the frame of each face.
            matrices_N23: of ``matrices``.
            steps_N: of ``steps``.
            steps: the same as the host read them, at least one: the faces of one factor are warped together.

        Returns:
            (N, S, S, 3) uint8.
        """
        counts = Counter(steps)
        if len(counts) == 1 and len(steps) <= AT_ONCE:
            return self._some(rgb_BHW3, points_NP2, frames_N, matrices_N23, 2 ** steps[0])
        crops_NSS3 = rgb_BHW3.new_empty(len(steps), self.size, self.size, 3)
        kinds = sorted(counts)
        parts = torch.split(torch.argsort(steps_N, stable=True), [counts[kind] for kind in kinds])
        for kind, part in zip(kinds, parts, strict=True):
            for rows in torch.split(part, AT_ONCE):
                some = self._some(rgb_BHW3, points_NP2[rows], frames_N[rows], matrices_N23[rows], 2**kind)
                crops_NSS3.index_copy_(0, rows, some)
        return crops_NSS3

    def _to_dlib_corners(self, matrices_N23: Tensor) -> Tensor:
        size = self.size
        scale_N = torch.hypot(matrices_N23[:, 0, 0], matrices_N23[:, 1, 0])
        factor_N1 = ((size - 1) / (size - scale_N).clamp(min=1.0))[:, None]
        shift_N2 = matrices_N23[:, :, 2] * factor_N1 + ((size - 1) / 2 - factor_N1 * size / 2)
        return torch.cat([matrices_N23[:, :, :2] * factor_N1[..., None], shift_N2[..., None]], dim=2)

    def _some(
        self, rgb_BHW3: Tensor, points_NP2: Tensor, frames_N: Tensor, matrices_N23: Tensor, factor: int
    ) -> Tensor:
        """Crops of faces that are all averaged down by ``factor`` first."""
        height, width = rgb_BHW3.shape[1:3]
        if factor == 1:
            low_N2 = torch.zeros_like(points_NP2[:, 0], dtype=torch.int64)
            count_N2 = torch.stack([low_N2[:, 0] + width, low_N2[:, 1] + height], dim=1)
            moved_N23 = matrices_N23
        else:
            low_N2, count_N2 = _regions(points_NP2.double(), width, height, factor)
            shift_N21 = (low_N2.double() + (factor - 1) / 2)[..., None]
            linear_N22 = matrices_N23[:, :, :2]
            moved = matrices_N23[:, :, 2:] + linear_N22 @ shift_N21
            moved_N23 = torch.cat([linear_N22 * factor, moved], dim=2)
        x_NSS, y_NSS = _sources(_inverted(moved_N23), self.size)
        left, top = torch.floor(x_NSS), torch.floor(y_NSS)
        right_share, low_share = (x_NSS - left)[..., None], (y_NSS - top)[..., None]
        x, y = left.long(), top.long()
        x_NQSS, y_NQSS = torch.stack([x, x + 1, x, x + 1], dim=1), torch.stack([y, y, y + 1, y + 1], dim=1)
        around = _blocks(rgb_BHW3, frames_N, x_NQSS, y_NQSS, low_N2, count_N2, factor)
        upper_left, upper_right, lower_left, lower_right = around.unbind(1)
        upper = upper_left + right_share * (upper_right - upper_left)
        lower = lower_left + right_share * (lower_right - lower_left)
        return torch.round(upper + low_share * (lower - upper)).clamp(0, 255).to(torch.uint8)


def _regions(points_NP2: Tensor, width: int, height: int, factor: int) -> tuple[Tensor, Tensor]:
    """What of a frame is averaged down: its first pixel, and how many blocks there are in x and y (N, 2)."""
    least_N2, most_N2 = points_NP2.amin(dim=1), points_NP2.amax(dim=1)
    reach_N1 = REACH * (most_N2 - least_N2).amax(dim=1, keepdim=True)
    low_N2 = torch.floor((least_N2 - reach_N1).clamp(min=0)).long()
    high_N2 = torch.ceil(most_N2 + reach_N1).long()
    high_N2 = torch.stack([high_N2[:, 0].clamp(max=width), high_N2[:, 1].clamp(max=height)], dim=1)
    span_N2 = high_N2 - low_N2
    return low_N2, torch.where(span_N2 > 0, (span_N2 // factor).clamp(min=1), 0)


def _inverted(matrices_N23: Tensor) -> Tensor:
    """Crop pixels -> image pixels, in OpenCV's order of operations."""
    a, b, c = matrices_N23[:, 0].unbind(1)
    d, e, f = matrices_N23[:, 1].unbind(1)
    area = a * e - b * d
    scale = torch.where(area != 0, 1 / torch.where(area != 0, area, 1.0), 0.0)
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    return torch.stack([a, b, -a * c - b * f, d, e, -d * c - e * f], dim=1).view(-1, 2, 3)


def _sources(inverse_N23: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where each pixel of a crop comes from: x and y, (N, S, S) float32."""
    place_S = torch.arange(size, device=inverse_N23.device, dtype=torch.float32)
    inverse = inverse_N23.float()[:, :, :, None, None]
    across, down = place_S[None, None, :], place_S[None, :, None]
    x_NSS = across * inverse[:, 0, 0] + (down * inverse[:, 0, 1] + inverse[:, 0, 2])
    y_NSS = across * inverse[:, 1, 0] + (down * inverse[:, 1, 1] + inverse[:, 1, 2])
    return x_NSS.clamp(-1e6, 1e6), y_NSS.clamp(-1e6, 1e6)


def _blocks(
    rgb_BHW3: Tensor, frames_N: Tensor, x_NQSS: Tensor, y_NQSS: Tensor, low_N2: Tensor, count_N2: Tensor, factor: int
) -> Tensor:
    """Means of blocks of ``factor`` x ``factor`` pixels, rounded as in cv2.resize; 0 beyond the region: (N, Q, S, S, 3)
    float32."""
    height, width = rgb_BHW3.shape[1:3]
    low_x, low_y, count_x, count_y = (
        each[:, None, None, None] for each in (low_N2[:, 0], low_N2[:, 1], count_N2[:, 0], count_N2[:, 1])
    )
    inside = (x_NQSS >= 0) & (x_NQSS < count_x) & (y_NQSS >= 0) & (y_NQSS < count_y)
    pixels = rgb_BHW3.reshape(-1, 3)
    first = frames_N[:, None, None, None] * height
    total = torch.zeros((), dtype=torch.int32, device=rgb_BHW3.device)
    for down in range(factor):
        row = first + (low_y + y_NQSS * factor + down).clamp(0, height - 1)
        for across in range(factor):
            total = total + pixels[row * width + (low_x + x_NQSS * factor + across).clamp(0, width - 1)].int()
    if factor == 1:
        means = total.float()
    elif factor == 2:
        means = ((total + 2) >> 2).float()
    else:
        means = torch.round(total.float() / factor**2)
    return means * inside[..., None]
