"""A contestant in a process of its own, told in turn to run.

Enters: a ``Contestant`` and orders. Leaves: how long each call took. Memory and thread pools of one contestant do not
mix with another's, and one that crashes takes nobody with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import Any, Final

from engines.benchmark.contestants import Contestant
from engines.errors import EngineError

STOP_S: Final = 5.0
"""How long a process may take to end by itself, seconds; then it is killed."""

_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What it took to open a contestant; the fields are those of ``openers.Opened``."""

    load_s: float
    build_s: float | None
    flop: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one order gave."""

    seconds: tuple[float, ...]
    """Of each call."""
    memory_mib: float | None
    """By how much the process has grown at most, since before it loaded anything."""
    idle_s: float
    """CPU seconds that it used between the last order and this one."""


class Apart:
    """One contestant's process, from its start to ``close``."""

    def __init__(self, spec: Contestant) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engines.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(spec.threads))},
            start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
        )
        self._spec: dict[str, Any] | None = asdict(spec)

    def open(self) -> Ready:
        """Load; to be called once, before ``run``.

        Raises:
            EngineError: it cannot run here, or its process died.
        """
        return Ready(**self._ask(self._spec))

    def run(self, batch: int, seconds: float) -> Turn:
        """Call it on batches of one size until the time is up, once at least.

        Raises:
            EngineError: a call failed, or its process died.
        """
        values = self._ask({"batch": batch, "seconds": seconds})
        return Turn(**{**values, "seconds": tuple(values["seconds"])})

    def close(self) -> None:
        """End the process; may be called twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # it died with an order unread
                continue
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _ask(self, order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise EngineError(self._cause())
        values: dict[str, Any] = json.loads(line)
        if "error" in values:
            raise EngineError(values["error"])
        return values

    def _cause(self) -> str:
        """Why the process is no more."""
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        last = f" ({said[-1].strip()[:200]})" if said else ""
        if code >= 0:
            return f"its process ended with code {code}{last}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}{last}"
