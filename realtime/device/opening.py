"""Builds a ``DeviceAnalyser`` from a model file and references."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.dlib.detector import CnnDetector
from engines.export import ModelFile
from engines.gpu.opening import open_on_device
from realtime.device.alignment import DeviceAligner
from realtime.device.analyser import BatchDetector, DeviceAnalyser
from realtime.device.landmarks import DeviceLandmarker
from realtime.people.matching import References


@dataclass(frozen=True, slots=True)
class HostFound:
    """``Found`` of a detector that gives all it has."""

    boxes_BK4: Tensor
    scores_BK: Tensor
    counts_B: Tensor
    overflowed_B: Tensor


class HostDetector:
    """dlib's CNN detector on the processor behind the interface of one on a device: the reference, and what is left
    where the device cannot run it."""

    def __init__(self, network: CnnDetector, device: torch.device) -> None:
        self._network = network
        self._device = device

    def detect(self, frames_BHWC: Tensor, min_score: float = 0.0) -> HostFound:
        each = [self._network.detect(frame, min_score=min_score) for frame in frames_BHWC.cpu().numpy()]
        places = max([1, *(len(scores_N) for _, scores_N in each)])
        boxes_BK4 = np.zeros((len(each), places, 4), dtype=np.float32)
        scores_BK = np.zeros((len(each), places), dtype=np.float32)
        for frame, (boxes_N4, scores_N) in enumerate(each):
            boxes_BK4[frame, : len(boxes_N4)], scores_BK[frame, : len(scores_N)] = boxes_N4, scores_N
        counts_B = torch.tensor([len(scores_N) for _, scores_N in each])
        tensors = (torch.from_numpy(boxes_BK4), torch.from_numpy(scores_BK), counts_B, torch.zeros_like(counts_B))
        return HostFound(*(tensor.to(self._device) for tensor in tensors))


def open_device_analyser(
    model: ModelFile,
    references: References,
    device: torch.device,
    *,
    precision: str = "fp16",
    detector: BatchDetector | None = None,
    points: str = "5",
    min_score: float = 0.0,
) -> DeviceAnalyser:
    """
    Args:
        model: embeds faces.
        references: of that model.
        device: where everything runs.
        precision: fp32, bf16 or fp16, of both networks.
        detector: dlib's CNN on the device in ``precision`` if not given.
        points: ``5`` or ``68`` landmarks.
        min_score: of boxes.

    Raises:
        RealtimeError: the model's alignment template is not sampled on a device, or dlib's files are missing.
        EngineError: a network does not work there.
    """
    exact = CnnDetector(runtime="onnxruntime", precision="fp32")

    def all_boxes(rgb_HW3: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return exact.detect(rgb_HW3, min_score=min_score)

    return DeviceAnalyser(
        detector or HostDetector(exact, device),
        all_boxes,
        DeviceLandmarker(points, device=device),
        DeviceAligner(model.manifest.template, int(points), device=device),
        open_on_device(model, device, precision),
        references,
        min_score=min_score,
    )
