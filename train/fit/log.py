"""What a run says of itself: a line of JSON every so many steps, and scalars for TensorBoard.

Enters: figures by name. Leaves: ``log.jsonl`` and, where TensorBoard is installed and wanted, ``tensorboard/``. A
resumed run takes back the lines after its checkpoint, and writes them again.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines.export import write_atomically
from train.errors import CheckpointError
from train.runs import LOG, TENSORBOARD

Line = dict[str, Any]


class RunLog:
    """Writes both; close it."""

    def __init__(self, folder: Path, *, done: int | None, tensorboard: bool) -> None:
        """
        Args:
            folder: of the run.
            done: steps that the run goes on after: later lines are taken back; None: a new log.
            tensorboard: write scalars where it is installed.

        Raises:
            CheckpointError: the folder cannot be written to.
        """
        self._path = folder / LOG
        kept = [] if done is None else [line for line in read_log(folder) if line["step"] <= done]
        with _told_as(self._path):
            write_atomically(self._path, "".join(map(_text, kept)).encode())
            self._file = self._path.open("a", encoding="utf-8")
        self._board_path = folder / TENSORBOARD
        with _told_as(self._board_path):
            self._board = _board(self._board_path, done) if tensorboard else None

    def write(self, kind: str, step: int, figures: Mapping[str, Any]) -> Line:
        """
        Args:
            kind: train, evaluate, stopped or end.
            step: steps that are done.
            figures: numbers, words, or tables of these.

        Returns:
            The line.

        Raises:
            CheckpointError: the disk is full.
        """
        line = {"kind": kind, "step": step, **figures}
        with _told_as(self._path):
            self._file.write(_text(line))
            self._file.flush()
        if self._board is not None:
            with _told_as(self._board_path):  # its own thread writes; what went wrong there comes out here
                for name, value in _scalars(figures):
                    self._board.add_scalar(f"{kind}/{name}", value, step)
        return line

    def close(self) -> None:
        """
        Raises:
            CheckpointError: the disk is full.
        """
        self._file.close()
        if self._board is not None:
            with _told_as(self._board_path):
                self._board.close()


def read_log(folder: Path) -> list[Line]:
    """Whole lines of a run's log; none where there is no log. A last line that was cut short is left out."""
    try:
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = []
    for each in text.splitlines():
        try:
            line = json.loads(each)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


@contextmanager
def _told_as(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise CheckpointError(
            f"{path}: cannot be written ({err.strerror or err}); make room, then go on with --resume"
        ) from err


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _scalars(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Numbers, with a slash between the names of nested ones."""
    found: list[tuple[str, float]] = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found


def _board(folder: Path, done: int | None) -> Any:
    """TensorBoard's writer; None where it is not installed."""
    try:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        return None
    return writer(str(folder), purge_step=None if done is None else done + 1)
