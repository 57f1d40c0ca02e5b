"""The toy's pictures: circles of faces, decision margins of two classes, target logits.

Enters: circles, or nothing but the margins of ``train.losses``. Leaves: PNG bytes.

After figures 3 to 5 of ArcFace (arXiv 1801.07698v4). The margins are drawn from ``with_margin`` itself, guard and all:
what is seen is what is trained with.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from numpy.typing import NDArray

from realtime.show.typefaces import Typefaces
from train.losses.margins import MARGINS, Margin, with_margin
from train.toy.circle import Circle

# N faces; C classes; G points along an axis
TITLES: Final = {
    "softmax": "Softmax",
    "norm_softmax": "Norm-Softmax",
    "sphereface": "SphereFace",
    "cosface": "CosFace",
    "arcface": "ArcFace",
    "cm1": "CM1",
    "cm2": "CM2",
}
"""Losses that are drawn."""

MARGIN_KINDS: Final = ("norm_softmax", "sphereface", "cosface", "arcface", "cm1", "cm2")
CURVE_COLOURS: Final = ("#777777", "#e69f00", "#009e73", "#d55e00", "#0072b2", "#cc79a7")
"""After Okabe and Ito, told apart by colour-blind people too."""
REGIONS: Final = ("#cfe3f5", "#c4c4c4", "#fbe3cf")
"""Class 1, the margin, class 2."""
POINTS: Final = 361
BINS: Final = 180
"""Of the rim: two degrees each."""
EDGES: Final = np.linspace(-math.pi, math.pi, BINS + 1)
RIM: Final = 1.05
TALLEST: Final = 0.45
"""Of a bar on the rim, in radii; the fullest of all panels has it."""
DPI: Final = 110
JITTER: Final = 0.025
"""Dots are spread by so much of the radius, or thousands would hide behind one another."""


def draw_circles(circles: Sequence[Circle], subjects: Sequence[str]) -> bytes:
    """A panel a loss: dots are faces, lines class centres, bars on the rim the shares of a person's faces.

    Args:
        circles: of the same faces.
        subjects: names by label.
    """
    figure = _figure(4.4 * len(circles), 5.3)
    colours = _class_colours(len(subjects))
    panels = figure.subplots(1, len(circles), squeeze=False, subplot_kw={"projection": "polar"})[0]
    rims = [_rim(circle) for circle in circles]
    fullest = max(rim_CB.sum(axis=0).max() for rim_CB in rims)
    for axes, circle, rim_CB in zip(panels, circles, rims, strict=True):
        _draw_circle(axes, circle, rim_CB * (TALLEST / fullest), colours)
    labels = [f"{_plain(name)} ({count})" for name, count in zip(subjects, _counts(circles[0]), strict=True)]
    figure.legend(
        [panels[0].plot([], [], color=colour, linewidth=3)[0] for colour in colours],
        labels,
        loc="outside lower center",
        ncols=min(4, len(subjects)),
        prop=_typeface_of(subjects),
        frameon=False,
    )
    return _png(figure)


def draw_decision_margins() -> bytes:
    """Two classes: which is decided for by the angles to both centres, and the margin between, for each loss."""
    figure = _figure(10.5, 7.4)
    for axes, kind in zip(figure.subplots(2, 3).flat, MARGIN_KINDS, strict=True):
        thetas_G = np.linspace(0, math.pi, POINTS)
        axes.contourf(
            thetas_G, thetas_G, regions(MARGINS[kind], thetas_G), levels=[-1.5, -0.5, 0.5, 1.5], colors=REGIONS
        )
        axes.plot([0, math.pi], [0, math.pi], color="black", linestyle="--", linewidth=1)
        axes.text(0.6, 2.5, "class 1", ha="center")
        axes.text(2.5, 0.6, "class 2", ha="center")
        axes.set(title=_titled(kind), xlabel=r"$\theta_1$", ylabel=r"$\theta_2$", aspect="equal")
        axes.set_xticks([0, math.pi / 2, math.pi], ["0", r"$\pi/2$", r"$\pi$"])
        axes.set_yticks([0, math.pi / 2, math.pi], ["0", r"$\pi/2$", r"$\pi$"])
    return _png(figure)


def draw_target_logits() -> bytes:
    """What stands in the softmax in place of cos(theta), over theta, for each loss."""
    figure = _figure(6.4, 4.4)
    axes = figure.subplots()
    thetas_G = np.linspace(0, math.pi, POINTS)
    for kind, colour in zip(MARGIN_KINDS, CURVE_COLOURS, strict=True):
        axes.plot(np.degrees(thetas_G), _logits(MARGINS[kind], thetas_G), label=_titled(kind), color=colour)
    axes.set(xlabel="angle to the own centre, degrees", ylabel="target logit, before the scale", xlim=(0, 180))
    axes.set_xticks(range(0, 181, 30))
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def regions(margin: Margin, thetas_G: NDArray[np.float64]) -> NDArray[np.int64]:
    """(G, G), rows by theta_2, columns by theta_1: -1 class 1, 1 class 2, 0 the margin that training keeps free.

    A face is class 1 beyond doubt where cos(m1 theta_1 + m2) - m3 > cos(theta_2), and the other way round.
    """
    plain_G, moved_G = np.cos(thetas_G), _logits(margin, thetas_G)
    first_GG = moved_G[None] > plain_G[:, None]
    second_GG = moved_G[:, None] > plain_G[None]
    return second_GG.astype(np.int64) - first_GG.astype(np.int64)


def _draw_circle(axes: Any, circle: Circle, shares_CB: NDArray[np.float64], colours: Sequence[Any]) -> None:
    """``shares_CB``: heights of the rim's bars, radii."""
    random = np.random.default_rng(0)
    below_B = np.full(BINS, RIM)
    for label, (turn, colour) in enumerate(zip(circle.centres_C, colours, strict=True)):
        own = circle.angles_N[circle.labels_N == label]
        axes.plot([turn, turn], [0, 1], color=colour, linewidth=1.8)
        axes.scatter(own, 1 + JITTER * random.uniform(-1, 1, len(own)), s=5, color=colour, alpha=0.5, linewidths=0)
        axes.bar(EDGES[:-1], shares_CB[label], math.tau / BINS, below_B, align="edge", color=colour)
        below_B = below_B + shares_CB[label]
    axes.plot(np.linspace(0, math.tau, 361), np.ones(361), color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set_ylim(0, RIM + TALLEST)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["polar"].set_visible(False)
    axes.set_title(
        f"{TITLES[circle.kind]}\n{circle.own_deg:.1f}° to the own centre, {100 * circle.nearest:.1f} % nearest to it",
        fontsize=10,
    )


def _rim(circle: Circle) -> NDArray[np.float64]:
    """(C, BINS) share of each person's faces that lie in each direction."""
    rows = [circle.angles_N[circle.labels_N == label] for label in range(len(circle.centres_C))]
    return np.stack([np.histogram(own, EDGES)[0] / max(len(own), 1) for own in rows])


def _counts(circle: Circle) -> NDArray[np.int64]:
    return np.bincount(circle.labels_N, minlength=len(circle.centres_C))


def _logits(margin: Margin, thetas_G: NDArray[np.float64]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = with_margin(torch.from_numpy(np.cos(thetas_G)), margin).numpy()
    return moved


def _class_colours(classes: int) -> list[Any]:
    table = colormaps["tab10" if classes <= 10 else "tab20"]
    assert isinstance(table, ListedColormap)
    return [table(place) for place in range(classes)]


def _titled(kind: str) -> str:
    margin = MARGINS[kind]
    return f"{TITLES[kind]} ({margin.m1:g}, {margin.m2:g}, {margin.m3:g})"


def _typeface_of(names: Sequence[str]) -> FontProperties:
    """matplotlib's own font, then those that realtime takes for what it lacks, as names in Hangul."""
    known = Typefaces()
    faces = [known.of(character) for character in sorted(set("".join(names))) if not character.isascii()]
    families = ["DejaVu Sans"]
    for path in dict.fromkeys(face.path for face in faces if face is not None):
        fontManager.addfont(path)
        families.append(FontProperties(fname=path).get_name())
    return FontProperties(family=families, size=8)


def _plain(text: str) -> str:
    """matplotlib takes what stands between dollar signs for formulas, and hides labels that begin with a low line."""
    return text.replace("$", r"\$").lstrip("_")


def _figure(width: float, height: float) -> Figure:
    """Inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the box in its place says as much
        # tight: the layout leaves no room for titles above polar axes
        figure.savefig(held, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.1)
    return held.getvalue()
