"""The commands of ``python -m engines``: one file each, listed here in the order of the help."""

from typing import Final

COMMANDS: Final = ("fetch", "import_", "adopt", "export", "show", "quantise", "verify", "bench", "gpu")
"""Modules of this folder; each has ``register(app)``."""
