"""Who runs in a bench.

Enters: models, the runtimes that are wanted, threads. Leaves: one ``Contestant`` for each process to be started, and
one ``Skipped`` for each row of the runtimes' table that cannot run here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from engines.benchmark.macs import count_macs
from engines.export import ModelFile
from engines.models import CNN_DETECTOR, find_weights
from engines.runtimes import GPU, MODULES, ROWS, Row, describe_runtimes
from engines.store import default_model

DLIB_NETWORK: Final = "dlib-resnet-29"

WHEEL: Final = "dlib wheel"
EAGER: Final = "torch eager"
EAGER_CUDA: Final = "torch eager cuda"
"""What people use today: speed-ups are told against these."""

REFERENCES: Final = (WHEEL, EAGER, EAGER_CUDA)

MATMUL: Final = "matmul"

FRAME: Final = (480, 640)
"""Height and width of the detector's frame, pixels."""

DETECT: Final = f"detect {FRAME[1]}x{FRAME[0]}"
"""Task of the CNN detector; its frame has one size, so it has no batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One process of a bench. Everything that it needs to know, as plain values: it crosses as JSON."""

    kind: str
    """Key of ``openers.OPENERS``."""
    engine: str
    """For people: ``openvino bf16``, ``dlib wheel``, ``matmul fp32``."""
    model: str
    """Name of the model in the results."""
    task: str = "embed"
    file: str | None = None
    """Path or name of the model; None for the embedded descriptor in the form of the next two."""
    unit_length: bool = True
    mirrored: bool = True
    runtime: str = ""
    precision: str = "fp32"
    threads: int = 1
    batches: tuple[int, ...] = (1,)
    """Ascending."""
    gmac: float | None = None
    """Billions of multiply-accumulates a face (or frame), counted in the fp32 graph."""

    @property
    def on_gpu(self) -> bool:
        return self.runtime in GPU or self.runtime == "cuda"

    @property
    def title(self) -> str:
        """``iresnet50, openvino bf16``."""
        return f"{self.model}, {self.engine}" if self.model else f"{self.engine}, {_threads(self.threads)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """What was wanted and cannot run here, or stopped on the way."""

    model: str
    engine: str
    reason: str


def wanted_rows(runtimes: Sequence[str]) -> tuple[list[tuple[str, str]], list[Skipped]]:
    """Runtime and precision of every row that is asked for and works here, fastest first, and the others.

    Args:
        runtimes: names of runtimes (``openvino``) or rows (``openvino bf16``); ``all`` for everything.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    titles = [row.title for row in ROWS]
    for name in runtimes:
        if name not in ("all", *MODULES, *titles):
            raise ValueError(f"no runtime is called {name!r}; known are all, {', '.join((*MODULES, *titles))}")
    working: list[tuple[str, str]] = []
    skipped: list[Skipped] = []
    for info in describe_runtimes():
        runtime, precision = info.name.split()
        if not {"all", runtime, info.name} & set(runtimes):
            continue
        if info.available:
            working.append((runtime, precision))
        else:
            skipped.append(Skipped(model="", engine=info.name, reason=info.reason))
    return working, skipped


def embedders(
    model: ModelFile, file: str, name: str, rows: Sequence[tuple[str, str]], batches: Sequence[int], threads: int
) -> list[Contestant]:
    """The references and every row that can run this file, in the table's order.

    Args:
        model: what ``file`` holds.
        file: its path or name, for the processes.
        name: what it is called in the results.
        rows: runtime and precision, as ``wanted_rows`` gives them.
        batches: faces in a call.
        threads: of the runtimes on the processor.
    """
    first = _embedder(model, name, batches, threads, file=file)
    suited = [row for row in rows if Row(*row).suits(model.manifest.precision)]
    return [*_references(first, model.manifest.network, any(row[0] in GPU for row in suited)), *_on(first, suited)]


def embedded(rows: Sequence[tuple[str, str]], batches: Sequence[int], threads: int) -> list[Contestant]:
    """The embedded descriptor in the form that dlib's wheel computes, and last, once, in the product's."""
    plain, product = default_model(unit_length=False, mirrored=False), default_model()
    first = _embedder(plain, plain.manifest.name, batches, threads, unit_length=False, mirrored=False)
    own = _on(first, rows)
    mirrored = [
        replace(one, engine=f"{one.engine}, mirrored", unit_length=True, mirrored=True, gmac=_gmac(product))
        for one in own[:1]
    ]
    return [*_references(first, DLIB_NETWORK, False), *own, *mirrored]


def detectors(rows: Sequence[tuple[str, str]], threads: int) -> list[Contestant]:
    """dlib's CNN detector: the wheel, and every row on the processor."""
    first = Contestant(kind="detector", engine="", model="dlib-mmod", task=DETECT, threads=threads, gmac=_mmod_gmac())
    wheel = replace(first, kind="wheel detector", engine=WHEEL, threads=1)
    return [wheel, *_on(first, [row for row in rows if row[0] not in GPU])]


def yardsticks(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Plain matrix products in every precision and on as many threads as anybody runs, and on one."""
    found: dict[Contestant, None] = {}
    for who in contestants:
        engine = f"{MATMUL} {who.precision}"
        one = Contestant(kind=engine, engine=engine, model="", task=MATMUL, precision=who.precision)
        if who.on_gpu:
            one = replace(one, kind=f"{MATMUL} cuda", engine=f"{engine} cuda", runtime="cuda")
        found |= dict.fromkeys((one, one if who.on_gpu else replace(one, threads=who.threads)))
    return list(found)


def _embedder(model: ModelFile, name: str, batches: Sequence[int], threads: int, **form: Any) -> Contestant:
    return Contestant(
        kind="engine",
        engine="",
        model=name,
        threads=threads,
        batches=tuple(sorted(set(batches))),
        gmac=_gmac(model),
        **{"mirrored": model.manifest.mirrored, **form},
    )


def _on(first: Contestant, rows: Sequence[tuple[str, str]]) -> list[Contestant]:
    return [replace(first, engine=" ".join(row), runtime=row[0], precision=row[1]) for row in rows]


def _references(first: Contestant, network: str, on_gpu: bool) -> list[Contestant]:
    """What runs this network today, doing the same work: a mirrored file's reference embeds both images too."""
    from engines.networks import NETWORKS

    if network == DLIB_NETWORK:
        return [replace(first, kind=WHEEL, engine=WHEEL, threads=1)]
    if network not in NETWORKS:
        return []
    eager = replace(first, kind=EAGER, engine=EAGER, runtime="cpu")
    return [eager, *([replace(eager, engine=EAGER_CUDA, runtime="cuda")] if on_gpu else [])]


def _gmac(model: ModelFile) -> float | None:
    import onnx

    count = count_macs(onnx.ModelProto.FromString(model.content))
    return None if count is None else count / 1e9


def _mmod_gmac() -> float | None:
    from engines.dlib.detector_graph import detector_graph
    from engines.dlib.networks import read_mmod
    from engines.dlib.pyramid import layout

    height, width = FRAME
    count = count_macs(detector_graph(read_mmod(find_weights(*CNN_DETECTOR)).network, layout(width, height)))
    return None if count is None else count / 1e9


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
