"""Where torch is not installed, each command that needs it says so in one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABSENT = """
import runpy, sys
sys.modules["torch"] = None
sys.argv = {words!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("engines", ["gpu", "matching", "--dry-run"]),
        ("train", ["bench", "--dry-run"]),
        ("train", ["toy", "set", "output"]),
        ("train", ["losses", "set", "--output", "output"]),
        ("realtime", ["bench", "--streams", "1", "--dry-run"]),
    ],
)
def test_one_sentence_says_what_to_install(module: str, words: list[str], tmp_path: object) -> None:
    code = ABSENT.format(words=[module, *words], module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "pip install" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
