"""``python -m train export``: a run as one ONNX file for realtime, its threshold measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.commands.shared import AlignOption, align_options, bar

if TYPE_CHECKING:
    from train.evaluation.sets import VerificationSet
    from train.runs import Run


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run of `train fit`, or its checkpoint.")],
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    fmr: Annotated[float, typer.Option(help="False match rate, a comparison, that the threshold is set at.")] = 1e-4,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="SET",
            help="What it is measured on, as in `train evaluate`; the run's people kept back if not given.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in the manifest; the run's folder if not given.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, as the data's owner allows it.")] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, or mixed-fp16: a body of float16 for TensorRT, its last layer in float32.")
    ] = "fp32",
    mirrored: Annotated[
        bool,
        typer.Option("--mirrored", help="Average the face and its mirror image in the file: half as fast."),
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor, while measuring.")] = 1,
    align: AlignOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a run as a model that realtime runs: --set embed.model=FILE.

    The threshold is measured at --fmr on people that the run has not seen. The manifest inside the file says on which,
    on how many comparisons, and how sure it is.
    """
    from engines.export import write_wanted
    from engines.networks.model_files import PRECISIONS
    from train.export import check_served, export_run, source_text, terms_of
    from train.runs import open_run

    if precision not in PRECISIONS:
        raise typer.BadParameter(f"precision is {precision!r}; known are {', '.join(PRECISIONS)}")
    if output.suffix.lower() != ".onnx":
        raise typer.BadParameter(f"{output}: a model file ends in .onnx", param_hint="--output")
    if not 0 < fmr < 1:
        raise typer.BadParameter(f"fmr is {fmr:g}; a share of comparisons between 0 and 1 is needed")
    opened = open_run(run)
    check_served(opened)
    terms = terms_of(opened, name=name, licence=licence, mirrored=mirrored)
    wanted = _set(opened, on, align_options(align))
    with bar("embedding", "face") as told:
        found = export_run(opened, wanted, fmr=fmr, terms=terms, precision=precision, threads=threads, progress=told)
    write_wanted(output, found.model.content)
    if as_json:
        print(json.dumps({"path": str(output), **found.to_json()}))
        return
    manifest = found.model.manifest
    print(f"{output}: {manifest.name}, {len(found.model.content) / 1e6:.1f} MB, model {manifest.model_id}")
    print(f"  threshold {manifest.threshold:g} at FMR {fmr:g}: {source_text(found)}")
    if found.point.mated_below is not None:
        hits = 100 * found.point.mated_below
        print(f"  there it matches {hits:.2f} % of comparisons of one person and misses {100 - hits:.2f} %")
    if found.seen:
        print(f"  careful: {len(found.seen)} people of it are called as people of the training set ({found.seen[0]})")
    print(f"  use it: realtime --source 0 --set embed.model={output}")


def _set(run: Run, on: str | None, options: dict[str, str]) -> VerificationSet:
    from train.evaluation.sets import open_verification
    from train.export import own_set

    if on is None:
        return own_set(run)
    with bar("reading faces", "photo") as told:
        return open_verification(on, template=run.template, size=run.size, options=options, progress=told)
