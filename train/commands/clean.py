"""``python -m train clean``: images under a wrong name are found, shown, and left out of a copy of the set."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engines.commands.shared import bar

if TYPE_CHECKING:
    from train.cleaning.drops import Cleaning
    from train.cleaning.limits import Limit
    from train.prepared import PreparedSet

DROPS: Final = "drops.jsonl"
SHEET: Final = "drops.png"
OWN: Final = "own"


def register(app: typer.Typer) -> None:
    app.command("clean")(clean)


def clean(
    prepared: Annotated[Path, typer.Argument(metavar="SET", help="Prepared set; its training images are looked at.")],
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run (best one of this set with loss.sub_centers=3), a model file, or a name of `python -m engines "
            "list`; dlib-resnet-v1 is the embedded one, for crops of dlib_chip_150.",
        ),
    ],
    output: Annotated[Path, typer.Option(help=f"Folder for {DROPS} and {SHEET}.")],
    angle: Annotated[
        str,
        typer.Option(
            metavar=f"DEGREES|{OWN}",
            help=f"Drop images so far from their subject; {OWN}: the angle that the set itself suggests.",
        ),
    ] = "75",
    precision: Annotated[
        float,
        typer.Option(min=0.5, max=0.999, help=f"Share of what --angle {OWN} drops that should be wrongly named."),
    ] = 0.9,
    apply: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Also write the set without them, as a new prepared set.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the centres that are learned here.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Find images that do not look like most of their subject (sub-center ArcFace, K = 3).

    A run that was trained on SET with sub-centres is taken with its own; for every other model three centres a class
    are learned on its embeddings, which takes seconds. Nothing is deleted: look at the sheet, then use --apply.
    """
    from train.cleaning.applying import apply as write_cleaned
    from train.cleaning.applying import check_free
    from train.cleaning.drops import drop_list
    from train.cleaning.sheet import drop_sheet
    from train.prepared import open_prepared

    limit = _angle(angle)
    held = open_prepared(prepared)
    if apply is not None:
        check_free(apply)
    _made(output)
    found = _found(held, model, limit, precision, seed)
    written = [
        _written(output, DROPS, drop_list(found)),
        _written(output, SHEET, drop_sheet(held.train, found)),
    ]
    if apply is not None:
        with bar("copying", "crop") as told:
            write_cleaned(held, found, apply, progress=told)
        written.append(str(apply))
    if as_json:
        print(json.dumps({**found.to_json(), "written": written}))
        return
    print(*_lines(found), sep="\n")
    print(f"\nwritten: {', '.join(written)}")


def _found(held: PreparedSet, model: str, limit: float | None, precision: float, seed: int) -> Cleaning:
    from train.cleaning.run import centres_of
    from train.cleaning.run import clean as find
    from train.evaluation.models import opened
    from train.evaluation.sets import check_crops
    from train.runs import is_run, open_run

    own = centres_of(open_run(Path(model)), held) if is_run(Path(model)) else None
    with opened(model) as embedding, ExitStack() as bars:
        check_crops(held, embedding.template, embedding.size)
        shown: dict[str, Callable[[int, int], Any]] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in shown:
                shown[what] = bars.enter_context(bar(what, "face" if what == "embedding" else "step"))
            shown[what](done, total)

        return find(
            held,
            embedding.embed,
            centres_CKD=own,
            angle_deg=limit,
            precision=precision,
            seed=seed,
            progress=told,
        )


def _angle(text: str) -> float | None:
    if text == OWN:
        return None
    try:
        degrees = float(text)
    except ValueError as err:
        raise typer.BadParameter(f"{text!r}; give degrees, as 75, or {OWN}", param_hint="--angle") from err
    if not 0 < degrees <= 180:
        raise typer.BadParameter(f"{text}; an angle lies between 0 and 180 degrees", param_hint="--angle")
    return degrees


def _made(folder: Path) -> None:
    """Before the work, not after it."""
    from train.errors import DataError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"{folder}: cannot be made a folder ({err.strerror}); name another --output") from err


def _written(folder: Path, name: str, content: bytes) -> str:
    from engines.export import write_wanted

    write_wanted(folder / name, content)
    return str(folder / name)


def _lines(found: Cleaning) -> list[str]:
    lines = [
        f"{len(found.drops)} of {found.images} images would go, of {found.people} people; centres: {found.centres}",
        f"  at {_said(found.limit)}",
    ]
    if found.own != found.limit:
        lines.append(f"  the set itself suggests {_said(found.own)}")
    lines.append(f"  {100 * found.limit.wrong_share:.1f} % of the names seem to be wrong")
    for drop in found.drops[:5]:
        like = f", looks like {drop.looks_like} ({drop.looks_like_deg:.0f})" if drop.looks_like else ""
        lines.append(f"  {drop.angle_deg:.0f} degrees: {ascii(drop.name)[1:-1]}{like}")
    for people, what in ((found.emptied, "nothing is left of"), (found.doubtful, "half or more goes of")):
        if people:
            names = ", ".join(ascii(name)[1:-1] for name in people[:5]) + (", ..." if len(people) > 5 else "")
            lines.append(f"  {what} {len(people)} people: {names}")
    if found.few:
        lines.append(f"  {found.few} people have fewer than 5 images, which say little about each other")
    return lines


def _said(limit: Limit) -> str:
    if limit.precision is None:
        return f"{limit.angle_deg:g} degrees, where nothing goes"
    recall = "" if limit.recall is None else f", with {100 * limit.recall:.0f} % of all wrong ones"
    return f"{limit.angle_deg:g} degrees, {100 * limit.precision:.0f} % of them seem to be wrong{recall}"
