"""Loss and accuracy of a run as one picture, for those who do not start TensorBoard.

Enters: a run's log. Leaves: ``curves.png``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from train.evaluation.plots import plain
from train.fit.log import Line, read_log
from train.fit.state import write_kept
from train.runs import CURVES

LOSS, ACCURACY, RATE, OTHERS = "#b3402a", "#2a6fb3", "#888888", ("#2a6fb3", "#2f8f4e", "#8a4fb3", "#b38a2a")


def draw_curves(folder: Path) -> Path | None:
    """Write the picture of a run folder's log.

    Returns:
        Its path; None where the log has no line of training.

    Raises:
        CheckpointError: it cannot be written.
    """
    lines = read_log(folder)
    training = [line for line in lines if line["kind"] == "train"]
    if not training:
        return None
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_loss(above, training)
    _draw_accuracy(below, training, [line for line in lines if line["kind"] == "evaluate"])
    figure.suptitle(plain(folder.resolve().name))
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    path = folder / CURVES
    write_kept(path, picture.getvalue())
    return path


def _draw_loss(axes: Any, training: list[Line]) -> None:
    steps = [line["step"] for line in training]
    axes.plot(steps, [line["loss"] for line in training], color=LOSS, label="loss")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    rates = axes.twinx()
    rates.plot(steps, [line["lr"] for line in training], color=RATE, linewidth=1, linestyle="--", label="learning rate")
    rates.set_ylabel("learning rate", color=RATE)
    rates.set_ylim(bottom=0)
    axes.legend([*axes.get_lines(), *rates.get_lines()], ["loss", "learning rate"], loc="upper right")


def _draw_accuracy(axes: Any, training: list[Line], evaluations: list[Line]) -> None:
    axes.plot(
        [line["step"] for line in training],
        [100 * line["accuracy"] for line in training],
        color=RATE,
        label="training: own class is the nearest",
    )
    names = sorted({name for line in evaluations for name in line["sets"]})
    for name, colour in zip(names, OTHERS * len(names), strict=False):
        points = [(line["step"], line["sets"][name]) for line in evaluations if name in line["sets"]]
        axes.plot(
            [step for step, _ in points],
            [100 * found["value"] for _, found in points],
            color=colour,
            marker="o",
            markersize=4,
            label=f"{plain(name)}: {points[0][1]['figure']}",
        )
    axes.set_ylabel("%")
    axes.set_xlabel("steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(top=101)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
