"""``python -m engines verify``: do a model's runtimes give the reference's answers?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.commands.shared import AlignOption, align_options, bar

if TYPE_CHECKING:
    from engines.export import ModelFile
    from engines.runtimes import Row
    from engines.verification.faces import FaceSet
    from engines.verification.pairs import PairList


def register(app: typer.Typer) -> None:
    app.command("verify")(verify)


def verify(
    faces: Annotated[
        Path, typer.Option(help="Folder of aligned crops or photos (person/image.jpg), a tar of one, or .npy of crops.")
    ],
    model: Annotated[
        str | None, typer.Argument(metavar="[FILE|NAME]", help="The model; the embedded descriptor if none.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="The reference; the same model in fp32 if none.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="What is judged; the one that would be taken if auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = "auto",
    all_: Annotated[bool, typer.Option("--all", help="Every runtime and precision that works here.")] = False,
    pairs: Annotated[Path | None, typer.Option(help="List of pairs as LFW's pairs.txt; only its photos count.")] = None,
    align: AlignOption = None,
    form: Annotated[
        str, typer.Option(help="What --faces holds: crops, photos, or auto (crops if they have the model's size).")
    ] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="So many faces at most, evenly over the set.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of each runtime.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare embeddings with the reference's, and error rates where the set says who is who.

    Gates: in fp32 the cosine of every face must be 0.9999, in bf16 and fp16 0.999; int8 may lose less TAR at FAR 1e-3
    than that figure's confidence interval, for which labels are needed. Exit code 1 where one fails. What is found is
    recorded: `auto` does not choose a runtime that failed.
    """
    from engines.runtimes import grouped
    from engines.store import default_model, find_model
    from engines.verification.pairs import read_pairs
    from engines.verification.report import report
    from engines.verification.run import verify as compare

    whole = default_model() if model is None else find_model(model)
    reference = None if against is None else find_model(against)
    listed = None if pairs is None else read_pairs(pairs)
    rows, passed_over = _rows(whole, runtime, precision, all_)
    found = compare(
        whole,
        rows,
        _read(whole, faces, align or [], form, limit, listed),
        reference=reference,
        pairs=listed,
        threads=threads,
        progress=_Bars(),
    )
    if as_json:
        print(json.dumps({**found.to_json(), "passed_over": {row.title: reason for row, reason in passed_over}}))
    else:
        print(report(found))
        print(*grouped(tuple(passed_over)), sep="\n")
    raise typer.Exit(0 if found.passed else 1)


def _rows(model: ModelFile, runtime: str, precision: str, every: bool) -> tuple[list[Row], list[tuple[Row, str]]]:
    """What to judge; with --all also what does not work here and why."""
    from engines.engine import open_model
    from engines.verification.run import working_rows

    if every:
        if (runtime, precision) != ("auto", "auto"):
            raise typer.BadParameter("takes neither --runtime nor --precision", param_hint="--all")
        return working_rows(model)
    try:
        engine = open_model(model, runtime=runtime, precision=precision)
    except ValueError as err:
        raise typer.BadParameter(str(err)) from err
    engine.close()
    return [engine.row], []


def _read(
    model: ModelFile, path: Path, align: list[str], form: str, limit: int | None, pairs: PairList | None
) -> FaceSet:
    from typing import get_args

    from engines.verification.faces import Form, read_faces

    if form not in get_args(Form):
        raise typer.BadParameter(f"{form!r}; known are {', '.join(get_args(Form))}", param_hint="--form")
    with bar("reading faces", "photo") as told:
        return read_faces(
            path,
            template=model.manifest.template,
            size=model.manifest.input_size,
            options=align_options(align),
            form=form,  # type: ignore[arg-type]
            limit=limit,
            only=None if pairs is None else pairs.stems,
            progress=told,
        )


class _Bars:
    """One bar after the other."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, what: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(desc=what, total=total, unit="face", leave=False, disable=None)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
            self._bar = None
