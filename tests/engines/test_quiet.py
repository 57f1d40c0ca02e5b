"""No runtime calls home: nothing is looked up, and nothing is left in the user's folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import socket, sys
looked_up = []
socket.getaddrinfo = lambda host, *rest, **named: looked_up.append(host) or (_ for _ in ()).throw(OSError("closed"))
from engines.engine import open_engine
import numpy as np
engine = open_engine(runtime=sys.argv[1])
engine.run(np.zeros((1, 150, 150, 3), np.uint8))
engine.close()
assert "openvino_telemetry" not in sys.modules
assert not looked_up, looked_up
"""


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_runtime_leaves_nothing_behind(tmp_path: Path, runtime: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "REALTIME_CACHE": str(tmp_path / "cache")}
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name} | own
    subprocess.run([sys.executable, "-c", RUN, runtime], env=environment, check=True, timeout=120)
    assert [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()] == []
