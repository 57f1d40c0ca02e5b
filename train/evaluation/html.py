"""A report as one page that needs nothing else: its pictures lie in it, it runs no script, and it shows no face.

Enters: a ``Report``. Leaves: HTML text.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from train.evaluation.conditions import Conditions
from train.evaluation.plots import det, heat_map, roc, scores
from train.evaluation.report import (
    Report,
    SetReport,
    conditions_words,
    facts_of,
    figures_of,
    gallery_words,
    points_of,
    searches_of,
)

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-top: 1px solid #ddd; padding-top: 1em; }
table { border-collapse: collapse; margin: .8em 0; }
th, td { text-align: left; padding: .25em 1.2em .25em 0; border-bottom: 1px solid #e6e6e6; }
td { font-variant-numeric: tabular-nums; }
ul { color: #555; padding-left: 1.2em; font-size: .93em; }
img { max-width: 100%; height: auto; margin: .4em 1em .4em 0; vertical-align: top; }
"""

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Nothing is fetched, whatever a name in the report looks like."""


def page(report: Report) -> str:
    """The whole page."""
    curves = {one.verification.name: one.verification.curves for one in report.sets}
    parts = [
        f"<h1>{escape(str(report.model['name']))}</h1>",
        _table((), [(key.replace("_", " "), _value(value)) for key, value in report.model.items()]),
        _list(report.notes),
        _picture(roc(curves), "ROC of every set"),
        _picture(det(curves), "DET of every set"),
        *(_set(one) for one in report.sets),
    ]
    if report.conditions is not None:
        parts.append(_conditions(report.conditions))
    title = escape(f"Evaluation of {report.model['name']}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _set(one: SetReport) -> str:
    found = one.verification
    chosen = found.over_all.points if found.over_all is not None else found.points
    thresholds = {f"FAR {point.rate:g}": point.threshold for point in chosen if point.rate in (1e-2, 1e-4)}
    parts = [
        f"<h2>{escape(found.name)}</h2>",
        _list(facts_of(found)),
        _table(("", "% with its 95 % interval"), list(figures_of(found))),
    ]
    if points := points_of(found):
        parts.append(_table(("FAR", "TAR over the list", "TAR over all comparisons", "threshold"), points))
    parts.append(_picture(scores(found.curves, thresholds=thresholds, title=found.name), "Distances"))
    if one.identification is not None:
        parts += [
            "<h3>Identification</h3>",
            _list([gallery_words(one.identification)]),
            _table(("", "% with its 95 % interval"), list(searches_of(one.identification))),
        ]
    return "\n".join(parts)


def _conditions(found: Conditions) -> str:
    parts = ["<h2>Conditions</h2>", _list([conditions_words(found)])]
    for one in found.maps:
        parts.append("<div>")
        parts += [_picture(heat_map(one, what=what), f"{what}, {one.title}") for what in ("tar", "cosine")]
        parts.append("</div>")
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def _list(items: Iterable[str]) -> str:
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>" if entries else ""


def _picture(png: bytes, words: str) -> str:
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _value(value: object) -> str:
    return "not measured" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
