"""The device before a run, and what it says when it cannot.

Enters: a plan; exceptions of torch. Leaves: threads and choices of kernels set; ``DeviceFull`` with what to lower,
``DeviceLost``, or the exception as it was.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from engines.errors import DeviceLost, OutOfDeviceMemory, first_line
from engines.gpu.cuda_errors import translated
from train.errors import DeviceFull
from train.fit.plan import Plan

GB: Final = 1e9

MALLOC_CHOICES: Final = {-4: 0, -1: (1 << 31) - 1, -2: 1 << 28}
"""glibc's malloc.h: M_MMAP_MAX, no block is mapped by itself; M_TRIM_THRESHOLD and M_TOP_PAD, little is given back and
much is taken at once, bytes."""

PROCESSOR: Final = "DefaultCPUAllocator: can't allocate memory"
"""How torch says that the processor's memory is full; it has no exception of its own for that."""


def prepare_device(plan: Plan) -> None:
    """Threads, which GPU is the current one, and how its kernels are chosen; all of it is torch's, for the process.

    A stream is made on the current GPU, whatever the tensors lie on: a step recorded on another would record nothing.

    Every step is of one size, so trying kernels pays. The one that wins may be another after a resume, and some add up
    in any order: a run whose bits must come out the same on a GPU sets ``run.deterministic``.
    """
    run = plan.settings.run
    if run.threads:
        torch.set_num_threads(run.threads)
    if plan.ranks.device.type == "cpu":
        keep_freed_memory()
    if plan.ranks.device.type == "cuda":
        if plan.ranks.device.index is not None:
            torch.cuda.set_device(plan.ranks.device)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS has no fixed order
        torch.backends.cudnn.benchmark = not run.deterministic
        torch.use_deterministic_algorithms(run.deterministic)


def keep_freed_memory() -> None:
    """Have the processor's memory stay with the process when it is freed, where the C library is glibc.

    By itself glibc maps each block of more than 32 MB anew, and the kernel clears it: a third of the time of a small
    network, whose activations are such blocks.
    """
    if platform.libc_ver()[0] == "glibc":
        choose = ctypes.CDLL(None).mallopt
        for option, value in MALLOC_CHOICES.items():
            choose(option, value)


@contextmanager
def device_troubles(plan: Plan) -> Iterator[None]:
    """Around everything that computes.

    Raises:
        DeviceFull: the memory does not hold the run.
        DeviceLost: the GPU does not answer any more.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as err:
        raise DeviceFull(full(plan, err)) from err
    except RuntimeError as err:
        known = translated(err, "the run", "torch")
        if isinstance(known, OutOfDeviceMemory) or PROCESSOR in str(err):
            raise DeviceFull(full(plan, err)) from err
        if isinstance(known, DeviceLost):
            raise known from err
        raise


def full(plan: Plan, err: BaseException) -> str:
    """The sentence: what was planned, what the library said, what to lower."""
    share, run = plan.order.share, plan.settings.run
    part = run.batch // (share.parts * share.ranks)
    part_words = f"raise run.accumulate to {2 * share.parts}" if part >= 4 else "lower run.batch"
    largest = max(plan.memory, key=lambda name: plan.memory[name])
    more = [part_words]
    if "crops" in plan.memory:
        more.append("set data.resident=host")
    if plan.precision == "fp32" and plan.ranks.device.type == "cuda":
        more.append("set run.precision=bf16")
    if largest.startswith("class centres"):
        more.append("lower loss.sample_rate or take more ranks")
    return (
        f"{plan.ranks.device}: out of memory ({first_line(err if isinstance(err, Exception) else str(err))}); the run "
        f"was planned with {sum(plan.memory.values()) / GB:.1f} GB, most of it {largest}: {', or '.join(more)}"
    )
