"""How many streams the chip itself could hold: what each frame needs, over what the device was measured to give.

Enters: frame sizes. Leaves: for the two stages that could not do with less, streams at 25 frames a second that would
keep the device wholly busy with that stage alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engines.gpu.buckets import host_buffer
from engines.proofs.clock import device_times, matmul_flop_s
from engines.proofs.dlib import detector_macs
from engines.proofs.record import Proof
from realtime.benchmark.streams_load import FPS


def prove_floors(proof: Proof, device: torch.device, sizes: Sequence[tuple[int, int]]) -> None:
    """Measure the ceilings and add the table."""
    on_gpu = device.type == "cuda"
    flops = matmul_flop_s(device, torch.float16 if on_gpu else torch.float32, side=None if on_gpu else 64)
    upload = upload_bytes_s(device)
    table = proof.table(
        "floors",
        "What the chip itself could hold",
        ("frames", "stage", "a frame needs", "measured ceiling", "streams at most"),
        f"at {FPS:g} fps each, were the device busy with nothing else; ceilings: square matrix products in fp16, and "
        "copies from pinned memory",
    )
    for width, height in sizes:
        title, pixels = f"{width}x{height}", width * height
        needed = 2.0 * detector_macs(width, height)
        most = flops / needed / FPS
        proof.row(table, title, "detection", f"{needed / 1e9:.1f} GFLOP", f"{flops / 1e12:.3g} TFLOP/s", most)
        size = 3.0 * pixels
        most = upload / size / FPS
        proof.row(table, title, "upload", f"{size / 1e6:.2f} MB", f"{upload / 1e9:.3g} GB/s", most)


def upload_bytes_s(device: torch.device) -> float:
    """Bytes a second from pinned memory to the device; on a processor, of a copy."""
    size = (256 if device.type == "cuda" else 1) << 20
    source = host_buffer((size,), torch.uint8, pinned=device.type == "cuda")
    target = torch.empty_like(source, device=device)
    times = device_times(lambda: target.copy_(source, non_blocking=True), device, seconds=0.2)
    return size / float(np.median(times.seconds_N))
