"""The command line: a thin shell over the library, and the only part that prints."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

import typer

from realtime.app import bench, calibrate, doctor, people, run
from realtime.errors import EngineError, RealtimeError, SettingsError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False)
run.register(app)
for part in (people, doctor, bench, calibrate):
    part.register(app)


def main() -> NoReturn:
    """The ``realtime`` command: exit code 0 done, 1 failed, 2 wrong usage."""
    logging.basicConfig(format="realtime: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        app()
    except SettingsError as err:
        _fail(str(err), 2)
    except (RealtimeError, EngineError) as err:
        _fail(str(err), 1)
    except BrokenPipeError:
        # the reader of our output went away (`| head`): not our failure, but nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    print("realtime: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)
