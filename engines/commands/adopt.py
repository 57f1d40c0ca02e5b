"""``python -m engines adopt``: somebody's ONNX file becomes a model of ours."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engines.export import ModelFile


def register(app: typer.Typer) -> None:
    app.command("adopt")(adopt)


def adopt(
    file: Annotated[Path, typer.Argument(help="An ONNX file: float32 images in, embeddings (N, D) out.")],
    name: Annotated[str | None, typer.Option(help="Keep it here under this name.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write it to this file instead.")] = None,
    layout: Annotated[str, typer.Option(help="Order of its input's axes: nchw or nhwc.")] = "nchw",
    mean: Annotated[
        str, typer.Option(help="Taken off the values 0..255; auto: 127.5, or 0 where the graph does it itself.")
    ] = "auto",
    std: Annotated[
        str, typer.Option(help="What they are then divided by; auto: 127.5, or 1 where the graph does it itself.")
    ] = "auto",
    colour: Annotated[str, typer.Option(help="Channels that it was trained on: rgb or bgr.")] = "rgb",
    template: Annotated[str, typer.Option(help="Alignment template that it was trained on.")] = "arcface_112",
    threshold: Annotated[
        float | None, typer.Option(help="Squared L2 distance below which two faces may match; 1.2 if not given.")
    ] = None,
    fmr: Annotated[float | None, typer.Option(help="False match rate at which the threshold was set.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "not stated",
    training_set: Annotated[str | None, typer.Option(help="What the weights were trained on.")] = None,
    unit_length: Annotated[
        bool, typer.Option("--unit-length/--raw", help="Divide each embedding by its length, or not.")
    ] = True,
    mirrored: Annotated[bool, typer.Option("--mirrored", help="Average the face and its mirror image.")] = False,
    output_name: Annotated[str | None, typer.Option(help="The embeddings, where it has several outputs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Wrap a foreign ONNX network, prove that it answers as before, and keep it."""
    from engines.intake.adopt import NOT_CALIBRATED, Terms, read_file
    from engines.intake.adopt import adopt as wrap
    from engines.models import ForeignInput

    if (name is None) == (output is None):
        raise typer.BadParameter("give either --name, to keep it here, or --output, to write a file")
    if fmr is not None and threshold is None:
        raise typer.BadParameter("--fmr says at which rate a threshold was set; give --threshold too")
    if not unit_length and threshold is None:
        raise typer.BadParameter("--raw needs --threshold: 1.2 holds between embeddings of length 1")
    try:
        reading = ForeignInput(layout=layout, mean=_number("--mean", mean), std=_number("--std", std), colour=colour)
        terms = Terms(
            name=name or file.stem,
            template=template,
            unit_length=unit_length,
            mirrored=mirrored,
            threshold=1.2 if threshold is None else threshold,
            threshold_fmr=fmr,
            threshold_source=NOT_CALIBRATED if threshold is None else "given at the adoption",
            licence=licence,
            training_set=training_set,
        )
    except ValueError as err:
        raise typer.BadParameter(str(err)) from err
    model = wrap(read_file(file), str(file), terms, reading=reading, output=output_name, folder=file.parent)
    _report(_keep(name, output, model), name, model, as_json)


def _number(option: str, text: str) -> float | None:
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise ValueError(f"{option} is {text!r}; one number for all channels is needed, or auto") from None


def _keep(name: str | None, output: Path | None, model: ModelFile) -> Path:
    from engines.export import write_wanted
    from engines.store import keep_named

    if name is not None:
        return keep_named(name, model)
    assert output is not None
    write_wanted(output, model.content)
    return output


def _report(path: Path, name: str | None, model: ModelFile, as_json: bool) -> None:
    manifest = model.manifest
    if as_json:
        said = {"path": str(path), "bytes": len(model.content), "model_id": manifest.model_id}
        print(json.dumps({**said, "manifest": asdict(manifest)}))
        return
    print(f"{path}: {manifest.name}, {len(model.content) / 1e6:.1f} MB, model {manifest.model_id}")
    print(f"  takes {manifest.template} faces, gives {manifest.dimensions} numbers; its answers are the original's")
    print(f"  threshold {manifest.threshold:g}, {manifest.threshold_source}")
    print(f"  use it: realtime --source 0 --set embed.model={name or path}")
