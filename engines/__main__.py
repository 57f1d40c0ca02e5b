"""``python -m engines``: bring models here, make them fast, prove that their answers stay the same, measure them."""

from __future__ import annotations

import importlib
import sys

import typer

from engines.commands import COMMANDS
from engines.errors import EngineError

app = typer.Typer(
    help="Model files: bring them here, make them fast, prove their answers, measure them.",
    no_args_is_help=True,
    add_completion=False,
)
for _name in COMMANDS:
    importlib.import_module(f"engines.commands.{_name}").register(app)


def main() -> None:
    """The command line; a failure is one sentence and exit code 1."""
    try:
        app()
    except EngineError as err:
        print(f"engines: {err}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:  # before typer has taken over
        sys.exit(130)


if __name__ == "__main__":
    main()
