"""How each command of a proof begins.

Enters: what a person typed. Leaves: the device and an empty ``Proof``; without a GPU a dry run on the processor, or a
sentence.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from engines.errors import EngineError
from engines.proofs.clock import device_name, device_of
from engines.proofs.record import Proof


def begin(
    part: str,
    title: str,
    program: str,
    *,
    path: Path | None,
    dry_run: bool,
    minutes: float,
    told: Callable[[str], object],
) -> tuple[Proof, torch.device]:
    """
    Args:
        part: short name.
        title: for people.
        program: how the command is called, as ``python -m engines``.
        path: of the JSON file; None keeps it in memory.
        dry_run: tiny shapes, on the processor too.
        minutes: of the whole proof.
        told: told each line as it comes.

    Raises:
        EngineError: there is no GPU and no dry run is wanted, or the file cannot be written.
    """
    device = device_of()
    if device.type == "cpu" and not dry_run:
        raise EngineError("torch sees no NVIDIA GPU; see that everything runs with --dry-run, or look at `nvidia-smi`")
    proof = Proof(
        part,
        title,
        path=path,
        command=f"{program} {shlex.join(_telling(sys.argv[1:]))}",
        device=device_name(device),
        dry_run=dry_run,
        seconds=60 * minutes,
        told=told,
    )
    return proof, device


def _telling(words: list[str]) -> list[str]:
    """What was typed without where it was to be kept, which is of one machine."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == "--json":
            skip = True
        elif not word.startswith("--json="):
            kept.append(word)
    return kept
