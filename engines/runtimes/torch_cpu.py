"""Models on torch's own kernels on the processor, fp32 or bf16.

Enters: ONNX bytes. Leaves: a ``Session``. It runs where nothing else is installed, and is what the others are measured
against; it is taken on request only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, ModelFileError, RuntimeMissing, first_line
from engines.machine import cpu_flags

if TYPE_CHECKING:
    import torch

MAX_BATCH: Final = 32
"""Larger ones are no faster on a processor, and memory grows with them."""

_BF16: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Instructions for bf16 by Linux's names; the last is Arm's."""


def version() -> str:
    """Of the library.

    Raises:
        RuntimeMissing: not installed, or it does not load here.
    """
    return str(library().__version__)


def obstacle(precision: str) -> str | None:
    """bf16 without instructions for it is emulated, slower than fp32."""
    if precision not in ("fp32", "bf16"):
        return f"torch runs fp32 and bf16 only on a processor, not {precision}"
    if precision == "bf16" and not _BF16 & cpu_flags():
        return "this processor has no bf16 instructions (AVX512_BF16 or AMX)"
    return None


def ready(content: bytes, precision: str) -> bool:
    """Nothing has to be built."""
    return True


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> TorchSession:
    """Fold and translate; takes a second for a large network, and one run proves that it works.

    Raises:
        ModelFileError: an operator is not known here, or the graph does not run.
        EngineError: there is no such precision here.
    """
    torch = library()
    if reason := obstacle(precision) if precision not in ("fp32", "bf16") else None:
        raise EngineError(f"{where}: {reason}; use another runtime")
    from engines.graphs.folding import fold_bytes
    from engines.graphs.torch_graph import image_shape, to_torch

    folded = fold_bytes(model, where)
    batch, shape = image_shape(folded, where)
    module = to_torch(folded, dtype=torch.bfloat16 if precision == "bf16" else torch.float32, where=where)
    session = TorchSession(module.forward, where, threads)
    try:
        session.run(np.zeros((batch or 1, *shape), dtype=np.uint8))
    except EngineError as err:
        raise ModelFileError(f"{where}: torch cannot load it ({err}); export the model again") from err
    return session


class TorchSession:
    """One module; results are fresh arrays."""

    max_batch: Final = MAX_BATCH

    def __init__(self, compute: Callable[[torch.Tensor], torch.Tensor], where: str, threads: int) -> None:
        self._compute: Callable[[torch.Tensor], torch.Tensor] | None = compute
        self._where = where
        self._threads = threads

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._compute is None:
            raise EngineError(f"{self._where}: the engine is closed; open it again")
        torch = library()
        given = images if images.flags.writeable else images.copy()  # torch warns of memory that it may not write
        try:
            with torch.inference_mode(), _threads(torch, self._threads):
                output: NDArray[np.float32] = self._compute(torch.from_numpy(given)).numpy()
        except RuntimeError as err:
            raise EngineError(f"{self._where}: torch failed ({first_line(err)}); try another runtime") from err
        return output

    def close(self) -> None:
        self._compute = None


@contextmanager
def _threads(torch: Any, count: int) -> Iterator[None]:
    """Torch's number of threads belongs to the process: it is set for a call and given back.

    Two sessions of different numbers that run at once share one of the two.
    """
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


def library() -> Any:
    """The module ``torch``.

    Raises:
        RuntimeMissing: not installed, or it does not load here.
    """
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as err:
        raise RuntimeMissing(f"torch does not load ({first_line(err)}); install it with `pip install torch`") from err
