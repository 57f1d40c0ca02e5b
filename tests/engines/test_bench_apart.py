"""A contestant's process: it answers, sleeps, fails and dies as it should."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from engines.benchmark.apart import Apart
from engines.benchmark.contestants import Contestant
from engines.errors import EngineError

EMBEDDED = Contestant(
    kind="engine",
    engine="onnxruntime fp32",
    model="dlib",
    runtime="onnxruntime",
    unit_length=False,
    mirrored=False,
    batches=(1, 2),
)


@contextmanager
def started(spec: Contestant) -> Iterator[tuple[Apart, psutil.Process]]:
    before = {child.pid for child in psutil.Process().children()}
    with closing(Apart(spec)) as apart:
        (child,) = [child for child in psutil.Process().children() if child.pid not in before]
        yield apart, child


def test_it_opens_runs_and_sleeps_in_between() -> None:
    with started(EMBEDDED) as (apart, child):
        ready = apart.open()
        assert ready.load_s > 0
        assert ready.build_s is None
        turn = apart.run(2, 0)
        assert len(turn.seconds) == 1
        assert turn.memory_mib is None or turn.memory_mib > 10
        time.sleep(0.5)
        again = apart.run(1, 0.05)
        assert len(again.seconds) > 1
        assert again.idle_s < 0.25, "it spun while others ran"
        assert os.getpgid(child.pid) == child.pid, "Ctrl-C would reach it"
        apart.close()
        apart.close()
        assert not child.is_running()


def test_what_cannot_run_says_so_in_its_own_words(tmp_path: Path) -> None:
    nowhere = Contestant(kind="engine", engine="", model="", file=str(tmp_path / "no.onnx"))
    with closing(Apart(nowhere)) as apart, pytest.raises(EngineError, match=r"no\.onnx: cannot be read"):
        apart.open()


def test_a_crash_is_told_with_its_cause() -> None:
    with started(Contestant(kind="matmul int8", engine="matmul int8", model="")) as (apart, child):
        apart.open()
        child.send_signal(signal.SIGKILL)
        with pytest.raises(EngineError, match="SIGKILL, as the system does where memory runs out"):
            apart.run(1, 0)
    unheard = Contestant(kind="unheard of", engine="", model="")
    with closing(Apart(unheard)) as apart, pytest.raises(EngineError, match=r"code 1 \(KeyError: 'unheard of'\)"):
        apart.open()


def test_a_process_without_a_parent_ends() -> None:
    with started(Contestant(kind="matmul int8", engine="matmul int8", model="")) as (apart, child):
        assert apart._process.stdin is not None
        apart._process.stdin.close()
        child.wait(10)


def test_what_libraries_print_is_no_answer() -> None:
    noisy = (
        "import os\n"
        "from engines.benchmark import openers, worker\n"
        "def run(count):\n"
        "    print('hello from python')\n"
        "    os.write(1, b'hello from C\\n')\n"
        "openers.OPENERS['noisy'] = lambda spec: openers.Opened(run=run, load_s=1.0)\n"
        "worker.main()\n"
    )
    spec = asdict(Contestant(kind="noisy", engine="", model=""))
    orders = "".join(json.dumps(order) + "\n" for order in (spec, {"batch": 1, "seconds": 0}))
    done = subprocess.run([sys.executable, "-c", noisy], input=orders, capture_output=True, text=True, check=True)
    opened, turn = map(json.loads, done.stdout.splitlines())
    assert opened == {"load_s": 1.0, "build_s": None, "flop": None}
    assert len(turn["seconds"]) == 1
    assert "hello from C" in done.stderr
