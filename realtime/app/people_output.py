"""What the people commands print: lines that hold whatever a file is called, tables, progress on a terminal."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from realtime.errors import OutputError

T = TypeVar("T")


def say(text: str, *, err: bool = False) -> None:
    """One line. Control characters and what the terminal's encoding lacks are escaped: file names hold anything.

    Raises:
        OutputError: standard output is a file, and the disk is full.
    """
    stream = sys.stderr if err else sys.stdout
    plain = "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in ("Cc", "Cs") else character
        for character in text
    )
    encoding = stream.encoding or "utf-8"
    from tqdm import tqdm

    try:
        tqdm.write(plain.encode(encoding, "backslashreplace").decode(encoding), file=stream)
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python complains again of it at the end
        # a reader that has seen enough (`| head`) is no failure, and of a broken stderr nobody can be told
        if not err and not isinstance(error, BrokenPipeError):
            raise OutputError(f"standard output: cannot be written ({error.strerror or error})") from error


def say_json(value: Any) -> None:
    """One line of JSON, ASCII only: safe in every pipe."""
    say(json.dumps(value))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns, aligned also where letters are two cells wide."""
    lines = [headings, *rows]
    widths = [max(_cells(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        say("  ".join(text + " " * (width - _cells(text)) for text, width in zip(line, widths, strict=True)).rstrip())


def _cells(text: str) -> int:
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def with_progress(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, with a bar on stderr where that is a terminal and it takes longer than two seconds."""
    from tqdm import tqdm

    return tqdm(items, desc=what, unit="photo", disable=None, delay=2.0, leave=False, file=sys.stderr)


def counted(count: int, what: str) -> str:
    """``1 person``, ``2 people``, ``3 photos``."""
    many = {"person": "people"}.get(what, f"{what}s")
    return f"{count} {what if count == 1 else many}"
