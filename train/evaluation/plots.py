"""Pictures of error rates: ROC, DET, scores, heat maps.

Enters: ``Curves`` by name, or a ``ConditionMap``. Leaves: PNG bytes. Drawn with matplotlib's objects, without a window
and without its global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from train.evaluation.conditions import ConditionMap
from train.evaluation.curves import Curves

# K thresholds; H bars of a histogram; R rows and C columns of a map
COLOURS: Final = ("#0b5fa5", "#c8501e", "#2e8540", "#7b3fa0", "#8a6d00", "#b0306a")
"""Told apart on white by people with any colour vision, in this order."""

MATED: Final = "#2e8540"
NON_MATED: Final = "#c8501e"
DPI: Final = 110
MOST_WRITTEN: Final = 250
"""Cells of a heat map up to which each has its number written in it."""


def roc(curves: Mapping[str, Curves]) -> bytes:
    """TAR over FAR, the latter on a logarithmic axis; a line a set."""
    figure, axes = _blank(6.4, 4.4)
    lowest = 1.0
    for colour, (name, curve) in zip(_colours(curves), curves.items(), strict=True):
        shown = curve.fmr_K > 0
        axes.plot(curve.fmr_K[shown], 1 - curve.fnmr_K[shown], color=colour, label=_label(name, curve), linewidth=1.6)
        lowest = min(lowest, float(curve.fmr_K[shown].min(initial=1.0)))
    axes.set_xscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(0, 1.01)
    axes.set(xlabel="FAR (false match rate)", ylabel="TAR (1 - false non-match rate)", title="ROC")
    _legend(axes, "best")
    return _png(figure)


def det(curves: Mapping[str, Curves]) -> bytes:
    """FNMR over FMR, both logarithmic; a line a set. Where it meets the diagonal is the equal error rate."""
    figure, axes = _blank(6.4, 4.4)
    lowest, least_missed = 0.5, 0.5
    for colour, (name, curve) in zip(_colours(curves), curves.items(), strict=True):
        shown = (curve.fmr_K > 0) & (curve.fnmr_K > 0)
        axes.plot(curve.fmr_K[shown], curve.fnmr_K[shown], color=colour, label=_label(name, curve), linewidth=1.6)
        lowest = min(lowest, float(curve.fmr_K[shown].min(initial=0.5)))
        least_missed = min(least_missed, float(curve.fnmr_K[shown].min(initial=0.5)))
    axes.plot([lowest, 1], [lowest, 1], color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(least_missed, 1)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="FMR (false match rate)", ylabel="FNMR (false non-match rate)", title="DET")
    _legend(axes, "lower left")
    return _png(figure)


def scores(curve: Curves, *, thresholds: Mapping[str, float] | None = None, title: str = "Distances") -> bytes:
    """How squared distances of mated and of non-mated comparisons are spread.

    Args:
        curve: of one set.
        thresholds: lines to draw, by what to call them.
        title: above.
    """
    figure, axes = _blank(6.4, 3.4)
    for share_H, colour, name, count in (
        (curve.mated_H, MATED, "mated", curve.mated),
        (curve.non_mated_H, NON_MATED, "non-mated", curve.non_mated),
    ):
        label = f"{name} ({count:,})"
        axes.stairs(share_H, curve.edges_H, color=colour, fill=True, alpha=0.3)
        axes.stairs(share_H, curve.edges_H, color=colour, label=label, linewidth=1.2)
    top = float(max(curve.mated_H.max(initial=0), curve.non_mated_H.max(initial=0))) * 1.15 or 1.0
    for place, (name, value) in enumerate((thresholds or {}).items()):
        axes.axvline(value, color="#444444", linewidth=0.9, linestyle="--")
        axes.annotate(name, (value, top * (0.97 - 0.08 * place)), fontsize=8, ha="right", va="top", rotation=0)
    axes.set_ylim(0, top)
    axes.set_xlim(curve.edges_H[0], curve.edges_H[-1])
    axes.set(xlabel="squared distance (smaller is more alike)", ylabel="share of comparisons", title=plain(title))
    _legend(axes, "upper right")
    return _png(figure)


def heat_map(shown: ConditionMap, *, what: str) -> bytes:
    """One figure of each cell.

    Args:
        shown: the map.
        what: ``tar`` or ``cosine``.
    """
    values_RC = shown.tar_RC if what == "tar" else shown.cosine_RC
    rows, columns = values_RC.shape
    figure, axes = _blank(2.6 + 0.5 * max(columns, 4), 1.9 + 0.32 * max(rows, 2))
    lowest = 0.0 if what == "tar" else min(0.0, float(np.nanmin(values_RC, initial=0.0)))
    axes.set_facecolor("#dddddd")
    image = axes.imshow(np.ma.masked_invalid(values_RC), cmap="viridis", vmin=lowest, vmax=1.0, aspect="auto")
    axes.set_xticks(range(columns), shown.column_labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(rows), shown.row_labels, fontsize=8)
    axes.grid(visible=False)
    if values_RC.size <= MOST_WRITTEN:
        _write_values(axes, shown, values_RC, what, lowest)
    name = "TAR" if what == "tar" else "mean cosine"
    axes.set_title(f"{name}, {shown.title}", fontsize=10)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    return _png(figure)


def _write_values(axes: Axes, shown: ConditionMap, values_RC: NDArray[np.float64], what: str, lowest: float) -> None:
    for (row, column), value in np.ndenumerate(values_RC):
        if np.isnan(value):
            text = "ref" if (row, column) == shown.reference else "-"
        else:
            text = f"{100 * value:.0f}" if what == "tar" else f"{value:.2f}"
        dark = not np.isnan(value) and (value - lowest) / (1 - lowest) < 0.55
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")


def _blank(width: float, height: float) -> tuple[Figure, Axes]:
    """Inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(visible=True, which="major", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colours(curves: Mapping[str, Curves]) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(curves))]


def _label(name: str, curve: Curves) -> str:
    return f"{plain(name)} ({curve.mated:,} mated, {curve.non_mated:,} not)"


def plain(text: str) -> str:
    """matplotlib takes what stands between dollar signs for formulas, and hides labels that begin with a low line."""
    return text.replace("$", r"\$").lstrip("_")


def _legend(axes: Axes, where: Literal["best", "lower left", "upper right"]) -> None:
    axes.legend(loc=where, fontsize=8, frameon=True, framealpha=0.9, edgecolor="#dddddd")


def _png(figure: Figure) -> bytes:
    held = io.BytesIO()
    figure.savefig(held, format="png", metadata={"Software": None})
    return held.getvalue()
