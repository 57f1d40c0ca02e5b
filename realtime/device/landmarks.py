"""dlib's shape predictor for all faces of all cameras at once, on any device that torch knows.

Enters: grey frames of one size, boxes and the frame of each. Leaves: points, whole pixels as dlib gives them. The host
never waits. Shapes are float32 and what the trees add is added one after the other, as dlib does: the last bit of a sum
decides at times which pixel is looked at, and of the points 1 % moved by a pixel where it was added otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engines.dlib.shape_predictor import ShapePredictor, read_shape_predictor
from realtime.faces.landmarks import FILES, dlib_model_path

# B frames of H x W pixels; N faces; P points; F pixels that a cascade looks at; T trees, S splits, L leaves; C cascades


class DeviceLandmarker:
    """Points of faces. Each call works on the device's current stream."""

    def __init__(self, points: str | ShapePredictor = "5", *, device: torch.device | str) -> None:
        """
        Args:
            points: ``5`` or ``68``, or a predictor that was read.
            device: that frames and boxes lie on.

        Raises:
            RealtimeError, ModelFileError: dlib's file is missing or damaged.
        """
        predictor = read_shape_predictor(dlib_model_path(FILES[points])) if isinstance(points, str) else points
        self.count = predictor.points
        self.device = torch.device(device)
        cascades, trees, leaves = predictor.leaves_CTLP2.shape[:3]
        self._depth = predictor.depth
        self._mean_P2 = _on(predictor.mean_P2, self.device)
        self._anchors_CF = _on(predictor.anchors_CF, self.device)
        self._deltas_CF2 = _on(predictor.deltas_CF2, self.device)
        self._first_CS = _on(predictor.first_CTS.reshape(cascades, -1), self.device)
        self._second_CS = _on(predictor.second_CTS.reshape(cascades, -1), self.device)
        self._thresholds_CS = _on(predictor.thresholds_CTS.reshape(cascades, -1), self.device)
        self._leaves_CLV = _on(predictor.leaves_CTLP2.reshape(cascades, trees * leaves, -1), self.device)
        self._first_leaf_T = _on(torch.arange(trees) * leaves, self.device)
        mean_P2 = self._mean_P2.double()
        self._centred_P2 = mean_P2 - mean_P2.mean(dim=0)
        self._spread = self._centred_P2.square().sum()

    def points(self, grey_BHW: Tensor, boxes_N4: Tensor, frames_N: Tensor) -> Tensor:
        """
        Args:
            grey_BHW: (B, H, W) uint8.
            boxes_N4: (N, 4) xyxy pixels; may reach over the frame's edge.
            frames_N: (N,) int64, the frame of each box.

        Returns:
            (N, P, 2) float64 xy pixels, whole numbers.
        """
        box_N4 = torch.round(boxes_N4).double()
        low_N12 = box_N4[:, None, :2]
        size_N12 = box_N4[:, None, 2:] - 1 - low_N12  # dlib's rectangles include their last pixel
        shape_NP2 = self._mean_P2.expand(len(boxes_N4), -1, -1)
        for cascade in range(len(self._anchors_CF)):
            places_NF2 = self._places(cascade, shape_NP2)
            pixels_NF2 = _rounded(places_NF2.double() * size_N12 + low_N12).long()
            values_NF = _looked_up(grey_BHW, frames_N, pixels_NF2)
            leaves_NT = self._leaves(cascade, values_NF)
            shape_NP2 = _added_in_order(shape_NP2.flatten(1), self._leaves_CLV[cascade], leaves_NT).view_as(shape_NP2)
        return _rounded(shape_NP2.double() * size_N12 + low_N12)

    def _places(self, cascade: int, shape_NP2: Tensor) -> Tensor:
        """Where a cascade looks, in the unit square of the box: (N, F, 2) float32.

        The similarity from the mean shape to the current one is least squares; turned and scaled by it, each pixel
        stays beside its point.
        """
        shape = shape_NP2.double()
        centred = shape - shape.mean(dim=1, keepdim=True)
        mean_P2 = self._centred_P2
        real_N1 = ((centred * mean_P2).sum(dim=(1, 2)) / self._spread).float()[:, None]
        crossed_NP = centred[..., 1] * mean_P2[:, 0] - centred[..., 0] * mean_P2[:, 1]
        imaginary_N1 = (crossed_NP.sum(dim=1) / self._spread).float()[:, None]
        x_F, y_F = self._deltas_CF2[cascade].unbind(-1)
        turned_NF2 = torch.stack([real_N1 * x_F - imaginary_N1 * y_F, imaginary_N1 * x_F + real_N1 * y_F], dim=-1)
        return turned_NF2 + shape_NP2.index_select(1, self._anchors_CF[cascade])

    def _leaves(self, cascade: int, values_NF: Tensor) -> Tensor:
        """The leaf in which each tree of a cascade ends: (N, T) rows of the cascade's table."""
        first_NS = values_NF.index_select(1, self._first_CS[cascade])
        differences_NS = first_NS - values_NF.index_select(1, self._second_CS[cascade])
        right_NS = differences_NS <= self._thresholds_CS[cascade]
        right_NTS = right_NS.view(len(values_NF), len(self._first_leaf_T), (1 << self._depth) - 1).long()
        node_NT1 = torch.zeros_like(right_NTS[..., :1])
        for _ in range(self._depth):
            node_NT1 = 2 * node_NT1 + 1 + right_NTS.gather(2, node_NT1)
        return node_NT1[..., 0] - right_NTS.shape[2] + self._first_leaf_T


def _added_in_order(start_NV: Tensor, table_LV: Tensor, rows_NT: Tensor) -> Tensor:
    """``start + table[rows[0]] + table[rows[1]] + ...``, rounded to float32 after each."""
    add = _one_by_one if start_NV.device.type == "cpu" else _scanned  # a processor's cumsum keeps a float64 sum
    return add(start_NV, table_LV, rows_NT)


def _one_by_one(start_NV: Tensor, table_LV: Tensor, rows_NT: Tensor) -> Tensor:
    for rows_N in rows_NT.unbind(1):
        start_NV = start_NV + table_LV.index_select(0, rows_N)
    return start_NV


def _scanned(start_NV: Tensor, table_LV: Tensor, rows_NT: Tensor) -> Tensor:
    parts_NTV = table_LV.index_select(0, rows_NT.flatten()).view(*rows_NT.shape, -1)
    # along an inner axis CUDA's cumsum is one thread a column, from its first row to its last
    return torch.cat([start_NV[:, None], parts_NTV], dim=1).cumsum(dim=1)[:, -1]


def _rounded(values: Tensor) -> Tensor:
    """To whole pixels as dlib does: halves go up."""
    return torch.floor(values + 0.5)


def _looked_up(grey_BHW: Tensor, frames_N: Tensor, pixels_NF2: Tensor) -> Tensor:
    """Values of pixels, float32; 0 outside of the frame."""
    height, width = grey_BHW.shape[1:]
    x_NF, y_NF = pixels_NF2.unbind(-1)
    inside_NF = (x_NF >= 0) & (x_NF < width) & (y_NF >= 0) & (y_NF < height)
    flat_NF = (frames_N[:, None] * height + y_NF.clamp(0, height - 1)) * width + x_NF.clamp(0, width - 1)
    return grey_BHW.reshape(-1)[flat_NF].float() * inside_NF


def _on(values: object, device: torch.device) -> Tensor:
    return torch.as_tensor(values).to(device)
