"""``python -m train bench``: how fast training is here."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from train.errors import ConfigError


def register(app: typer.Typer) -> None:
    app.command("bench")(bench)


def bench(
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Keep what is found there, after every line.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="A tiny network, on the processor too: see that everything runs.")
    ] = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="Leave out what no longer fits into so many.")] = 9.0,
) -> None:
    """Time an iresnet50's training on a GPU beside what people write, and hold its losses to the processor's.

    Exit code 1 if a loss differs by more than its precision may, or a speed that has to be reached is not. Nothing else
    should use the GPU meanwhile.
    """
    from engines.proofs.clock import device_name, device_of
    from engines.proofs.record import Proof
    from train.benchmark.run import TITLE, prove

    device = device_of()
    if device.type == "cpu" and not dry_run:
        raise ConfigError("torch sees no NVIDIA GPU; see that everything runs with --dry-run, or look at `nvidia-smi`")
    proof = Proof(
        "training",
        TITLE,
        path=json_file,
        command=shlex.join(["python", "-m", "train", *sys.argv[1:]]),
        device=device_name(device),
        dry_run=dry_run,
        seconds=60 * minutes,
        told=lambda line: print(line, file=sys.stderr, flush=True),
    )
    prove(proof, device)
    print(proof.report())
    if not proof.passed:
        raise typer.Exit(1)
