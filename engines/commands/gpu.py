"""``python -m engines gpu``: prove and time what runs on the GPU."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

PARTS: Final = {
    "embedding": "engines.proofs.embedding",
    "dlib": "engines.proofs.dlib",
    "matching": "engines.proofs.matching",
}
"""Each module has ``prove(proof, device)`` and ``TITLE``."""


def register(app: typer.Typer) -> None:
    app.command("gpu")(gpu_command)


def gpu_command(
    part: Annotated[str, typer.Argument(metavar="|".join(PARTS), help="What to prove.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Keep what is found there, after every line.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tiny shapes, on the processor too: see that everything runs.")
    ] = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="Leave out what no longer fits into so many.")] = 9.0,
) -> None:
    """Hold what runs on the GPU to the processor's answers, and time it beside what people write themselves.

    Exit code 1 if an answer differs by more than its precision may. Nothing else should use the GPU meanwhile.
    """
    if part not in PARTS:
        raise typer.BadParameter(f"{part!r} is none of {', '.join(PARTS)}", param_hint="PART")
    from engines.networks.library import torch_library

    torch_library()
    from engines.proofs.starting import begin

    module = importlib.import_module(PARTS[part])
    proof, device = begin(
        part,
        module.TITLE,
        "python -m engines",
        path=json_file,
        dry_run=dry_run,
        minutes=minutes,
        told=lambda line: print(line, file=sys.stderr, flush=True),
    )
    module.prove(proof, device)
    print(proof.report())
    if not proof.passed:
        raise typer.Exit(1)
