"""What runs a model, behind one table.

Enters: a model and wishes (runtime, precision, threads). Leaves: the rows of the table that can serve it here, fastest
first, with the words that say why each faster one cannot, and a ``Session`` on the one that is taken. A new runtime is
one module, one line in ``MODULES`` and its rows in ``ROWS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from engines import verdicts
from engines.errors import RuntimeMissing
from engines.export import ModelFile
from engines.machine import has_nvidia_gpu

MODULES: Final = {
    "tensorrt": "engines.runtimes.tensorrt",
    "torch-cuda": "engines.runtimes.torch_cuda",
    "onnxruntime-cuda": "engines.runtimes.onnxruntime_cuda",
    "openvino": "engines.runtimes.openvino",
    "onnxruntime": "engines.runtimes.onnxruntime",
    "torch": "engines.runtimes.torch_cpu",
    "torch2trt": "engines.runtimes.torch2trt",
}

GPU: Final = frozenset({"tensorrt", "torch-cuda", "onnxruntime-cuda", "torch2trt"})
"""Runtimes that need an NVIDIA GPU; where there is none they are not even imported."""

PRECISIONS: Final = ("fp32", "bf16", "fp16", "int8")

REFERENCE: Final = ("onnxruntime", "fp32")
"""Whose answers the others are held to."""


@dataclass(frozen=True, slots=True)
class Row:
    """One runtime in one precision."""

    runtime: str
    precision: str
    auto: bool = True
    """False: taken only when the runtime is asked for by name."""

    @property
    def title(self) -> str:
        return f"{self.runtime} {self.precision}"

    def suits(self, inside: str) -> bool:
        """Whether it runs files of a manifest's precision: one in int8 runs as int8, one in fp16 never does."""
        return inside == "fp32" or (inside == "int8") == (self.precision == "int8")


ROWS: Final = (
    Row("tensorrt", "fp16"),
    Row("torch-cuda", "fp16"),
    Row("torch-cuda", "bf16"),
    Row("onnxruntime-cuda", "fp32"),
    Row("openvino", "int8"),
    Row("openvino", "bf16"),
    Row("onnxruntime", "int8"),
    Row("onnxruntime", "fp32"),
    Row("openvino", "fp32"),
    Row("tensorrt", "int8", auto=False),
    Row("tensorrt", "fp32", auto=False),
    Row("torch-cuda", "fp32", auto=False),
    Row("torch2trt", "fp16", auto=False),
    Row("torch", "fp32", auto=False),
    Row("torch", "bf16", auto=False),
)
"""Fastest first, as measured on CPUs (README) and as expected on GPUs until their tables stand in the docs."""


class Session(Protocol):
    """One compiled graph with one uint8 input and one float32 output. One thread at a time."""

    @property
    def max_batch(self) -> int:
        """Images of one call at most; above it a batch is no faster, or does not fit the plan."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run on a C-contiguous input; the result is the caller's to keep.

        Raises:
            OutOfDeviceMemory: a smaller batch may fit.
            DeviceLost: nothing more can run on this device.
            EngineError: anything else, or the session is closed.
        """

    def close(self) -> None:
        """Free what the runtime holds; may be called twice."""


class RuntimeModule(Protocol):
    """What a module of ``MODULES`` offers."""

    def version(self) -> str:
        """Of the library and the device. Raises RuntimeMissing: not installed, or it does not load here."""

    def obstacle(self, precision: str) -> str | None:
        """Why this machine should not run the precision on it; None when it should."""

    def ready(self, content: bytes, precision: str) -> bool:
        """Whether a session opens without a long build."""

    def open_session(self, model: bytes, where: str, *, precision: str, threads: int) -> Session:
        """Compile. ``model`` is a quantised file for int8, else an fp32 one.

        Raises:
            ModelFileError: the runtime refuses the graph.
            EngineError: the build failed.
        """


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """For ``realtime doctor``: one runtime in one precision on this machine."""

    name: str
    available: bool
    version: str
    reason: str
    """Why it is not available; empty when it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a user asks for; checked at birth."""

    runtime: str = "auto"
    precision: str = "auto"
    threads: int = 1
    require_gpu: bool = False
    """Anything that runs on the processor is an error."""

    def __post_init__(self) -> None:
        _known("runtime", self.runtime, tuple(MODULES))
        _known("precision", self.precision, PRECISIONS)
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}; at least 1 is needed")

    @property
    def exact(self) -> bool:
        """One row is named; what is known against it is then the user's business."""
        return "auto" not in (self.runtime, self.precision)

    def allow(self, row: Row) -> bool:
        """Whether a row is asked for at all."""
        return (
            (row.auto if self.runtime == "auto" else row.runtime == self.runtime)
            and self.precision in ("auto", row.precision)
            and (row.runtime in GPU or not self.require_gpu)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which row was taken."""

    row: Row
    threads: int
    passed_over: tuple[tuple[Row, str], ...] = ()
    """Each faster row and why it was not."""

    @property
    def runtime(self) -> str:
        return self.row.runtime

    @property
    def precision(self) -> str:
        return self.row.precision

    @property
    def short(self) -> str:
        """``openvino bf16, 1 thread``; on a GPU ``tensorrt fp16``."""
        threads = "" if self.runtime in GPU else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.row.title}{threads}"

    @property
    def text(self) -> str:
        """``short``, and one clause for each reason."""
        return "; ".join((self.short, *grouped(self.passed_over)))


def grouped(passed_over: tuple[tuple[Row, str], ...]) -> list[str]:
    """``not tensorrt, torch-cuda: no NVIDIA GPU here``: rows with one reason share a clause."""
    reasons: dict[str, list[Row]] = {}
    for row, reason in passed_over:
        reasons.setdefault(reason, []).append(row)
    return [f"not {_names(rows)}: {reason}" for reason, rows in reasons.items()]


def _names(rows: list[Row]) -> str:
    """GPU runtimes once each, whatever their precision; other rows by their titles."""
    return ", ".join(dict.fromkeys(row.runtime if row.runtime in GPU and len(rows) > 1 else row.title for row in rows))


Quantised = Callable[[], ModelFile | None]
"""Gives the int8 form of a model that is at hand."""


class Candidates:
    """The rows that can serve a model, one after the other: what is behind the first good one is never imported.

    Iterating yields rows; ``passed_over`` tells of all before the last one yielded.
    """

    def __init__(self, model: ModelFile | None, wishes: Wishes, *, quantised: Quantised = lambda: None) -> None:
        """
        Args:
            model: None for a network without embeddings (a detector).
            wishes: what is asked for.
            quantised: gives the int8 form of the model that is at hand; asked only where that decides.
        """
        self._model = model
        self._wishes = wishes
        self._quantised = quantised
        self.passed_over: list[tuple[Row, str]] = []
        self.mistrusted = False
        """A row would run, and is passed over because its answers failed their gate."""

    def __iter__(self) -> Iterator[Row]:
        for row in ROWS:
            if not self._wishes.allow(row) or not self._suits(row):
                continue
            if reason := _described(row).reason or self._mistrust(row):
                self.pass_over(row, reason)
            else:
                yield row

    def pass_over(self, row: Row, reason: str) -> None:
        """Tell why a row that was yielded is not taken after all."""
        self.passed_over.append((row, reason))

    def choice(self, row: Row) -> Choice:
        return Choice(row=row, threads=self._wishes.threads, passed_over=tuple(self.passed_over))

    def refusal(self) -> RuntimeMissing:
        """None of the rows serves."""
        wishes = self._wishes
        asked = " ".join(wish for wish in (wishes.runtime, wishes.precision) if wish != "auto") or "auto"
        reasons = "; ".join(grouped(tuple(self.passed_over))) or self._nothing_suits()
        if wishes.require_gpu:
            return RuntimeMissing(
                f"no GPU runtime works here ({reasons}); mend that, or set embed.require_gpu=false to go on without"
            )
        return RuntimeMissing(f"no runtime for {asked} works here ({reasons}); use auto, or install one that does")

    def _nothing_suits(self) -> str:
        """Why not even one row was looked at."""
        if self._model is not None and any(map(self._wishes.allow, ROWS)):
            return f"the file is in {self._model.manifest.precision}, which does not run so; give the fp32 file"
        return f"known are {', '.join(row.title for row in ROWS)}"

    def _suits(self, row: Row) -> bool:
        """A detector has no int8 form that nobody asked for."""
        if self._model is None:
            return row.precision != "int8" or self._wishes.precision == "int8"
        return row.suits(self._model.manifest.precision)

    def _mistrust(self, row: Row) -> str | None:
        """Why ``auto`` does not take a row that would run."""
        if self._model is None or self._wishes.exact or self._model.manifest.precision != "fp32":
            return None
        runs = self._quantised() if row.precision == "int8" else self._model
        if runs is None:
            asked = self._wishes.precision == "int8"
            return None if asked else "not made and proved on labelled photos yet (`python -m engines verify`)"
        verdict = verdicts.read(runs.sha256, row.runtime, _version(row.runtime), row.precision)
        if verdict is not None and not verdict.passed:
            self.mistrusted = True
            return f"its answers failed their gate ({verdict.reason}); name runtime and precision to take it anyway"
        if row.precision == "int8" != self._wishes.precision and (verdict is None or not verdict.labelled):
            return "its answers are not proved on a labelled set yet (`python -m engines verify`)"
        return None


def choose(model: ModelFile | None, wishes: Wishes, *, quantised: Quantised = lambda: None) -> Choice:
    """The fastest row that serves.

    Raises:
        RuntimeMissing: none of those asked for works here; the message says why.
    """
    candidates = Candidates(model, wishes, quantised=quantised)
    for row in candidates:
        return candidates.choice(row)
    raise candidates.refusal()


def open_session(choice: Choice, model: bytes, where: str) -> Session:
    """Compile a model for a choice.

    Raises:
        ModelFileError: the runtime refuses the graph.
        EngineError: the build failed.
    """
    module = runtime_module(choice.runtime)
    return module.open_session(model, where, precision=choice.precision, threads=choice.threads)


def describe_runtimes() -> list[RuntimeInfo]:
    """Every runtime in every precision, fastest first."""
    return [_described(row) for row in ROWS]


def runtime_module(name: str) -> RuntimeModule:
    module: Any = importlib.import_module(MODULES[name])
    return cast(RuntimeModule, module)


def _described(row: Row) -> RuntimeInfo:
    if row.runtime in GPU and not has_nvidia_gpu():
        return RuntimeInfo(row.title, False, "", "no NVIDIA GPU here")
    try:
        version = _version(row.runtime)
    except RuntimeMissing as err:
        return RuntimeInfo(row.title, False, "", str(err))
    reason = runtime_module(row.runtime).obstacle(row.precision)
    return RuntimeInfo(row.title, reason is None, version, reason or "")


def _version(runtime: str) -> str:
    return runtime_module(runtime).version()


def _known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in ("auto", *known):
        raise ValueError(f"{what} is {value!r}; known are auto, {', '.join(known)}")
