"""The proof of streams: the device sees what the processor sees, and so many cameras are held at 25 frames a second.

Enters: decoded frames, photos of people, numbers of streams and frame sizes. Leaves, in a ``Proof``: boxes, points and
names beside the processor's; what a batch takes by stage; and for each number of streams the frames that were dropped
and how long names took, with frames in pinned memory of the host and with frames that lie on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch

from engines.errors import first_line
from engines.proofs.clock import host_times
from engines.proofs.record import Cell, Proof
from realtime.benchmark.streams_floors import prove_floors
from realtime.benchmark.streams_load import BATCHES, FPS, HELD, Load, play
from realtime.benchmark.streams_material import (
    TINY,
    Photos,
    open_host_path,
    references_of,
    resized,
    spread,
)
from realtime.benchmark.streams_parity import FAILURES, PRECISION, Opened, prove_parity
from realtime.device.analyser import STAGES, DeviceAnalyser
from realtime.records import RGB_HW3

TITLE: Final = "End to end: frames in, names out"

SIZES: Final = ((1280, 720), (1920, 1080))
"""Width and height of the streams' frames."""

WARM_UP: Final = 0.2
"""Share of a play's time that is played before and not counted: what comes for the first time takes longer."""

LOOKED_AT: Final = 28
"""Frames that the processor looks at too: half a second each."""

KEPT: Final = 48
"""Distinct frames that the streams show, 300 MB at 1080p."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to be proved."""

    frames: Sequence[RGB_HW3]
    people: Photos
    counts: Sequence[int]
    sizes: Sequence[tuple[int, int]] = SIZES
    seconds: float = 4.0
    """Of playing, for each number of streams."""
    threads: int = 2
    """Of the processor's detector, which parity waits for."""


def prove(proof: Proof, device: torch.device, wishes: Wishes) -> None:
    """Fill in the proof; what fails on the device is noted, and the rest goes on.

    Raises:
        RealtimeError, EngineError: the processor's side cannot be had.
    """
    host = open_host_path(wishes.threads)
    references = references_of(wishes.people, host)
    sizes = (TINY,) if proof.dry_run else tuple(wishes.sizes)
    opened = Opened(references, device)
    prove_parity(proof, opened, host, _at(wishes.frames, sizes[0], LOOKED_AT))
    try:
        analyser = opened.analyser(PRECISION)
    except FAILURES as err:
        proof.skip("streams", first_line(err))
        proof.check("streams run", False, first_line(err))
        return
    batches = [size for size in BATCHES if size <= max(wishes.counts)][: 2 if proof.dry_run else None]
    held: list[tuple[Cell, ...]] = []
    for size in sizes:
        _prove_size(proof, analyser, _at(wishes.frames, size, KEPT), wishes, batches, held)
    table = proof.table(
        "held", "Streams held", ("frames", "come from", "streams", "limited by"), f"of those tried, at {FPS:g} fps each"
    )
    for row in held:
        proof.row(table, *row)
    if proof.has_time("floors", 1.0):
        try:
            prove_floors(proof, device, sizes)
        except FAILURES as err:
            proof.skip("floors", first_line(err))


def _at(frames: Sequence[RGB_HW3], size: tuple[int, int], count: int) -> list[RGB_HW3]:
    return resized(spread(frames, count), size)


# -- streams ----------------------------------------------------------------------------------------------------------


def _prove_size(
    proof: Proof,
    analyser: DeviceAnalyser,
    frames: list[RGB_HW3],
    wishes: Wishes,
    batches: list[int],
    held: list[tuple[Cell, ...]],
) -> None:
    title = f"{frames[0].shape[1]}x{frames[0].shape[0]}"
    needed = 20.0 if not proof.dry_run else 1.0
    if not proof.has_time(f"streams of {title}", needed):
        return
    homes = {}
    try:
        homes = {"the device": _on_device(frames, analyser.device), "the host": _on_host(frames, analyser.device)}
    except FAILURES as err:
        proof.skip(f"frames of {title} in memory", first_line(err))
        return
    fitting = _prove_batches(proof, analyser, homes["the device"], batches, title)
    if not fitting:
        proof.check(f"a frame of {title} runs", False, "not even one went through")
        return
    slug = title.replace("x", "_")
    for home, there in homes.items():
        table = proof.table(
            f"streams_{slug}_{home.split()[-1]}",
            f"Streams of {title}, frames from {home}",
            ("streams", "seen fps", "dropped %", "held", "p50 ms", "p95 ms", "p99 ms", "busy %", "limited by"),
            f"{FPS:g} fps each, {wishes.seconds:g} s each, {PRECISION}; from a frame's arrival to its names; held: at "
            f"most {HELD:.0%} dropped",
        )
        best: tuple[int, str] = (0, "")
        for streams in sorted(wishes.counts):
            if not proof.has_time(f"{streams} streams of {title} from {home}", 2 * wishes.seconds):
                break
            try:
                play(analyser, there, streams, WARM_UP * wishes.seconds, batches=fitting)
                load = play(analyser, there, streams, wishes.seconds, batches=fitting)
            except FAILURES as err:
                proof.skip(f"{streams} streams of {title} from {home}", first_line(err))
                break
            proof.row(table, *_cells(load, wishes.seconds))
            if load.held or not best[1]:
                best = (streams if load.held else 0, load.limit)
        held.append((title, home, *best))


def _cells(load: Load, seconds: float) -> tuple[Cell, ...]:
    times = load.latencies
    limit = f"{load.limit} {load.shares[load.limit]:.0%}" if load.limit else ""
    return (
        load.streams,
        load.seen / seconds,
        100 * load.dropped,
        "yes" if load.held else "no",
        times.p50_ms,
        times.p95_ms,
        times.p99_ms,
        100 * load.busy,
        limit,
    )


def _prove_batches(
    proof: Proof, analyser: DeviceAnalyser, frames: list[torch.Tensor], batches: list[int], title: str
) -> list[int]:
    """What a batch takes and which of them fit; warms all of them up."""
    table = proof.table(
        f"batches_{title.replace('x', '_')}",
        f"A batch of {title} on the device",
        ("frames", "faces", "p50 ms", "frames/s", "streams", *(f"{stage} %" for stage in STAGES)),
        f"{PRECISION}, from the call to the records on the host; streams: frames/s over {FPS:g}; shares: of the "
        "device's time, from the end of one stage to the end of the next",
    )
    fitting: list[int] = []
    height, width = frames[0].shape[:2]
    try:
        analyser.prepare(max(batches), height, width, 2 if proof.dry_run else 64)
    except FAILURES as err:
        proof.skip(f"graphs for frames of {title} made before", first_line(err))
        _recover(analyser.device)
    for batch in batches:
        if fitting and not proof.has_time(f"batches of {batch} frames of {title}", 5.0):
            break
        some = [frames[index % len(frames)] for index in range(batch)]
        try:
            faces = sum(len(seen.boxes_N4) for seen in analyser.analyse(some))
            for start in range(1, len(frames), max(1, len(frames) // 4)):  # other numbers of faces are other graphs
                analyser.analyse([frames[(start + index) % len(frames)] for index in range(batch)])
            analyser.stages.clear()
            times = host_times(partial(analyser.analyse, some), analyser.device, **_patience(proof.dry_run))
        except FAILURES as err:
            proof.skip(f"batches of {batch} frames of {title}", first_line(err))
            _recover(analyser.device)
            break
        fitting.append(batch)
        shares = analyser.stages.shares
        each = (100 * shares.get(stage, 0.0) for stage in STAGES)
        proof.row(table, batch, faces, times.p50_ms, times.per_s(batch), times.per_s(batch) / FPS, *each)
    return fitting


def _patience(dry_run: bool) -> dict[str, Any]:
    return {"seconds": 0.0, "least": 1} if dry_run else {"seconds": 0.5, "least": 10}


def _recover(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _on_device(frames: list[RGB_HW3], device: torch.device) -> list[torch.Tensor]:
    return [torch.from_numpy(frame).to(device) for frame in frames]


def _on_host(frames: list[RGB_HW3], device: torch.device) -> list[torch.Tensor]:
    """In pinned memory where there is a GPU."""
    tensors = [torch.from_numpy(frame) for frame in frames]
    return [tensor.pin_memory() for tensor in tensors] if device.type == "cuda" else tensors
