"""What runs a model, behind one table.

Enters: the bytes of an ONNX model and wishes (runtime, precision, threads). Leaves: a ``Session``, and the words that
say which runtime was chosen and why the faster ones were not. A new runtime is one module and one line in ``MODULES``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from engines.errors import RuntimeMissing

MODULES: Final = {"openvino": "engines.runtimes.openvino", "onnxruntime": "engines.runtimes.onnxruntime"}

PREFERENCE: Final = (("openvino", "bf16"), ("onnxruntime", "fp32"), ("openvino", "fp32"))
"""Fastest first, as measured: bf16 takes half of fp32's time; in fp32 ONNX Runtime has the lower latency."""

PRECISIONS: Final = ("fp32", "bf16")


class Session(Protocol):
    """One compiled graph with one uint8 input and one float32 output. One thread at a time."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run on a C-contiguous input; the result is the caller's to keep."""

    def close(self) -> None:
        """Free what the runtime holds; may be called twice."""


class RuntimeModule(Protocol):
    """What a module of ``MODULES`` offers."""

    def version(self) -> str:
        """Of the library. Raises RuntimeMissing: not installed, or it does not load here."""

    def obstacle(self, precision: str) -> str | None:
        """Why this machine should not run the precision on it; None when it should."""

    def open_session(self, model: bytes, where: str, *, precision: str, threads: int) -> Session:
        """Compile. Raises ModelFileError: the runtime refuses the graph."""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """For ``realtime doctor``: one runtime in one precision on this machine."""

    name: str
    available: bool
    version: str
    reason: str
    """Why it is not available; empty when it is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which runtime was taken."""

    runtime: str
    precision: str
    threads: int
    passed_over: tuple[str, ...]
    """Why each faster one was not."""

    @property
    def short(self) -> str:
        return f"{self.runtime} {self.precision}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def text(self) -> str:
        return "; ".join((self.short, *self.passed_over))


def choose(runtime: str, precision: str, threads: int) -> Choice:
    """The fastest runtime that works here among those asked for.

    Raises:
        ValueError: unknown runtime or precision, or fewer than one thread.
        RuntimeMissing: none of those asked for works here; the message says why.
    """
    _known("runtime", runtime, tuple(MODULES))
    _known("precision", precision, PRECISIONS)
    if threads < 1:
        raise ValueError(f"threads is {threads}; at least 1 is needed")
    passed_over: list[str] = []
    for name, kind in PREFERENCE:
        if runtime in ("auto", name) and precision in ("auto", kind):
            info = _describe(name, kind)
            if info.available:
                return Choice(name, kind, threads, tuple(passed_over))
            passed_over.append(f"not {info.name}: {info.reason}")
    known = ", ".join(" ".join(pair) for pair in PREFERENCE)
    reasons = "; ".join(passed_over) or f"known are {known}"
    raise RuntimeMissing(
        f"no runtime for {runtime} {precision} works here ({reasons}); use auto, or install one that does"
    )


def open_session(choice: Choice, model: bytes, where: str) -> Session:
    """Compile a model for a choice that ``choose`` made.

    Raises:
        ModelFileError: the runtime refuses the graph.
    """
    module = _module(choice.runtime)
    return module.open_session(model, where, precision=choice.precision, threads=choice.threads)


def describe_runtimes() -> list[RuntimeInfo]:
    """Every runtime in every precision, fastest first."""
    return [_describe(name, kind) for name, kind in PREFERENCE]


def _describe(name: str, precision: str) -> RuntimeInfo:
    title = f"{name} {precision}"
    try:
        module = _module(name)
        version = module.version()
    except RuntimeMissing as err:
        return RuntimeInfo(title, False, "", str(err))
    reason = module.obstacle(precision)
    return RuntimeInfo(title, reason is None, version, reason or "")


def _module(name: str) -> RuntimeModule:
    module: Any = importlib.import_module(MODULES[name])
    return cast(RuntimeModule, module)


def _known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in ("auto", *known):
        raise ValueError(f"{what} is {value!r}; known are auto, {', '.join(known)}")
