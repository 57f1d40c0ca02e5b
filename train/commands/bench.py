"""``python -m train bench``: how fast training is here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


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
    from engines.proofs.starting import begin
    from train.benchmark.run import TITLE, prove

    proof, device = begin(
        "training",
        TITLE,
        "python -m train",
        path=json_file,
        dry_run=dry_run,
        minutes=minutes,
        told=lambda line: print(line, file=sys.stderr, flush=True),
    )
    prove(proof, device)
    print(proof.report())
    if not proof.passed:
        raise typer.Exit(1)
