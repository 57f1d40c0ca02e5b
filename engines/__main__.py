"""``python -m engines``: export, show and time models."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import EngineError, ModelFileError

app = typer.Typer(help="Model files and what they cost here.", no_args_is_help=True, add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Exportable(str, Enum):
    """What ``export`` can convert."""

    dlib_resnet = "dlib-resnet"


@app.command()
def export(
    network: Annotated[Exportable, typer.Argument(help="Which network to convert.")],
    output: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    weights: Annotated[Path | None, typer.Option(help="dlib's .dat file; the installed one if not given.")] = None,
    unit_length: Annotated[bool, typer.Option(help="Divide each embedding by its length.")] = True,
    mirrored: Annotated[bool, typer.Option(help="Average the face and its mirror image.")] = True,
) -> None:
    """Convert a network to one ONNX file with its manifest inside."""
    from engines.export import dlib_manifest, dlib_model, write_atomically
    from engines.models import DEFAULT, known_model

    known = known_model({Exportable.dlib_resnet: DEFAULT}[network])
    manifest = dlib_manifest(known, unit_length=unit_length, mirrored=mirrored)
    content = dlib_model(known, weights or known.weights_path(), manifest)
    try:
        write_atomically(output, content)
    except OSError as err:
        raise ModelFileError(f"{output}: cannot be written ({err.strerror}); choose another place") from err
    print(f"{output}: {manifest.name}, {len(content) / 1e6:.1f} MB, model {manifest.model_id}")


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="An ONNX file with a manifest.")],
    as_json: AsJson = False,
) -> None:
    """Print what a model file promises."""
    from engines.export import read_manifest

    values = asdict(read_manifest(file))
    if as_json:
        print(json.dumps(values))
        return
    for key, value in values.items():
        print(f"{key:>16}  {value}")


@app.command()
def bench(
    faces: Annotated[int, typer.Option(min=1, help="Faces of the larger batch.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the median is shown.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the runtimes; at most 2 if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Time each runtime against the dlib wheel."""
    from engines.bench import bench_engines, format_rows

    rows = bench_engines(faces=faces, repeats=repeats, threads=threads)
    print(json.dumps([row.as_json() for row in rows]) if as_json else format_rows(rows))


def main() -> None:
    """The command line; a failure is one sentence and exit code 1."""
    try:
        app()
    except EngineError as err:
        print(f"engines: {err}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
