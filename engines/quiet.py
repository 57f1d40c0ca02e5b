"""Importing runtimes without letting them call home.

Enters: a library's name. Leaves: the library. A camera's computer has no business with anybody's statistics:
importing OpenVINO sends an event through the package ``openvino-telemetry`` and leaves an id in the home folder; ONNX
Runtime keeps a queue of its own under the user's cache. Both have a form without, which is taken here; nowhere else are
they imported.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def import_quietly(name: str) -> ModuleType:
    """Import ``name``; raises whatever its import raises."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with _hidden("openvino_telemetry"):
        module = importlib.import_module(name)
    if name == "onnxruntime":
        module.disable_telemetry_events()
    return module


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """As if ``name`` was not installed: OpenVINO then takes its stub."""
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
