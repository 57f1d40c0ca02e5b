"""What several commands share: progress on a terminal, and options of the aligner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

AlignOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="How photos are aligned, as detect.kind=cnn or align.landmarks=68."),
]


@contextmanager
def bar(what: str, unit: str) -> Iterator[Callable[[int, int], Any]]:
    """Progress on stderr, only on a terminal."""
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, leave=False, disable=None) as shown:

        def told(done: int, total: int) -> None:
            if shown.total is None:
                shown.total, shown.initial = total, done - 1  # what an earlier run did is not this one's speed
            shown.update(done - shown.n)

        yield told


def align_options(given: Sequence[str] | None) -> dict[str, str]:
    """``["detect.kind=cnn"]`` as a mapping.

    Raises:
        typer.BadParameter: one that is no pair.
    """
    options = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r}; expected key=value, as detect.kind=cnn", param_hint="--align")
        options[key] = value
    return options
