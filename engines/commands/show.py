"""``python -m engines list`` and ``show``: which models there are, and what one promises."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

COLUMNS = ("name", "network", "state", "licence", "source")


def register(app: typer.Typer) -> None:
    app.command("list")(list_models)
    app.command("show")(show)


def list_models(as_json: AsJson = False) -> None:
    """List the models that are known by name, and where they are."""
    from engines.models import known_models
    from engines.store import stored_names

    known, stored = known_models(), stored_names()
    rows = [_known_row(model, stored) for model in known.values()]
    rows += [_own_row(name) for name in stored if name not in known]
    if as_json:
        print(json.dumps(rows))
        return
    table = [COLUMNS, *(tuple(str(row[column]) for column in COLUMNS) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show(
    model: Annotated[str, typer.Argument(help="An ONNX file with a manifest, or a name that `list` shows.")],
    as_json: AsJson = False,
) -> None:
    """Print what a model promises."""
    from engines.store import find_model

    found = find_model(model)
    values = asdict(found.manifest)
    if as_json:
        print(json.dumps(values))
        return
    for key, value in values.items():
        print(f"{key:>16}  {value}")


def _known_row(model: Any, stored: list[str]) -> dict[str, Any]:
    """One entry of ``configs/models.yaml``."""
    from engines.store import place_of

    if model.package:
        state, source = "installed", model.package.replace("_", "-")
    elif model.name in stored:
        state, source = "here", str(place_of(model.name))
    else:
        state, source = ("by hand", model.weights) if model.by_hand else ("to fetch", model.url)
    return {
        "name": model.name,
        "network": model.network,
        "state": state,
        "licence": model.licence,
        "source": source,
        "must_accept": model.must_accept,
        "published": dict(model.published),
    }


def _own_row(name: str) -> dict[str, Any]:
    """A model that somebody imported or adopted."""
    from engines.errors import ModelFileError
    from engines.export import load_model
    from engines.store import place_of

    path = place_of(name)
    row = {"name": name, "source": str(path), "must_accept": False, "published": {}}
    try:
        manifest = load_model(path).manifest
    except ModelFileError as err:
        return {**row, "network": "", "state": "damaged", "licence": "", "source": str(err)}
    return {**row, "network": manifest.network, "state": "here", "licence": manifest.licence}
