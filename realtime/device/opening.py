"""Builds a ``DeviceAnalyser`` from a model file and references."""

from __future__ import annotations

import torch

from engines.export import ModelFile
from engines.gpu.detector import DeviceDetector
from engines.gpu.opening import open_on_device
from realtime.device.alignment import DeviceAligner
from realtime.device.analyser import BatchDetector, DeviceAnalyser
from realtime.device.landmarks import DeviceLandmarker
from realtime.device.recorded import RecordedLandmarker
from realtime.people.matching import References


def open_device_analyser(
    model: ModelFile,
    references: References,
    device: torch.device,
    *,
    precision: str = "fp16",
    detector: BatchDetector | None = None,
    measured: bool = True,
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
        measured: run the network in its fastest form on a GPU, which takes a minute to find out the first time; else as
            torch runs it.
        points: ``5`` or ``68`` landmarks.
        min_score: of boxes.

    Raises:
        RealtimeError: the model's alignment template is not sampled on a device, or dlib's files are missing.
        EngineError: a network does not work there.
    """
    return DeviceAnalyser(
        DeviceDetector(device, precision) if detector is None else detector,
        RecordedLandmarker(DeviceLandmarker(points, device=device)),
        DeviceAligner(model.manifest.template, int(points), device=device),
        open_on_device(model, device, precision, measured=measured),
        references,
        min_score=min_score,
    )
