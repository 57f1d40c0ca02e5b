"""dlib's networks on a GPU: the CNN detector on frames of several cameras, and the descriptor.

Enters: a device. Leaves: a ``Proof``'s tables and checks: boxes held to the processor's, every frame size with every
batch and precision, where the detector's time goes; the descriptor's cosines and speed beside torch as it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engines.benchmark.macs import count_macs, layers
from engines.dlib.detector import CnnDetector, Float32, Found
from engines.dlib.detector_graph import detector_graph
from engines.dlib.networks import read_mmod
from engines.dlib.pyramid import layout
from engines.dlib.widened import STEP
from engines.errors import EngineError, first_line
from engines.gpu.candidates import DTYPES
from engines.gpu.detector import RECORDED_FROM, DeviceDetector
from engines.models import CNN_DETECTOR, find_weights
from engines.proofs.clock import copy_bytes_s, device_times, forget_memory, host_times, matmul_flop_s
from engines.proofs.dlib_descriptor import prove_descriptor
from engines.proofs.dlib_stages import prove_stages
from engines.proofs.record import Proof, Table
from engines.proofs.scenes import scenes

TITLE: Final = "dlib's networks: the CNN detector on batches of frames, and the descriptor"

SIZES: Final = ((640, 480), (1280, 720), (1920, 1080))
BATCHES: Final = (1, 8, 32)
PRECISIONS: Final = ("fp16", "bf16", "fp32")

DRY_SIZES: Final = ((200, 160),)
DRY_BATCHES: Final = (1, 2)

COMPARED: Final = 6
"""Frames of each size that the processor looks at too: half a second or more each."""

SAME: Final = 0.5
"""Intersection over union from which two boxes are of one face."""

CLEAR: Final = 0.1
"""A face that scores less than this on the processor may be lost in fp16: it was hardly found."""


Frames = NDArray[np.uint8]


def prove(proof: Proof, device: torch.device) -> None:
    """What matters most first: boxes, fp16 in every size, the other precisions, the descriptor, and stages."""
    sizes, batches = (DRY_SIZES, DRY_BATCHES) if proof.dry_run else (SIZES, BATCHES)
    rates = _ceilings(proof, device)
    _floors(proof, sizes, rates)
    shown = {size: scenes(*size, 2 if proof.dry_run else COMPARED) for size in sizes}
    _boxes(proof, device, shown)
    table = _speed_table(proof)
    for precision in PRECISIONS:
        for size in sizes:
            _speeds(proof, table, device, shown[size], precision, batches, rates[precision])
        if precision == "fp16":
            prove_descriptor(proof, device, rates)
    prove_stages(proof, device, shown[sizes[min(1, len(sizes) - 1)]])


def _ceilings(proof: Proof, device: torch.device) -> dict[str, float]:
    table = proof.table("ceilings", "What the device can do", ("what", "rate", "unit"))
    rates = {}
    for precision in PRECISIONS:
        rates[precision] = matmul_flop_s(device, DTYPES[precision])
        proof.row(table, f"matrix products, {precision}", rates[precision] / 1e12, "TFLOP/s")
    rates["copy"] = copy_bytes_s(device)
    proof.row(table, "copy within the device, read and written", rates["copy"] / 1e9, "GB/s")
    return rates


def _floors(proof: Proof, sizes: Sequence[tuple[int, int]], rates: dict[str, float]) -> None:
    """Time that no version can be below."""
    table = proof.table(
        "floors",
        "Floor of one frame in a large batch, fp16",
        (
            *("frame", "canvas Mpixel", "GFLOP", "MB of levels", "MB of maps"),
            *("us by products", "us by bytes of levels", "us by bytes of maps"),
        ),
        note="levels: each written in float32, read for the next one and drawn, on a canvas of 8 channels; "
        "maps: those of each convolution read and written once; at the rates above",
    )
    network = read_mmod(find_weights(*CNN_DETECTOR)).network
    for width, height in sizes:
        pyramid = layout(width, height)
        found = layers(detector_graph(network, pyramid))
        assert found is not None
        flop, of_maps = 2.0 * sum(layer.macs for layer in found), 2.0 * sum(layer.values for layer in found)
        levels = sum(tile.width * tile.height for tile in pyramid.tiles)
        of_levels = 3.0 * width * height + levels * 3 * 4 * 3 + pyramid.width * pyramid.height * STEP * 2
        proof.row(
            table,
            *(f"{width}x{height}", pyramid.width * pyramid.height / 1e6, flop / 1e9, of_levels / 1e6, of_maps / 1e6),
            *(1e6 * flop / rates["fp16"], 1e6 * of_levels / rates["copy"], 1e6 * of_maps / rates["copy"]),
        )


def _boxes(proof: Proof, device: torch.device, shown: dict[tuple[int, int], Frames]) -> None:
    """Every frame in every precision beside the processor's fp32."""
    table = proof.table(
        "boxes",
        "Boxes beside those of the processor in fp32",
        (
            *(
                "frame",
                "precision",
                "frames",
                "boxes there",
                "boxes here",
                "identical frames, share",
                "matched there, share",
                "matched here, share",
            ),
            *("largest difference of a score", "frames decoded on the host"),
        ),
        note=f"matched: another box with IoU > {SAME}",
    )
    reference = CnnDetector(runtime="onnxruntime", precision="fp32", threads=os.cpu_count() or 1)
    for (width, height), frames in shown.items():
        expected = [reference.detect(frame) for frame in frames]
        name = f"{width}x{height}"
        there = sum(len(boxes) for boxes, _ in expected)
        proof.check(f"{name}: there are faces on the frames", there > 0, f"{there} boxes on {len(frames)} frames")
        for precision in ("fp32", "fp16", "bf16"):
            try:
                found, overflowed = _found(device, precision, frames)
            except (EngineError, RuntimeError) as err:
                proof.skip(f"boxes of {name} in {precision}", first_line(err))
                continue
            finally:
                forget_memory()
            _hold(proof, table, name, precision, expected, found, overflowed)
    reference.close()


def _found(device: torch.device, precision: str, frames: Frames) -> tuple[list[Found], int]:
    detector = DeviceDetector(device, precision)
    try:
        on_device = torch.from_numpy(frames).to(device)
        detections = [detector.detect(on_device) for _ in range(RECORDED_FROM)][-1]  # of the recorded graph
        return detections.on_host(), int(detections.overflowed_B.sum())
    finally:
        detector.close()


def _hold(
    proof: Proof,
    table: Table,
    name: str,
    precision: str,
    expected: Sequence[Found],
    found: Sequence[Found],
    overflowed: int,
) -> None:
    """One row and its checks."""
    pairs = list(zip(expected, found, strict=True))
    identical = sum(np.array_equal(_sorted(there), _sorted(here)) for (there, _), (here, _) in pairs)
    lost = [score for there, here in pairs for score in there[1][~matched(there[0], here[0])]]
    new = [score for there, here in pairs for score in here[1][~matched(here[0], there[0])]]
    boxes_there, boxes_here = (sum(len(one[0]) for one in side) for side in (expected, found))
    differences = [np.abs(a[1] - b[1]).max() for a, b in pairs if np.array_equal(a[0], b[0]) and len(a[1])]
    largest = float(max(differences)) if differences else None
    shares = [1 - len(odd) / count if count else None for odd, count in ((lost, boxes_there), (new, boxes_here))]
    proof.row(
        table,
        name,
        precision,
        len(pairs),
        boxes_there,
        boxes_here,
        identical / len(pairs),
        *shares,
        largest,
        overflowed,
    )
    if precision == "fp32":
        proof.check(
            f"{name}, fp32: identical boxes on every frame", identical == len(pairs), f"{identical} of {len(pairs)}"
        )
        return
    worst = max([0.0, *map(float, lost + new)])
    proof.check(
        f"{name}, {precision}: each box is matched at IoU > {SAME}, both ways",
        worst < CLEAR,
        f"{len(lost)} of {boxes_there} lost, {len(new)} of {boxes_here} new, the best of them scores {worst:.3f}; "
        f"below {CLEAR} it was hardly found",
    )


def matched(one_N4: Float32, other_M4: Float32) -> NDArray[np.bool_]:
    """(N,): whether another box has IoU > ``SAME`` with it."""
    low = np.maximum(one_N4[:, None, :2], other_M4[None, :, :2])
    high = np.minimum(one_N4[:, None, 2:], other_M4[None, :, 2:])
    inner_NM = np.maximum(high - low, 0).prod(axis=2)
    area_N, area_M = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one_N4, other_M4))
    found: NDArray[np.bool_] = (inner_NM > SAME * (area_N[:, None] + area_M - inner_NM)).any(axis=1)
    return found


def _sorted(boxes_N4: Float32) -> Float32:
    """In an order that two nearly equal scores do not change."""
    return boxes_N4[np.lexsort(boxes_N4.T)]


def _speed_table(proof: Proof) -> Table:
    return proof.table(
        "detector",
        "Detector: ms a frame",
        (
            *("frame", "precision", "way", "batch", "GFLOP a frame", "device ms a frame", "frames/s", "% of matmul"),
            *("host to host ms a call", "p95 ms", "host to host ms a frame", "host to host frames/s", "GPU MiB"),
        ),
        note="GFLOP of the file's own convolutions; host to host: frames staged, uploaded, boxes back on the host",
    )


def _speeds(
    proof: Proof,
    table: Table,
    device: torch.device,
    frames: Frames,
    precision: str,
    batches: Sequence[int],
    rate: float,
) -> None:
    """One frame size in one precision, every batch."""
    height, width = frames.shape[1:3]
    flop = 2.0 * detector_macs(width, height)
    detector = DeviceDetector(device, precision)
    for batch in batches:
        what = f"detector, {width}x{height}, {precision}, batch {batch}"
        if not proof.has_time(what, 0 if proof.dry_run else 15):
            continue
        try:
            times = _timed(detector, device, frames[np.arange(batch) % len(frames)], dry_run=proof.dry_run)
        except (EngineError, RuntimeError) as err:
            proof.skip(what, first_line(err))
            continue
        there, (whole, slow) = times
        way = detector.way if detector.recordable else f"{detector.way}, not recorded"
        proof.row(
            table,
            *(f"{width}x{height}", precision, way, batch, flop / 1e9, there / batch, 1e3 * batch / there),
            100 * flop * batch / (there / 1e3) / rate,
            *(whole, slow, whole / batch, 1e3 * batch / whole, _mib(device)),
        )
    detector.close()
    forget_memory()


def _timed(
    detector: DeviceDetector, device: torch.device, batch: Frames, *, dry_run: bool
) -> tuple[float, tuple[float, float]]:
    """Milliseconds of a call: of the device; from host to host, median and p95."""
    seconds, least = (0.0, 2) if dry_run else (0.4, 5)
    on_device = torch.from_numpy(batch).to(device)
    there = device_times(lambda: detector.detect(on_device), device, seconds=seconds, least=least)
    whole = host_times(lambda: detector.detect_on_host(batch), device, seconds=seconds, least=least)
    return there.p50_ms, (whole.p50_ms, whole.p95_ms)


def detector_macs(width: int, height: int) -> int:
    """Multiply-accumulates of one frame in the file's own network."""
    network = read_mmod(find_weights(*CNN_DETECTOR)).network
    macs = count_macs(detector_graph(network, layout(width, height)))
    assert macs is not None
    return macs


def _mib(device: torch.device) -> float | None:
    return torch.cuda.memory_reserved(device) / 2**20 if device.type == "cuda" else None
