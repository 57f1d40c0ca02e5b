"""The command line: a thin shell over the library, and the only part that prints."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import typer

from realtime.app import bench, calibrate, doctor, people, run
from realtime.app.people_output import say
from realtime.errors import EngineError, RealtimeError, SettingsError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False)
run.register(app)
for part in (people, doctor, bench, calibrate):
    part.register(app)

UsageError: Final[Any] = typer.BadParameter.__mro__[1]
"""What typer raises for any wrong usage; it has no name of its own in typer, whose versions take it from elsewhere."""


class _Sayings(logging.Handler):
    """The log as lines of the command, beside a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"realtime: {self.format(record)}", err=True)


def main() -> NoReturn:
    """The ``realtime`` command: exit code 0 done, 1 failed, 2 wrong usage."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_Sayings()])
    try:
        code = app(prog_name="realtime", standalone_mode=False)
    except SettingsError as err:
        _fail(str(err), 2)
    except (RealtimeError, EngineError) as err:
        _fail(str(err), 1)
    except UsageError as err:
        _explain_usage(err)
    except typer.Abort:
        _fail("stopped", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _explain_usage(err: Any) -> NoReturn:
    message = err.format_message()
    if "\n" in message:  # not a mistake but the help of a group of commands
        print(message, file=sys.stderr)
        sys.exit(2)
    command = err.ctx.command_path if err.ctx is not None else "realtime"
    hint = f"see `{command} --help`"
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "realtime" and not first.startswith("-") and Path(first[:255]).exists():
        hint = f"to name the people in it: `realtime --source {first}`"
    _fail(f"{message.rstrip('.')}; {hint}", 2)


def _fail(message: str, code: int) -> NoReturn:
    say("realtime: " + " ".join(message.split()), err=True)
    sys.exit(code)
