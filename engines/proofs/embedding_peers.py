"""What people write to embed faces on a GPU, timed from host to host like ours.

Enters: a network and our own times by batch. Leaves: rows of a ``Proof``'s table; what does not run is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.errors import EngineError, first_line
from engines.export import ModelFile
from engines.networks import Network, build
from engines.proofs.clock import forget_memory, host_times
from engines.proofs.record import Proof, Table
from engines.runtimes import onnxruntime_cuda

BATCHES: Final = (1, 8, 64, 256)

COMPILED: Final = (64,)
"""Batches that torch.compile is tried with: each is compiled anew, which takes most of a minute."""

Faces = NDArray[np.uint8]


def peers(
    proof: Proof, model: ModelFile, network: Network, device: torch.device, faces: Faces, ours: dict[int, float]
) -> None:
    """Every contestant that runs here and that the time allows."""
    table = proof.table(
        "beside",
        "What people write instead, from host to host",
        ("what", "batch", "p50 ms", "faces/s", "ours is so many times as fast"),
        note="the network as torch modules, nothing folded: upload, normalise, embed, download",
    )
    for name, batches, make in _contestants(network, device):
        if name.startswith("torch.compile") and (proof.dry_run or not proof.has_time(name, 90)):
            continue
        try:
            with make() as embed:
                for batch in batches:
                    if batch in ours and proof.has_time(f"{name}, batch {batch}"):
                        _time(proof, table, name, embed, faces[np.arange(batch) % len(faces)], device, ours[batch])
        except (EngineError, RuntimeError, ImportError) as err:
            proof.skip(name, first_line(err))
        forget_memory()
    _onnxruntime(proof, table, model, device, faces, ours)


def _time(
    proof: Proof,
    table: Table,
    name: str,
    embed: Callable[[Faces], object],
    batch: Faces,
    device: torch.device,
    own_s: float,
) -> None:
    seconds, least = (0.0, 2) if proof.dry_run else (0.5, 5)
    times = host_times(lambda: embed(batch), device, seconds=seconds, least=least)
    proof.row(table, name, len(batch), times.p50_ms, times.per_s(len(batch)), times.p50_ms / 1e3 / own_s)


Opened = AbstractContextManager[Callable[[Faces], object]]


def _contestants(network: Network, device: torch.device) -> Iterator[tuple[str, tuple[int, ...], Callable[[], Opened]]]:
    """Name, batches, and what opens it."""
    torch.manual_seed(0)
    module = build(network).eval().to(device)
    half = torch.bfloat16 if device.type == "cpu" else torch.float16

    def eager(**options: Any) -> Callable[[], Opened]:
        return lambda: _written(module, device, **options)

    yield "torch eager fp32, its defaults", BATCHES, eager()
    yield "torch eager fp32, no TF32", BATCHES, eager(tf32=False)
    yield "torch eager, autocast", BATCHES, eager(half=half)
    yield "torch eager, autocast, channels last", BATCHES, eager(half=half, channels_last=True)
    yield "torch.compile, autocast", COMPILED, eager(half=half, compiled="default")
    yield "torch.compile reduce-overhead, autocast", COMPILED, eager(half=half, compiled="reduce-overhead")


@contextmanager
def _written(
    module: nn.Module,
    device: torch.device,
    *,
    half: torch.dtype | None = None,
    tf32: bool = True,
    channels_last: bool = False,
    compiled: str = "",
) -> Iterator[Callable[[Faces], object]]:
    """The loop as it stands in tutorials."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module.to(memory_format=layout)  # type: ignore[call-overload]
    network: Callable[[torch.Tensor], torch.Tensor] = torch.compile(module, mode=compiled) if compiled else module

    def embed(faces_NHWC: Faces) -> object:
        with torch.inference_mode():
            pixels = torch.from_numpy(faces_NHWC).to(device).permute(0, 3, 1, 2)
            pixels = ((pixels.float() - 127.5) / 127.5).contiguous(memory_format=layout)
            with torch.autocast(device.type, dtype=half) if half is not None else nullcontext():
                return network(pixels).float().cpu().numpy()

    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
        yield embed
    if compiled:
        torch._dynamo.reset()


def _onnxruntime(
    proof: Proof, table: Table, model: ModelFile, device: torch.device, faces: Faces, ours: dict[int, float]
) -> None:
    name = "ONNX Runtime CUDA fp32"
    try:
        session = onnxruntime_cuda.open_session(model.content, model.where, precision="fp32", threads=1)
        for batch in BATCHES:
            if batch in ours:
                _time(proof, table, name, session.run, faces[np.arange(batch) % len(faces)], device, ours[batch])
        session.close()
    except (EngineError, RuntimeError) as err:
        proof.skip(name, first_line(err))
