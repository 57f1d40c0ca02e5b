"""``python -m engines bench``: what models cost here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from engines.errors import EngineError

CTRL_C: Final = 130
"""Exit code of a bench that was stopped, as shells have it."""


def register(app: typer.Typer) -> None:
    app.command("bench")(bench_command)


def bench_command(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE|NAME]...", help="Models; the embedded descriptor if none.")
    ] = None,
    runtimes: Annotated[
        str, typer.Option(help="Runtimes (openvino) or rows (openvino bf16), with commas; all that work here.")
    ] = "all",
    batch: Annotated[str, typer.Option(help="Faces in a call, with commas.")] = "1,8,64",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the runtimes on the processor; at most 2 if not given.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Of each contestant at each batch in a round; one call at least.")
    ] = 0.5,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are shown.")] = 5,
    detector: Annotated[bool, typer.Option("--detector", help="dlib's CNN detector too.")] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write it all as JSON; - prints that only.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw faces a second against batch; needs matplotlib.")
    ] = None,
) -> None:
    """Measure every runtime that works here beside what people use today.

    That is torch eager in fp32 for the networks of this project and dlib's own wheel for the embedded descriptor.
    Each contestant runs in a process of its own, in turn with the others; Ctrl-C shows what is there by then.
    Nothing else should run.
    """
    from tqdm import tqdm

    from engines.bench import bench, report
    from engines.benchmark.plot import check_plotting
    from engines.benchmark.plot import plot as draw

    if plot is not None:
        check_plotting(plot)
    with tqdm(unit="step", leave=False, disable=None) as bar:

        def progress(title: str, done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            bar.set_description(title)

        try:
            found = bench(
                models or (),
                runtimes=_names(runtimes),
                batches=_batches(batch),
                threads=threads,
                seconds=seconds,
                repeats=repeats,
                detector=detector,
                progress=progress,
            )
        except ValueError as err:
            raise EngineError(str(err)) from err
    text = json.dumps(found.as_json(), indent=1, ensure_ascii=False) + "\n"
    if json_file == "-":
        print(text, end="")
    else:
        print(report(found))
        if json_file is not None:
            _write(Path(json_file), text)
    if plot is not None and (found.rows or not found.interrupted):
        draw(found, plot)
    if found.interrupted:
        raise typer.Exit(CTRL_C)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _batches(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter(f"{text!r} is not a list of numbers, as 1,8,64", param_hint="--batch")
    return sizes


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        raise EngineError(f"{path}: cannot be written ({err.strerror}); choose another file") from err
