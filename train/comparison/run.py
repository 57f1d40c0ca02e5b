"""The rows of the paper's table, trained one after the other with the same steps, order and network.

Enters: settings, a prepared set with people kept back, a folder. Leaves: a run for each row in a folder of its own, a
line of ``losses.jsonl`` as soon as a row is done, and ``losses.md``. A row that is done is not trained again; one that
was cut off goes on from its checkpoint.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from engines.export import write_wanted
from train.errors import ConfigError, TrainError
from train.fit.loop import Outcome
from train.fit.loop import fit as run_fit
from train.fit.plan import VAL, Plan, plan_of
from train.losses.table import ROWS, Row
from train.prepared import PreparedSet
from train.runs import SETTINGS
from train.settings import FitSettings
from train.sharding.ranks import Ranks

LINES: Final = "losses.jsonl"
PAGE: Final = "losses.md"

NEVER: Final = 10_000_000
"""Steps between evaluations and between checkpoints: the last step alone has them, and a row that Ctrl-C ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the table."""

    title: str
    steps: int
    seconds: float
    figure: str
    """Which figure the next three are of, as ``accuracy``."""
    value: float
    low: float
    high: float
    """95 % interval over people."""
    eer: float
    tar: dict[str, float]
    """By false accept rate, of all comparisons or of the list."""
    loss: float
    """Of the last steps."""
    failure: str = ""
    """Why the row has no figures; they are 0 then."""


Told = Callable[[str], object]
Settings = Callable[[Sequence[str]], FitSettings]
"""From the overrides of a row to its settings."""


def compare(
    settings: Settings,
    prepared: PreparedSet,
    ranks: Ranks,
    folder: Path,
    *,
    rows: Sequence[Row] = ROWS,
    minutes: float | None = None,
    told: Told = lambda line: None,
) -> tuple[list[Result], list[str]]:
    """Train what is not done yet.

    Args:
        settings: of every row, with its own overrides last.
        prepared: with people kept back.
        ranks: one process.
        folder: of all runs.
        rows: wanted, by default all of the paper's.
        minutes: no row is begun that would, at the pace of those before, end later.
        told: told of each row as it begins and ends.

    Returns:
        What is known of the rows, in their order, and the titles of those that are still to be trained.

    Raises:
        ConfigError: nobody is kept back, or the folder holds results of other rows' settings.
    """
    if prepared.val is None:
        raise ConfigError(f"{prepared.folder}: keeps nobody back to be measured on; prepare it with --val")
    start, done = time.monotonic(), {result.title: result for result in read_results(folder)}
    budget = plan_of(settings(()), prepared, ranks).steps
    paces: list[float] = []
    for row in rows:
        if row.title in done:
            told(f"{row.title}: done before")
            continue
        expected = max(paces, default=0.0)
        if minutes is not None and time.monotonic() - start + expected > 60 * minutes:
            break
        told(f"{row.title}: training")
        begun = time.monotonic()
        plan = _plan(settings(row.overrides), prepared, ranks, budget)
        result = _row(plan, folder / slug(row.title), row)
        if result is None:
            break
        paces.append(time.monotonic() - begun)
        done[row.title] = result
        _append(folder, result)
        told(f"{row.title}: {result.failure or _words(result)}")
    found = [done[row.title] for row in rows if row.title in done]
    write_wanted(folder / PAGE, "\n".join(markdown(found)).encode() + b"\n")
    return found, [row.title for row in rows if row.title not in done]


def _plan(settings: FitSettings, prepared: PreparedSet, ranks: Ranks, budget: int) -> Plan:
    """Of as many steps as the others, to the nearest epoch: with crops by person (triplets) an epoch has others."""
    evaluate = settings.evaluate.model_copy(update={"sets": [VAL], "every": NEVER, "keep": "last"})
    checkpoint = settings.checkpoint.model_copy(update={"every": NEVER})
    settings = settings.model_copy(update={"evaluate": evaluate, "checkpoint": checkpoint})
    plan = plan_of(settings, prepared, ranks)
    epochs = max(1, round(budget / plan.order.steps))
    if epochs == settings.schedule.epochs:
        return plan
    schedule = settings.schedule.model_copy(update={"epochs": epochs})
    return plan_of(settings.model_copy(update={"schedule": schedule}), prepared, ranks)


def _row(plan: Plan, folder: Path, row: Row) -> Result | None:
    """Train and measure one row; None where Ctrl-C ended it. A loss that diverges is a result."""
    lines: list[dict[str, Any]] = []
    start = time.monotonic()
    try:
        outcome: Outcome = run_fit(plan, folder, resume=(folder / SETTINGS).exists(), told=lines.append)
    except TrainError as err:
        return _failed(row, plan.steps, time.monotonic() - start, str(err))
    if not outcome.finished:
        return None
    measured = [line["sets"][VAL] for line in lines if line["kind"] == "evaluate"]
    trained = [line["loss"] for line in lines if line["kind"] == "train"]
    if not measured:  # it had ended before, and its line was lost
        return _failed(row, plan.steps, 0.0, f"{folder} holds a finished run without figures; remove it")
    last = measured[-1]
    return Result(
        title=row.title,
        steps=plan.steps,
        seconds=time.monotonic() - start,
        figure=last["figure"],
        value=last["value"],
        low=last["low"],
        high=last["high"],
        eer=last["eer"],
        tar=last["tar"],
        loss=trained[-1] if trained else float("nan"),
    )


def _failed(row: Row, steps: int, seconds: float, why: str) -> Result:
    return Result(
        title=row.title,
        steps=steps,
        seconds=seconds,
        figure="",
        value=0.0,
        low=0.0,
        high=0.0,
        eer=0.0,
        tar={},
        loss=float("nan"),
        failure=why,
    )


def read_results(folder: Path) -> list[Result]:
    """Of rows that are done; a last line that was cut off is left out.

    Raises:
        ConfigError: the file is not one of results.
    """
    path = folder / LINES
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read ({err}); give another folder with --output") from err
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Result(**json.loads(line)))
        except (ValueError, TypeError) as err:
            if number == len(lines):
                continue
            raise ConfigError(f"{path}: line {number} is no result; remove it or give another --output") from err
    return found


def _append(folder: Path, result: Result) -> None:
    path = folder / LINES
    kept = "".join(json.dumps(asdict(one)) + "\n" for one in (*read_results(folder), result))
    write_wanted(path, kept.encode())


def markdown(results: Sequence[Result]) -> Iterator[str]:
    """The table, beside the paper's figures, which are of another network, set and test."""
    published = {row.title: row.published for row in ROWS}
    rates = sorted({rate for result in results for rate in result.tar}, key=float, reverse=True)
    figure = next((result.figure for result in results if result.figure), "accuracy")
    yield (
        "| loss | "
        + " | ".join([f"{figure}, %", "EER, %", *(f"TAR at FAR {rate}, %" for rate in rates)])
        + (" | steps | seconds | paper: LFW | CFP-FP | AgeDB |")
    )
    yield "|" + "---|" * (8 + len(rates))
    for result in results:
        if result.failure:
            cells = [result.failure, "", *("" for _ in rates)]
        else:
            tars = [f"{100 * result.tar[rate]:.1f}" if rate in result.tar else "" for rate in rates]
            interval = f"{100 * result.value:.2f} [{100 * result.low:.1f}, {100 * result.high:.1f}]"
            cells = [interval, f"{100 * result.eer:.2f}", *tars]
        paper = [f"{value:.2f}" for value in published.get(result.title, ())]
        yield "| " + " | ".join([result.title, *cells, str(result.steps), f"{result.seconds:.0f}", *paper]) + " |"


def slug(title: str) -> str:
    """A folder's name: ``arcface-0.5``."""
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-")


def _words(result: Result) -> str:
    return (
        f"{result.figure} {100 * result.value:.2f} % [{100 * result.low:.1f}, {100 * result.high:.1f}], "
        f"EER {100 * result.eer:.2f} %, {result.steps} steps in {result.seconds:.0f} s"
    )
