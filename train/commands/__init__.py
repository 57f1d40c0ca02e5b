"""The commands of `python -m train`: one file each, listed here in the order of the help."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = ("prepare", "fit", "evaluate", "export", "clean", "invert", "toy", "bench", "losses")
