"""``realtime calibrate``: a labelled set of photos in, a model's threshold and its false match rate out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from realtime.calibration import DEFAULT_RATE, RATES
from realtime.errors import OutputError, RealtimeError
from realtime.settings import load_settings


def register(app: typer.Typer) -> None:
    app.command("calibrate")(calibrate_command)


def calibrate_command(
    images: Annotated[
        Path, typer.Argument(metavar="SET", help="Folder person/image.jpg, or a tar of it (read in place).")
    ],
    fmr: Annotated[
        float, typer.Option(min=1e-9, max=0.1, help="False match rate a comparison at which the threshold is set.")
    ] = DEFAULT_RATE,
    pairs: Annotated[Path | None, typer.Option(help="List of mated pairs, as LFW's pairs.txt.")] = None,
    model: Annotated[Path | None, typer.Option(help="ONNX model file; the embedded model if not given.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write everything as JSON to this file.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the threshold into the file of --model.")] = False,
    config: Annotated[str | None, typer.Option(help="Preset or YAML file of settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting.")] = None,
) -> None:
    """Measure at which distance a model confuses people, and how many a gallery names right.

    Every pair of photos of different people in the set is compared. The first call embeds each photo (about 30 ms a
    photo); embeddings are kept, so that a second call takes seconds and a stopped one goes on.
    """
    from tqdm import tqdm

    from realtime.calibration.report import models_yaml_lines, report
    from realtime.calibration.run import calibrate, write_threshold

    if write and model is None:
        raise typer.BadParameter(
            "goes with --model FILE; for the embedded model the lines for configs/models.yaml are printed without it",
            param_hint="--write",
        )
    overrides = [*(set_ or []), *([] if model is None else [f"embed.model={json.dumps(str(model))}"])]
    settings = load_settings(config, overrides)
    with tqdm(unit="photo", desc="embedding", leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = calibrate(images, settings, pairs_file=pairs, rates=(*RATES, fmr), progress=progress)
    print(report(result, rate=fmr, margin=settings.identity.margin))
    if output is not None:
        _write_json(result.to_json(), output)
    if write and model is not None:
        manifest = write_threshold(model, result, fmr)
        print(f"\n{model}: threshold {manifest.threshold:g} at a false match rate of {fmr:g} written")
    elif model is None:
        try:
            print(f"\nfor configs/models.yaml:\n{models_yaml_lines(result, fmr)}")
        except RealtimeError as err:
            print(f"\n{err}")


def _write_json(values: dict[str, Any], path: Path) -> None:
    try:
        path.write_text(json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    except OSError as err:
        raise OutputError(f"{path}: cannot be written ({err.strerror}); choose another file") from err
