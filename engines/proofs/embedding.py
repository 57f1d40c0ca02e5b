"""The torch CUDA runtime on an iresnet50: the processor's answers, and how near to the chip's own rate.

Enters: a device. Leaves: a ``Proof``'s tables and checks: what the device can do, where the floor of each stage lies,
each way of making the kernels, every batch, and what people write themselves, all in one run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from engines.benchmark.macs import count_macs, layers
from engines.errors import EngineError, first_line
from engines.export import ModelFile
from engines.gpu.buckets import BucketedSession
from engines.gpu.candidates import DTYPES, SIZES, WAYS, Candidates
from engines.graphs.folding import fold_bytes
from engines.networks import NETWORKS, Network
from engines.networks.model_files import random_model
from engines.parity import cosines, drawn_faces
from engines.proofs.clock import Times, copy_bytes_s, device_times, forget_memory, host_times, matmul_flop_s
from engines.proofs.embedding_peers import peers
from engines.proofs.record import Proof, Table
from engines.proofs.reference import processor_embeddings
from engines.verdicts import COSINE_FLOORS

TITLE: Final = "Embedding: an iresnet50 from uint8 crops to embeddings"

FACES: Final = "REALTIME_FACES"
"""Environment variable: an .npy of aligned faces (N, 112, 112, 3) uint8 for the comparison; drawn ones without it."""

PRECISIONS: Final = ("fp16", "bf16")

COMPARED: Final = 256
"""Faces that the processor embeds too."""

TRIED: Final = (1, 32, 256)
"""Batches by which the ways are compared here."""

MANY: Final = 4096
"""Faces of one call, in pieces."""

BEST_S: Final = 20_000
HOST_S: Final = 15_000
FIRST_MS: Final = 1.0
"""What has to be reached: faces a second at the best batch, from host to host, and milliseconds of one face."""

SMALL: Final = Network(name="iresnet-dry", family="iresnet", blocks=(1, 1, 1, 1), width=8, dimensions=32)

Faces = NDArray[np.uint8]


def prove(proof: Proof, device: torch.device) -> None:
    """What matters most first: answers, fp16, then bf16, then what people write."""
    network = SMALL if proof.dry_run else NETWORKS["iresnet50"]
    model = random_model(network, 0)
    rates = _ceilings(proof, device)
    _floors(proof, model, rates)
    faces = _faces(network.input_size, 8 if proof.dry_run else COMPARED)
    expected = processor_embeddings(model, faces)
    proof.check(
        "the faces' embeddings differ",
        float(np.median(expected @ expected.T / np.linalg.norm(expected[0]) ** 2)) < 0.99,
        f"median cosine {float(np.median(expected @ expected.T / np.linalg.norm(expected[0]) ** 2)):.3f} below 0.99",
    )
    ours = _ours(proof, model, device, rates, faces, expected)
    if proof.has_time("what people write themselves", 0 if proof.dry_run else 60):
        peers(proof, model, network, device, faces, ours)


def _ceilings(proof: Proof, device: torch.device) -> dict[str, float]:
    """FLOP/s by precision, and bytes a second of a copy as ``copy``."""
    table = proof.table("ceilings", "What the device can do", ("what", "rate", "unit"))
    rates: dict[str, float] = {}
    for name in (*PRECISIONS, "fp32"):
        rates[name] = matmul_flop_s(device, DTYPES[name])
        proof.row(table, f"matrix products, {name}", rates[name] / 1e12, "TFLOP/s")
    rates["copy"] = copy_bytes_s(device)
    proof.row(table, "copy within the device, read and written", rates["copy"] / 1e9, "GB/s")
    if device.type == "cuda":
        size = 256 << 20
        there = torch.empty(size, dtype=torch.uint8, device=device)
        here = torch.zeros(size, dtype=torch.uint8).pin_memory()
        for name, target, source in (("upload", there, here), ("download", here, there)):
            times = device_times(lambda: target.copy_(source, non_blocking=True), device, seconds=0.2)  # noqa: B023
            proof.row(table, f"{name}, pinned memory", size / times.p50_ms / 1e6, "GB/s")
    return rates


def _floors(proof: Proof, model: ModelFile, rates: dict[str, float]) -> None:
    """Time that no version can be below, by the size of the maps."""
    found = layers(onnx.ModelProto.FromString(model.content))
    assert found is not None
    table = proof.table(
        "floors",
        "Floor of one face in a large batch, fp16",
        ("maps", "layers", "GFLOP", "MB read and written", "us by products", "us by bytes"),
        note="convolutions alone, each map read and written once, at the rates above",
    )
    for side in dict.fromkeys(layer.output[2] if len(layer.output) == 4 else 1 for layer in found):
        own = [layer for layer in found if (layer.output[2] if len(layer.output) == 4 else 1) == side]
        flop, size = 2 * sum(layer.macs for layer in own), 2 * sum(layer.values for layer in own)
        proof.row(
            table,
            *(
                f"{side}x{side}",
                len(own),
                flop / 1e9,
                size / 1e6,
                1e6 * flop / rates["fp16"],
                1e6 * size / rates["copy"],
            ),
        )


def _faces(side: int, count: int) -> Faces:
    if path := os.environ.get(FACES):
        faces = np.load(Path(path), mmap_mode="r", allow_pickle=False)
        if faces.dtype != np.uint8 or faces.shape[1:] != (side, side, 3):
            raise EngineError(
                f"{path}: is {faces.dtype} {faces.shape}; aligned uint8 faces of {side} pixels are needed"
            )
        return np.array(faces[:count])
    return drawn_faces(side, count)


def _ours(
    proof: Proof,
    model: ModelFile,
    device: torch.device,
    rates: dict[str, float],
    faces: Faces,
    expected: NDArray[np.float32],
) -> dict[int, float]:
    """Tables of the ways and of every batch; returns seconds by batch of the best precision, host to host."""
    folded = fold_bytes(model.content, model.where)
    macs = count_macs(onnx.ModelProto.FromString(model.content))
    assert macs is not None
    ways = proof.table(
        "ways",
        "Ways of making the kernels, time of the device",
        ("precision", "way", *(f"ms of {n}" for n in TRIED), "worst cosine"),
    )
    speed = proof.table(
        "speed",
        "Every batch, in the fastest way",
        (
            *("precision", "way", "batch", "device p50 ms", "faces/s", "% of matmul"),
            *("host to host p50 ms", "p95 ms", "p99 ms", "faces/s from host to host", "GPU MiB"),
        ),
    )
    best: dict[str, float] = {"device": 0.0, "host": 0.0, "first": float("inf")}
    ours: dict[int, float] = {}
    for precision in PRECISIONS:
        candidates = Candidates(folded, model.where, device, DTYPES[precision])
        way = _fastest(proof, ways, candidates, precision, device, faces, expected)
        if way is None or not proof.has_time(f"speed in {precision}", 0):
            continue
        session = candidates.session(way)
        for row in _batches(proof, session, device, faces):
            batch, there, whole, size = row
            flop = 2.0 * macs * batch
            proof.row(
                speed,
                *(precision, way, batch, there.p50_ms, there.per_s(batch)),
                100 * flop / (there.p50_ms / 1e3) / rates[precision],
                *(whole.p50_ms, whole.p95_ms, whole.p99_ms, whole.per_s(batch), size),
            )
            best["device"] = max(best["device"], there.per_s(batch))
            best["host"] = max(best["host"], whole.per_s(batch))
            best["first"] = min(best["first"], whole.p50_ms if batch == 1 else best["first"])
            ours[batch] = min(ours.get(batch, float("inf")), whole.p50_ms / 1e3)
        session.close()
    _targets(proof, best)
    return ours


def _targets(proof: Proof, best: dict[str, float]) -> None:
    if proof.dry_run:
        return
    proof.check(
        "faces a second at the best batch", best["device"] >= BEST_S, f"{best['device']:,.0f}, {BEST_S:,} are wanted"
    )
    proof.check(
        "faces a second from host to host", best["host"] >= HOST_S, f"{best['host']:,.0f}, {HOST_S:,} are wanted"
    )
    proof.check(
        "one face from host to host, median",
        best["first"] < FIRST_MS,
        f"{best['first']:.3f} ms, below {FIRST_MS} wanted",
    )


def _fastest(
    proof: Proof,
    table: Table,
    candidates: Candidates,
    precision: str,
    device: torch.device,
    faces: Faces,
    expected: NDArray[np.float32],
) -> str | None:
    """Each way that works, its answers held to the processor's; the name of the quickest of those that agree."""
    times: dict[str, float] = {}
    for way in WAYS:
        slow = way == "compile"
        if slow and (proof.dry_run or not proof.has_time(f"way {way} in {precision}", 240)):
            continue
        try:
            session = candidates.session(way)
            tried = [size for size in TRIED if size <= (8 if proof.dry_run else SIZES[-1])]
            session.prepare(tried)
            worst = float(cosines(session.run(faces), expected).min())
            medians = [
                session.measured(size, lambda call: device_times(call, device, seconds=0.2).p50_ms) for size in tried
            ]
        except (EngineError, RuntimeError) as err:
            proof.skip(f"way {way} in {precision}", first_line(err))
            continue
        finally:
            forget_memory()
        session.close()
        proof.row(table, precision, way, *medians, *[None] * (len(TRIED) - len(medians)), worst)
        name = f"{precision}, {way}: every face as the processor embeds it"
        if proof.check(
            name, worst >= COSINE_FLOORS[precision], f"worst cosine {worst:.6f} of {COSINE_FLOORS[precision]}"
        ):
            times[way] = medians[-1]
    return min(times, key=lambda way: times[way]) if times else None


def _batches(
    proof: Proof, session: BucketedSession, device: torch.device, faces: Faces
) -> list[tuple[int, Times, Times, float | None]]:
    """Batch, time of the device, time from host to host, MiB taken so far; the last one is of many in pieces."""
    found = []
    sizes = [1, 2, 4] if proof.dry_run else list(SIZES)
    seconds = 0.0 if proof.dry_run else 0.5
    for size in sizes if proof.dry_run else [*sizes, min(MANY, session.max_batch)]:
        batch = faces[np.arange(size) % len(faces)]
        try:
            session.run(batch)
            there = _device(session, min(size, sizes[-1]), device, seconds)
            whole = host_times(lambda: session.run(batch), device, seconds=seconds, least=3)  # noqa: B023
        except (EngineError, RuntimeError) as err:
            proof.skip(f"batch {size}", first_line(err))
            continue
        if size > sizes[-1]:
            there = Times(there.seconds_N * size / sizes[-1])
        found.append((size, there, whole, _mib(device)))
    return found


def _device(session: BucketedSession, size: int, device: torch.device, seconds: float) -> Times:
    kept: list[Times] = []

    def clock(call: Callable[[], object]) -> float:
        kept.append(device_times(call, device, seconds=seconds, least=3))
        return kept[-1].p50_ms

    session.measured(size, clock)
    return kept[-1]


def _mib(device: torch.device) -> float | None:
    return torch.cuda.memory_reserved(device) / 2**20 if device.type == "cuda" else None
