"""How fast training is beside what people write, and whether it is the processor's.

Enters: a device. Leaves: a ``Proof``'s tables and checks: losses on fixed seeds, crops a second by loop and batch
beside the ceiling of the device's matrix products, and where the time of a step goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch

from engines.errors import first_line
from engines.networks import NETWORKS, Network
from engines.proofs import attempts
from engines.proofs.attempts import attempt
from engines.proofs.clock import copy_bytes_s, forget_memory, matmul_flop_s, wait_for
from engines.proofs.record import Proof, Table
from train.benchmark.ours import made_up, our_step
from train.benchmark.plain import Step, plain_step
from train.errors import TrainError
from train.fit.crops import Part
from train.fit.graph import WARM
from train.fit.rate import training_flops

TITLE: Final = "Training: an iresnet50 with ArcFace on crops that lie on the device"

CLASSES: Final = 10_000
BATCHES: Final = (16, 128, 256, 512, 1024)

GOOD: Final = 5_000
"""Crops a second that have to be reached."""

RECORDED: Final = 2.5
"""Times as many with a batch of 16, a whole step recorded, than the loop that people write."""

CLOSE: Final = {"fp32": 1e-4, "bf16": 3e-2}
"""How far losses may be from the processor's, relative: sums in another order, and 8 bits of a number."""

SMALL: Final = Network(name="small", family="iresnet", blocks=(1, 1, 1, 1), width=8, dimensions=32, input_size=32)

FAILURES: Final = (*attempts.FAILURES, TrainError)
"""What keeps one loop from running here: memory, a compiler, a kernel that is not there."""


@dataclass(frozen=True, slots=True)
class Loop:
    """One way of training."""

    name: str
    open: Callable[[Network, int, torch.device], Step]
    compiled: bool = False
    """Takes a minute at each batch."""


def loops(device: torch.device) -> list[Loop]:
    """Ours first: where time runs out, the others are left out."""
    half = torch.bfloat16
    ours = [Loop("ours, bf16", partial(our_step, precision="bf16"))]
    if device.type == "cuda":
        ours.insert(0, Loop("ours, bf16, recorded", partial(our_step, precision="bf16", recorded=True)))
    return [
        *ours,
        Loop("autocast bf16, as people write it", partial(plain_step, half=half)),
        Loop("fp32, as people write it", plain_step),
        Loop("fp32 without TF32, as people write it", partial(plain_step, tf32=False)),
        Loop(
            "ours, bf16, compiled" + (", recorded" if device.type == "cuda" else ""),
            partial(our_step, precision="bf16", compiled=True, recorded=device.type == "cuda"),
            compiled=True,
        ),
        Loop("torch.compile, autocast bf16", partial(plain_step, half=half, compiled=True), compiled=True),
    ]


def prove(proof: Proof, device: torch.device) -> None:
    """Answers first, then speed, then where the time goes."""
    network = SMALL if proof.dry_run else NETWORKS["iresnet50"]
    flops = training_flops(network, CLASSES)
    peak = matmul_flop_s(device, torch.bfloat16)
    ceilings = proof.table("ceilings", "What the device can do", ("what", "rate", "unit"))
    proof.row(ceilings, "matrix products, bf16", peak / 1e12, "TFLOP/s")
    proof.row(ceilings, "copy within the device, read and written", copy_bytes_s(device) / 1e9, "GB/s")
    proof.row(ceilings, f"{flops / 1e9:.3g} GFLOP a crop, forward and backward: the ceiling", peak / flops, "img/s")
    _same_losses(proof, device)
    table = proof.table(
        "speed",
        "Crops a second",
        ("loop", "batch", "img/s", "% of the ceiling", "ms a step", "peak MiB"),
        note=f"{CLASSES:,} classes; forward, backward, clip and update, crops on the device",
    )
    found: dict[tuple[str, int], float] = {}
    for loop in loops(device):
        for batch in _batches(loop, proof.dry_run):
            needed = 0.0 if proof.dry_run else 90.0 if loop.compiled else 8.0
            if loop.compiled and proof.dry_run:
                continue
            if proof.has_time(f"{loop.name}, batch {batch}", needed):
                images_s = _timed(proof, table, loop, network, batch, device, peak / flops)
                if images_s is not None:
                    found[loop.name, batch] = images_s
    _targets(proof, found)
    if proof.has_time("where the time goes", 0 if proof.dry_run else 20):
        attempt(proof, "where the time goes", lambda: _profile(proof, network, device), failures=FAILURES)


def _batches(loop: Loop, dry_run: bool) -> tuple[int, ...]:
    if dry_run:
        return (4, 8)
    return (256,) if loop.compiled else BATCHES


def _timed(
    proof: Proof, table: Table, loop: Loop, network: Network, batch: int, device: torch.device, ceiling: float
) -> float | None:
    """Crops a second; None where it does not run."""
    seconds = 0.0 if proof.dry_run else 1.5
    try:
        _forget(device)
        images_s = batch / step_seconds(loop.open(network, CLASSES, device), network, batch, device, seconds)
    except FAILURES as err:
        proof.skip(f"{loop.name}, batch {batch}", first_line(err))
        return None
    finally:
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    proof.row(table, loop.name, batch, images_s, 100 * images_s / ceiling, 1e3 * batch / images_s, peak)
    return images_s


def step_seconds(step: Step, network: Network, batch: int, device: torch.device, seconds: float) -> float:
    """Of one step, many given to the device without waiting between them."""
    parts = [made_up(batch, network.input_size, CLASSES, device, seed=seed) for seed in range(2)]
    for number in range(WARM + 2):
        step(parts[number % 2])
    wait_for(device)
    start, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - start < seconds:
        step(parts[count % 2])
        count += 1
        if count % 8 == 0:
            wait_for(device)
    wait_for(device)
    return (time.perf_counter() - start) / count


def _targets(proof: Proof, found: dict[tuple[str, int], float]) -> None:
    if proof.dry_run or not found:
        return
    best = max((value for (name, _), value in found.items() if name.startswith("ours")), default=0.0)
    proof.check("crops a second at the best batch", best >= GOOD, f"{best:,.0f}, {GOOD:,} are wanted")
    recorded = found.get(("ours, bf16, recorded", 16))
    eager = found.get(("autocast bf16, as people write it", 16))
    if recorded is not None and eager is not None:
        times = recorded / eager
        proof.check("a recorded step of 16 beside the written loop", times >= RECORDED, f"{times:.2f} of {RECORDED}")


def _same_losses(proof: Proof, device: torch.device) -> None:
    """The same weights and crops on the processor in fp32, and on the device in both precisions."""
    kinds = [("a small network, 8 steps", SMALL, 16, 8)]
    if not proof.dry_run:
        kinds.append(("an iresnet50, 2 steps", NETWORKS["iresnet50"], 8, 2))
    cpu = torch.device("cpu")
    for name, network, batch, steps in kinds:
        expected = losses(our_step(network, 50, cpu, precision="fp32", rate=0.01), network, batch, steps, cpu)
        for precision in ("fp32", "bf16"):
            ways = {"": False, ", recorded": True} if device.type == "cuda" else {"": False}
            for way, recorded in ways.items():

                def compare(
                    precision: Any = precision,
                    recorded: bool = recorded,
                    way: str = way,
                    name: str = name,
                    network: Network = network,
                    batch: int = batch,
                    steps: int = steps,
                    expected: list[float] = expected,
                ) -> None:
                    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
                        step = our_step(network, 50, device, precision=precision, recorded=recorded, rate=0.01)
                        got = losses(step, network, batch, steps, device)
                    worst = max(abs(one - other) / abs(other) for one, other in zip(got, expected, strict=True))
                    limit = CLOSE[precision]
                    proof.check(
                        f"losses of {name} in {precision}{way}",
                        worst <= limit,
                        f"off by {worst:.1e}, {limit:g} allowed",
                    )

                attempt(proof, f"losses of {name} in {precision}{way}", compare, failures=FAILURES)


def losses(step: Step, network: Network, batch: int, steps: int, device: torch.device) -> list[float]:
    """Of some steps on the same crops whatever the device."""
    parts: list[Part] = [made_up(batch, network.input_size, 50, device, seed=seed) for seed in range(steps)]
    return [float(step(part)) for part in parts]


def _profile(proof: Proof, network: Network, device: torch.device) -> None:
    """The kernels that take most of our step."""
    from torch.profiler import ProfilerActivity, profile

    batch = 8 if proof.dry_run else 256
    step = our_step(network, CLASSES, device, precision="bf16")
    part = made_up(batch, network.input_size, CLASSES, device)
    for _ in range(3):
        step(part)
    wait_for(device)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as seen:
        for _ in range(3):
            step(part)
        wait_for(device)
    taken = [(_own_us(event, device), event) for event in seen.key_averages()]
    whole = sum(us for us, _ in taken) or 1.0
    table = proof.table(
        "profile",
        f"Where our step of {batch} goes, not recorded",
        ("kernel or operator", "% of the device's time", "ms a step", "calls a step"),
    )
    for us, event in sorted(taken, key=lambda pair: -pair[0])[:15]:
        proof.row(table, str(event.key)[:100], 100 * us / whole, us / 3e3, event.count / 3)


def _own_us(event: Any, device: torch.device) -> float:
    """Microseconds of the device that are the event's own; of host events on a GPU none, their kernels have them."""
    if device.type != "cuda":
        return float(event.self_cpu_time_total)
    on_device = "CUDA" in str(getattr(event, "device_type", ""))
    return float(getattr(event, "self_device_time_total", 0.0)) if on_device else 0.0


def _forget(device: torch.device) -> None:
    forget_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
