"""``python -m train``: prepare faces, train on them, evaluate, export; and the rest of the ArcFace paper."""

from __future__ import annotations

import importlib
import logging
import sys

import typer

from engines.errors import EngineError
from realtime.errors import RealtimeError, SettingsError
from train.commands import COMMANDS
from train.errors import ConfigError, TrainError

app = typer.Typer(
    help="From labelled photos to a model that realtime runs: prepare, fit, evaluate, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name in COMMANDS:
    importlib.import_module(f"train.commands.{_name}").register(app)


def main() -> None:
    """The command line: exit code 0 done, 1 failed, 2 wrong usage, 130 stopped; a failure is one sentence."""
    logging.basicConfig(format="train: %(message)s", level=logging.WARNING)
    try:
        app()
    except (ConfigError, SettingsError) as err:
        _fail(str(err), 2)
    except (TrainError, EngineError, RealtimeError) as err:
        _fail(str(err), 1)
    except ModuleNotFoundError as err:
        if err.name != "torch":
            raise
        _fail("torch is not installed; install what training needs with `pip install '.[train]'`", 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)


def _fail(message: str, code: int) -> None:
    print("train: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
