"""Real processes with gloo between them, for tests of what several ranks do together."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from train.sharding.ranks import Ranks

Work = Callable[[Ranks, Path], Any]
"""Runs in each process; what it returns is tensors, numbers and text."""


def on_ranks(size: int, work: Work, folder: Path, *, wait_s: float = 120) -> list[Any]:
    """What ``work`` returned on each rank. ``work`` is a function of a module, because it goes there by name."""
    folder.mkdir(parents=True, exist_ok=True)
    context = get_context("forkserver")  # one process imports torch, the others are its copies
    context.set_forkserver_preload(["train.sharding.centres", "train.checkpoints"])
    port = free_port()
    processes = [context.Process(target=_run, args=(rank, size, port, work, folder)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(wait_s)
        if process.is_alive():
            process.kill()
    codes = [process.exitcode for process in processes]
    assert codes == [0] * size, codes
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(size)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _run(rank: int, size: int, port: int, work: Work, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= environment(rank, size, port)
    with Ranks.from_environment("cpu", timeout_s=60) as ranks:
        torch.save(work(ranks, folder), folder / f"rank{rank}.pt")
