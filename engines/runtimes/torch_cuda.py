"""Models on torch and an NVIDIA GPU: fp16, bf16 or fp32.

Enters: ONNX bytes. Leaves: a ``Session``. BatchNormalization is folded, images lie channels last, what follows a
convolution is one kernel, and each size of batch is one CUDA graph. Which way of making those kernels is the fastest is
measured once on this GPU and remembered.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any, Final

from engines import plans
from engines.errors import EngineError, RuntimeMissing, first_line
from engines.gpu.cuda_errors import translated
from engines.runtimes.torch_cpu import library

if TYPE_CHECKING:
    from engines.gpu.buckets import BucketedSession

RECIPE: Final = 2
"""Raise it when the candidates change: what was measured before is then measured again."""

_RUNTIME: Final = "torch-cuda"

_NEEDED: Final = {"fp32": (0, 0), "fp16": (7, 0), "bf16": (8, 0)}
"""Compute capability from which a precision is faster than the one before it."""


def version() -> str:
    """Of torch, CUDA and the GPU.

    Raises:
        RuntimeMissing: torch is not installed, is a build without CUDA, or sees no GPU; the message says which.
    """
    torch = _cuda()
    return f"{torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}"


def obstacle(precision: str) -> str | None:
    if precision not in _NEEDED:
        return f"torch-cuda runs fp16, bf16 and fp32 only, not {precision}"
    torch = _cuda()
    capability: tuple[int, int] = torch.cuda.get_device_capability()
    if not runs_on(torch.cuda.get_arch_list(), capability):
        return f"this torch has no kernels for the GPU ({_dotted(capability)}); install a build of torch for it"
    if capability < _NEEDED[precision]:
        return f"the GPU has no fast {precision} ({_dotted(capability)}, {_dotted(_NEEDED[precision])} is needed)"
    return None


def ready(content: bytes, precision: str) -> bool:
    """Whether the fastest form has been measured here."""
    return plans.have(_RUNTIME, _key(content, precision))


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> BucketedSession:
    """Translate, measure what has not been measured yet (a minute or more), and record the first graphs.

    Raises:
        ModelFileError: an operator is not known here.
        OutOfDeviceMemory: not even one image fits.
        DeviceLost: the driver does not answer.
        EngineError: anything else.
    """
    torch = _cuda()
    if precision not in _NEEDED:
        raise EngineError(f"{where}: {obstacle(precision)}; use another runtime")
    from engines.gpu.candidates import DTYPES, Candidates, open_fastest
    from engines.graphs.folding import fold_bytes

    folded = fold_bytes(model, where)
    try:
        device = torch.device("cuda", torch.cuda.current_device())
        candidates = Candidates(folded, where, device, DTYPES[precision])
        return open_fastest(candidates, _key(model, precision))
    except RuntimeError as err:
        raise translated(err, where, _RUNTIME) from err


def runs_on(built_for: list[str], capability: tuple[int, int]) -> bool:
    """Whether a build has kernels for a GPU: of its generation and not newer, or code to translate for any later one.

    Args:
        built_for: as torch lists it: ``sm_80``, ``sm_90a``, ``compute_90``.
        capability: of the GPU.
    """
    major, minor = capability
    for entry in built_for:
        kind, _, digits = entry.partition("_")
        number = int("".join(filter(str.isdigit, digits)) or 0)
        same = number // 10 == major and number % 10 <= minor
        if (kind == "sm" and same) or (kind == "compute" and number <= major * 10 + minor):
            return True
    return not built_for


def _key(content: bytes, precision: str) -> tuple[str, ...]:
    return (hashlib.sha256(content).hexdigest(), version(), precision, str(RECIPE))


def _dotted(capability: tuple[int, int]) -> str:
    return "compute capability {}.{}".format(*capability)


def _cuda() -> Any:
    """The module ``torch``, with a GPU.

    Raises:
        RuntimeMissing: as ``version``.
    """
    torch = library()
    if torch.version.cuda is None:
        raise RuntimeMissing(
            f"torch {torch.__version__} is a build without CUDA; install one with it, as pytorch.org says"
        )
    with warnings.catch_warnings(record=True) as told:  # of a driver that is too old torch only warns
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return torch
    cause = f" ({first_line(str(told[-1].message))})" if told else ""
    raise RuntimeMissing(f"torch sees no NVIDIA GPU{cause}; look at `nvidia-smi` and CUDA_VISIBLE_DEVICES")
