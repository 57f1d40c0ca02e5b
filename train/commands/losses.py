"""``python -m train losses``: every loss of the ArcFace paper's table with one budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from train.errors import ConfigError

if TYPE_CHECKING:
    from train.losses.table import Row


def register(app: typer.Typer) -> None:
    app.command("losses")(losses)


def losses(
    data: Annotated[Path, typer.Argument(metavar="SET", help="A prepared set with people kept back.")],
    output: Annotated[Path, typer.Option(help="Folder of the runs, losses.jsonl and losses.md.")],
    config: Annotated[str, typer.Option(help="A preset or YAML file: the budget of every row.")] = "lfw_losses",
    rows: Annotated[
        str | None, typer.Option(metavar="TITLE,...", help="Some of the rows, as 'ArcFace (0.5),Softmax'.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Begin no row that would end later; the next call goes on.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Of every row; repeatable.")
    ] = None,
) -> None:
    """Train every loss of the ArcFace paper's table with the same steps, order and network, and compare them.

    Figures are of the people kept back, with 95 % intervals over people. Rows that are done are not trained again.
    Exit code 3 where rows are left for the next call.
    """
    from train.comparison.run import PAGE, compare, markdown
    from train.prepared import open_prepared
    from train.settings import FitSettings, load_fit_settings
    from train.sharding.ranks import Ranks

    wanted, prepared = _wanted(rows), open_prepared(data)
    own = tuple(set_ or ())

    def settings(overrides: object) -> FitSettings:
        assert isinstance(overrides, tuple)
        return load_fit_settings(config, [f"data.path={data}", *own, *overrides])

    ranks = Ranks.from_environment(settings(()).run.device)
    if ranks.size > 1:
        raise ConfigError("the table of losses is trained by one process; start it without torchrun")
    found, left = compare(
        settings,
        prepared,
        ranks,
        output,
        rows=wanted,
        minutes=minutes,
        told=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(*markdown(found), sep="\n")
    if left:
        print(f"losses: still to be trained: {', '.join(left)}; call again to go on", file=sys.stderr)
        raise typer.Exit(3)
    print(f"losses: the table is in {output / PAGE}", file=sys.stderr)


def _wanted(text: str | None) -> list[Row]:
    from train.losses.table import ROWS

    if text is None:
        return list(ROWS)
    known = {row.title: row for row in ROWS}
    titles = [title for title in known if title in text]
    if not titles:
        raise typer.BadParameter(f"known are {', '.join(known)}", param_hint="--rows")
    return [known[title] for title in titles]
