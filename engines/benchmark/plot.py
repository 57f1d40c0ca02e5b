"""Faces a second against batch, as a picture.

Enters: a ``Bench``. Leaves: a PNG or SVG file. matplotlib draws it; nothing else needs that.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from engines.benchmark.contestants import REFERENCES
from engines.benchmark.results import Bench, Row
from engines.errors import EngineError, RuntimeMissing

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, told apart by colour-blind people too."""

MARKERS: Final = "osD^vP*"

GREY: Final = "#777777"

LOG_ABOVE: Final = 30
"""Fastest over slowest: beyond it (a GPU beside a processor) the slow ones would lie on the axis."""


def check_plotting(path: Path) -> None:
    """Before anything is measured: whether a picture can be drawn there.

    Raises:
        RuntimeMissing: matplotlib is not installed.
        EngineError: the folder is missing, or the name ends in something that is no picture.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as err:
        raise RuntimeMissing(
            f"--plot needs matplotlib ({err}); install it with `pip install 'realtime-arcface[plots]'`"
        ) from err
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise EngineError(f"{path}: a plot is a .png, .svg or .pdf file; name it so")
    if not path.parent.is_dir():
        raise EngineError(f"{path}: there is no such folder; make it first")


def plot(bench: Bench, path: Path) -> None:
    """Draw one panel a model.

    Raises:
        EngineError: nothing was measured, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    rows = [row for row in bench.rows if row.task.startswith("embed")]
    models = list(dict.fromkeys(row.model for row in rows))
    if not models:
        raise EngineError(f"{path}: nothing was measured, so there is nothing to draw")
    figure = Figure(figsize=(7.5 * len(models), 5), layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        _panel(axes, [row for row in rows if row.model == model])
    figure.suptitle(f"{bench.machine['processor']}, {bench.machine['cores']} cores", fontsize=9, color=GREY)
    try:
        figure.savefig(path, dpi=150)
    except OSError as err:
        raise EngineError(f"{path}: cannot be written ({err.strerror}); choose another place") from err


def _panel(axes: Any, rows: Sequence[Row]) -> None:
    lines = {engine: [row for row in rows if row.engine == engine] for engine in dict.fromkeys(r.engine for r in rows)}
    fastest = sorted(lines, key=lambda engine: -lines[engine][-1].per_s)
    ours = [engine for engine in lines if engine not in REFERENCES]
    for engine in fastest:
        index = ours.index(engine) if engine in ours else None
        colour = GREY if index is None else COLOURS[index % len(COLOURS)]
        axes.plot(
            [row.batch for row in lines[engine]],
            [row.per_s for row in lines[engine]],
            label=engine,
            color=colour,
            marker="x" if index is None else MARKERS[index % len(MARKERS)],
            linestyle="--" if index is None else "-" if index < len(COLOURS) else ":",
        )
    batches = sorted({row.batch for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    rates = [row.per_s for row in rows]
    if max(rates) > LOG_ABOVE * min(rates):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("faces in a batch")
    axes.set_ylabel("faces a second")
    threads = max(row.threads for row in rows)
    axes.set_title(f"{rows[0].model}, {threads} thread{'s' * (threads > 1)}")
    axes.grid(axis="y", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
