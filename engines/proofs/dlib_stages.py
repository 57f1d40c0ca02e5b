"""Where the detector's time goes, and which way of making its kernels is the quickest.

Enters: frames of one size. Leaves: tables of a ``Proof``: the time up to the canvas, up to the scores and up to the
boxes, each recorded as a graph of its own; each way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.nn import functional

from engines.dlib.networks import read_mmod
from engines.dlib.pyramid import layout
from engines.dlib.widened import detector_module
from engines.gpu.buckets import Compute, cuda_graph, plain
from engines.gpu.candidates import WAYS
from engines.gpu.detector import DeviceDetector
from engines.models import CNN_DETECTOR, find_weights
from engines.proofs.attempts import attempt
from engines.proofs.clock import device_times
from engines.proofs.record import Proof

TRIED: Final = ("triton", "eager")

BATCHES: Final = (1, 8, 32)

Frames = NDArray[np.uint8]


def prove_stages(proof: Proof, device: torch.device, frames: Frames) -> None:
    """Both tables, in fp16."""
    height, width = frames.shape[1:3]
    batches = (1, 2) if proof.dry_run else BATCHES
    ways = proof.table(
        "ways",
        f"Detector, {width}x{height}, fp16: ways of making the kernels, time of the device",
        ("way", *(f"ms of {batch}" for batch in batches)),
    )
    for way in TRIED:
        if proof.has_time(f"way {way}", 0 if proof.dry_run else 20):
            attempt(
                proof,
                f"way {way}",
                lambda: proof.row(ways, way, *_way(way, device, frames, batches, proof.dry_run)),  # noqa: B023
            )
    stages = proof.table(
        "stages",
        f"Detector, {width}x{height}, fp16: time of the device up to here",
        ("up to", *(f"ms of {batch}" for batch in batches)),
        note="in the first of the ways that works; each row holds the one before it",
    )
    for stage in ("canvas", "scores", "boxes"):
        if proof.has_time(f"stage {stage}", 0 if proof.dry_run else 20):
            attempt(
                proof,
                f"stage {stage}",
                lambda: proof.row(stages, stage, *_stage(stage, device, frames, batches, proof.dry_run)),  # noqa: B023
            )


def _way(way: str, device: torch.device, frames: Frames, batches: tuple[int, ...], dry_run: bool) -> list[float]:
    detector = DeviceDetector(device, "fp16", ways=(way,))
    try:
        return [
            _ms(lambda: detector.detect(images), device, dry_run)  # noqa: B023
            for images in (_batch(frames, batch, device) for batch in batches)
        ]
    finally:
        detector.close()


def _stage(stage: str, device: torch.device, frames: Frames, batches: tuple[int, ...], dry_run: bool) -> list[float]:
    if stage == "boxes":
        first = "triton" if device.type == "cuda" else "eager"
        return _way(first, device, frames, batches, dry_run)
    height, width = frames.shape[1:3]
    network = read_mmod(find_weights(*CNN_DETECTOR)).network
    module = detector_module(network, layout(width, height), torch.float16, "the detector")
    if stage == "canvas":
        compute: Compute = up_to_canvas(module).to(device).forward
    else:
        compute = WAYS["triton" if device.type == "cuda" else "eager"](module, device)
    times = []
    with torch.no_grad():
        for batch in batches:
            images = _batch(frames, batch, device)
            if device.type != "cuda":
                times.append(_ms(plain(compute, images), device, dry_run))
                continue
            with torch.cuda.stream(torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
                torch.cuda.synchronize(device)
                times.append(_ms(cuda_graph(compute, images), device, dry_run))
    return times


def up_to_canvas(module: fx.GraphModule) -> fx.GraphModule:
    """The module cut in front of its first convolution, behind the cast to its type; it is changed and returned."""
    first = next(node for node in module.graph.nodes if node.target is functional.conv2d)
    output = next(node for node in module.graph.nodes if node.op == "output")
    output.args = (first.args[0],)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _batch(frames: Frames, count: int, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(frames[np.arange(count) % len(frames)]).to(device)


def _ms(call: Callable[[], object], device: torch.device, dry_run: bool) -> float:
    seconds, least = (0.0, 2) if dry_run else (0.3, 5)
    return device_times(call, device, seconds=seconds, least=least).p50_ms
