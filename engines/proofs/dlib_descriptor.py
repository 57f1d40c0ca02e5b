"""dlib's descriptor on the torch CUDA runtime: the processor's answers, and its speed beside torch as it is.

Enters: a device and its rates of matrix products. Leaves: tables and checks of a ``Proof``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from engines.benchmark.macs import count_macs
from engines.dlib.descriptor_graph import CHIP
from engines.errors import EngineError, first_line
from engines.gpu.buckets import BucketedSession
from engines.gpu.candidates import DTYPES, Candidates
from engines.graphs.folding import fold_bytes
from engines.graphs.torch_graph import to_torch
from engines.parity import cosines, drawn_faces
from engines.proofs.clock import Times, device_times, forget_memory, host_times
from engines.proofs.record import Proof, Table
from engines.proofs.reference import processor_embeddings
from engines.store import default_model
from engines.verdicts import COSINE_FLOORS

NAME: Final = "dlib's descriptor"
"""In messages, which otherwise name a file of the cache."""

BATCHES: Final = (1, 8, 32, 128, 512)

WAYS: Final = ("triton-wide", "triton", "eager")
"""Tried without torch.compile, which takes half a minute each time."""

PRECISIONS: Final = ("fp16", "bf16", "fp32")

COMPARED: Final = 64
"""Faces that the processor embeds too."""

Faces = NDArray[np.uint8]


def prove_descriptor(proof: Proof, device: torch.device, rates: dict[str, float]) -> None:
    """Every precision in its quickest way, then torch as it is in the same precision."""
    model = replace(default_model(unit_length=True, mirrored=False), where=NAME)
    folded = fold_bytes(model.content, model.where)
    macs = count_macs(onnx.ModelProto.FromString(model.content))
    assert macs is not None
    faces = drawn_faces(CHIP, 4 if proof.dry_run else COMPARED)
    expected = processor_embeddings(model, faces)
    table = proof.table(
        "descriptor",
        "Descriptor: faces of 150x150, not mirrored",
        (
            *("precision", "way", "batch", "device ms", "faces/s", "% of matmul", "host to host ms", "p95 ms"),
            *("faces/s from host to host", "worst cosine"),
        ),
        note="torch as it is: the same folded graph, call by call without a recorded graph, pageable memory",
    )
    for precision in PRECISIONS:
        dtype = DTYPES[precision]
        if not proof.has_time(f"descriptor in {precision}", 0 if proof.dry_run else 30):
            continue
        candidates = Candidates(folded, model.where, device, dtype)
        if (way := _quickest(proof, candidates, precision, device)) is not None:
            ours = candidates.session(way)
            _ours(proof, table, ours, (precision, way), device, faces, expected, 2.0 * macs / rates[precision])
            ours.close()
        try:
            module = to_torch(fold_bytes(model.content, model.where), dtype=dtype, where=model.where).to(device)
            _as_it_is(proof, table, module, precision, device, faces, expected, 2.0 * macs / rates[precision])
        except (EngineError, RuntimeError) as err:
            proof.skip(f"descriptor in {precision}, torch as it is", first_line(err))
        forget_memory()


def _quickest(proof: Proof, candidates: Candidates, precision: str, device: torch.device) -> str | None:
    """Of a batch of 32."""
    batch = 2 if proof.dry_run else 32
    times: dict[str, float] = {}
    for way in WAYS:
        try:
            session = candidates.session(way)
            session.prepare([batch])
            times[way] = session.measured(
                batch, lambda call: device_times(call, device, seconds=0 if proof.dry_run else 0.2, least=2).p50_ms
            )
            session.close()
        except (EngineError, RuntimeError) as err:
            proof.skip(f"descriptor in {precision}, {way}", first_line(err))
        forget_memory()
    return min(times, key=lambda way: times[way]) if times else None


def _ours(
    proof: Proof,
    table: Table,
    session: BucketedSession,
    how: tuple[str, str],
    device: torch.device,
    faces: Faces,
    expected: NDArray[np.float32],
    floor_s: float,
) -> None:
    precision, way = how
    for batch in _batches(proof):
        images = faces[np.arange(batch) % len(faces)]
        try:
            worst = _worst(session.run(images), expected, batch)
            kept: list[Times] = []

            def clock(call: Callable[[], object]) -> float:
                kept.append(_device(call, device, proof))  # noqa: B023
                return 0.0

            session.measured(batch, clock)
            whole = _host(lambda: session.run(images), device, proof)  # noqa: B023
        except (EngineError, RuntimeError) as err:
            proof.skip(f"descriptor in {precision}, batch {batch}", first_line(err))
            continue
        _row(proof, table, how, batch, kept[-1], whole, worst, floor_s)
        proof.check(
            f"descriptor, {precision}, {way}, batch {batch}: every face as the processor embeds it",
            worst >= COSINE_FLOORS[precision],
            f"worst cosine {worst:.6f} of {COSINE_FLOORS[precision]}",
        )


def _as_it_is(
    proof: Proof,
    table: Table,
    module: torch.nn.Module,
    precision: str,
    device: torch.device,
    faces: Faces,
    expected: NDArray[np.float32],
    floor_s: float,
) -> None:
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        for batch in _batches(proof):
            images = faces[np.arange(batch) % len(faces)]
            there = torch.from_numpy(images).to(device)
            worst = _worst(module(there).cpu().numpy(), expected, batch)
            device_s = _device(lambda: module(there), device, proof)  # noqa: B023
            whole = _host(lambda: module(torch.from_numpy(images).to(device)).cpu(), device, proof)  # noqa: B023
            _row(proof, table, (precision, "torch as it is"), batch, device_s, whole, worst, floor_s)


def _row(
    proof: Proof,
    table: Table,
    how: tuple[str, str],
    batch: int,
    there: Times,
    whole: Times,
    worst: float,
    floor_s: float,
) -> None:
    share = 100 * batch * floor_s / (there.p50_ms / 1e3)
    proof.row(
        table,
        *(*how, batch, there.p50_ms, there.per_s(batch), share),
        *(whole.p50_ms, whole.p95_ms, whole.per_s(batch), worst),
    )


def _batches(proof: Proof) -> tuple[int, ...]:
    return (1, 2) if proof.dry_run else BATCHES


def _host(call: Callable[[], object], device: torch.device, proof: Proof) -> Times:
    return host_times(call, device, seconds=0.0 if proof.dry_run else 0.3, least=2 if proof.dry_run else 5)


def _device(call: Callable[[], object], device: torch.device, proof: Proof) -> Times:
    return device_times(call, device, seconds=0.0 if proof.dry_run else 0.3, least=2 if proof.dry_run else 5)


def _worst(found: NDArray[np.float32], expected: NDArray[np.float32], batch: int) -> float:
    return float(cosines(found, expected[np.arange(batch) % len(expected)]).min())
