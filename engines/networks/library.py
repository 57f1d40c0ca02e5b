"""torch where it is installed; it is no part of a plain install.

Enters: nothing. Leaves: the library, or the sentence that says how to get it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

from engines.errors import RuntimeMissing

OLDEST: Final = (2, 6)
"""Before it, ``weights_only`` could be made to run code (CVE-2025-32434)."""


def torch_library() -> ModuleType:
    """Import torch.

    Raises:
        RuntimeMissing: not installed, does not load here, or too old to read files safely.
    """
    install = "install it with `pip install torch safetensors`"
    try:
        library = importlib.import_module("torch")
    except (ImportError, OSError) as err:
        raise RuntimeMissing(f"torch does not load ({err}); {install}") from err
    version = tuple(int(part) for part in str(library.__version__).split("+")[0].split(".")[:2])
    if version < OLDEST:
        raise RuntimeMissing(f"torch {library.__version__} is too old to read weights safely; {install}")
    return library
