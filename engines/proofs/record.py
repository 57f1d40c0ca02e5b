"""What one proof found, kept after every line of it.

Enters: tables, checks and what could not be tried, as they come. Leaves: one JSON file, whole at every moment, so that
a run which is cut off has kept what it measured; text for people; whether every check passed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from engines.benchmark.usage import machine, machine_line
from engines.errors import EngineError
from engines.export import write_atomically

SCHEMA: Final = 1
"""Version of the JSON's keys."""

Cell = str | int | float | None
"""Of a table; None is a place that has nothing to say."""


@dataclass(slots=True)
class Table:
    """Rows of one comparison."""

    name: str
    title: str
    columns: tuple[str, ...]
    note: str = ""
    """What a reader has to know beside it: how it was timed, against what."""
    rows: list[tuple[Cell, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that had to hold."""

    name: str
    passed: bool
    detail: str
    """The figure that decided, with its limit."""


@dataclass(frozen=True, slots=True)
class Untried:
    """What was wanted and not run."""

    what: str
    why: str


class Proof:
    """One part's findings. Written to ``path`` whenever something is added."""

    def __init__(
        self,
        part: str,
        title: str,
        *,
        path: Path | None = None,
        command: str = "",
        device: str = "",
        dry_run: bool = False,
        seconds: float | None = None,
        told: Callable[[str], object] = lambda line: None,
    ) -> None:
        """
        Args:
            part: short name, as ``embedding``.
            title: for people.
            path: of the JSON file; None keeps it in memory.
            command: what made it, as typed.
            device: the GPU's name, or ``cpu``.
            dry_run: tiny shapes, to see that everything runs; its times say nothing.
            seconds: the whole proof's time; ``left_s`` counts down, and a proof leaves out what no longer fits.
            told: told each row and check as a line of text.

        Raises:
            EngineError: the file cannot be written.
        """
        self.part, self.title = part, title
        self.dry_run = dry_run
        self.tables: list[Table] = []
        self.checks: list[Check] = []
        self.untried: list[Untried] = []
        self._path = path
        self._told = told
        self._end = None if seconds is None else time.monotonic() + seconds
        self._head = {
            "schema": SCHEMA,
            "part": part,
            "title": title,
            "date": date.today().isoformat(),
            "command": command,
            "dry_run": dry_run,
            "machine": machine() | ({"gpu": device} if device not in ("", "cpu") else {}),
        }
        self._save()

    @property
    def passed(self) -> bool:
        """No check failed."""
        return all(check.passed for check in self.checks)

    @property
    def left_s(self) -> float:
        """Seconds that this proof may still take; infinite where it has no limit."""
        return float("inf") if self._end is None else max(0.0, self._end - time.monotonic())

    def has_time(self, what: str, needed_s: float = 0.0) -> bool:
        """Whether ``needed_s`` are left; where not, ``what`` is noted as untried."""
        if self.left_s > needed_s:
            return True
        self.skip(what, "no time was left for it")
        return False

    def table(self, name: str, title: str, columns: Sequence[str], note: str = "") -> Table:
        """A new table, empty; rows are added by ``row``."""
        made = Table(name, title, tuple(columns), note)
        self.tables.append(made)
        return made

    def row(self, table: Table, *cells: Cell) -> None:
        """Add a row; numbers stay numbers in the file, and are rounded where people read them.

        Raises:
            ValueError: not as many cells as the table has columns.
            EngineError: the file cannot be written.
        """
        if len(cells) != len(table.columns):
            raise ValueError(f"{table.name}: {len(cells)} cells for {len(table.columns)} columns")
        table.rows.append(cells)
        named = zip(table.columns, cells, strict=True)
        self._told(
            f"{table.name}: " + ", ".join(f"{column} {shown(cell)}" for column, cell in named if cell is not None)
        )
        self._save()

    def check(self, name: str, passed: bool, detail: str) -> bool:
        """Note whether something held; returns ``passed``."""
        self.checks.append(Check(name, bool(passed), detail))
        self._told(f"{'ok' if passed else 'FAILED'}: {name} ({detail})")
        self._save()
        return bool(passed)

    def skip(self, what: str, why: str) -> None:
        """Note what was not run, and why."""
        self.untried.append(Untried(what, why))
        self._told(f"not run: {what} ({why})")
        self._save()

    def as_json(self) -> dict[str, Any]:
        return {
            **self._head,
            "tables": [asdict(table) for table in self.tables],
            "checks": [asdict(check) for check in self.checks],
            "untried": [asdict(one) for one in self.untried],
        }

    def report(self) -> str:
        """Everything, for people."""
        lines = [machine_line(self._head["machine"]), self.title]  # type: ignore[arg-type]
        if self.dry_run:
            lines.append("a dry run on tiny shapes: its times say nothing")
        for table in self.tables:
            lines += ["", table.title, *([table.note] if table.note else []), *aligned(table)]
        lines += ["", *(f"{'ok' if one.passed else 'FAILED'}  {one.name}: {one.detail}" for one in self.checks)]
        lines += [f"not run  {one.what}: {one.why}" for one in self.untried]
        return "\n".join(lines)

    def _save(self) -> None:
        if self._path is None:
            return
        content = json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, content.encode())
        except OSError as err:
            raise EngineError(f"{self._path}: cannot be written ({err.strerror or err}); choose another file") from err


def aligned(table: Table) -> list[str]:
    """Heading and rows as columns of text."""
    lines = [table.columns, *(tuple(shown(cell) for cell in row) for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]


def shown(cell: Cell) -> str:
    """A cell for people: three figures that mean something, thousands apart; more where a share is just short of 1."""
    if cell is None:
        return ""
    if isinstance(cell, bool | str):
        return str(cell)
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.6f}".rstrip("0") if 0.99 < cell < 1 else f"{cell:.3g}"
