"""Models through torch2trt, fp16, on TensorRT 10; on request only.

Enters: ONNX bytes. Leaves: a ``Session``. The body of the network, from the first convolution to the last matrix
product, becomes a torch module that ``torch2trt`` converts; what comes before and after runs in torch on the same
stream. Its last version is of 2024: TensorRT 11 has lost names that it needs to be imported. ``tensorrt`` does the same
without it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import time
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any, Final

from engines import plans
from engines.errors import EngineError, ModelFileError, RuntimeMissing, first_line
from engines.gpu.cuda_errors import translated
from engines.runtimes.tensorrt import cuda_torch, device_parts, library, version_numbers

if TYPE_CHECKING:
    from engines.gpu.torch2trt_session import Torch2TrtSession

INSTALL: Final = "pip install git+https://github.com/NVIDIA-AI-IOT/torch2trt"
"""It is on no package index."""

BODY_BATCH: Final = 256
"""Largest batch of the converted body."""

BEST_BATCH: Final = 8
"""Batch of the example, which TensorRT picks kernels for: one face and groups alike run near their best."""

RECIPE: Final = 1
"""Raise it when the same model would give another engine."""

_KIND: Final = "torch2trt"

_log = logging.getLogger(__name__)


def version() -> str:
    """Of the library, TensorRT and the device; nothing of torch2trt is imported.

    Raises:
        RuntimeMissing: one of them is missing, or TensorRT is too new.
    """
    if importlib.util.find_spec("tensorrt") is None:
        raise RuntimeMissing("torch2trt needs TensorRT 10; install it with `pip install 'tensorrt<11'`")
    trt = library()
    major, minor = version_numbers(str(trt.__version__))
    if major >= 11:
        raise RuntimeMissing(
            f"torch2trt cannot be imported with TensorRT {major}.{minor}, which has dropped the calibrators it needs; "
            "use the runtime tensorrt"
        )
    if importlib.util.find_spec("torch2trt") is None:
        raise RuntimeMissing(f"torch2trt is not installed; install it with `{INSTALL}`")
    name = cuda_torch("torch2trt").cuda.get_device_name()
    return f"{_own_version()} on TensorRT {trt.__version__}, {name}"


def obstacle(precision: str) -> str | None:
    return None if precision == "fp16" else "torch2trt runs fp16 only"


def ready(content: bytes, precision: str) -> bool:
    """Whether the engine is built and kept."""
    return plans.have(_KIND, _key(content, precision))


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> Torch2TrtSession:
    """Load the engine, converting the network where it is not kept; that takes a minute or more.

    Raises:
        ModelFileError: the network holds something that torch2trt does not convert.
        RuntimeMissing: torch2trt does not load.
        OutOfDeviceMemory: the GPU's memory is too small or taken.
        DeviceLost: the driver does not answer.
        EngineError: anything else.
    """
    torch, torch2trt = cuda_torch("torch2trt"), _torch2trt()
    torch.cuda.init()
    device = torch.device("cuda", torch.cuda.current_device())
    from engines.gpu.torch2trt_session import Parts, Torch2TrtSession
    from engines.gpu.trt_build import LoadedPlan

    parts = Parts.of(model, where)
    plan = LoadedPlan(library())

    def build() -> bytes:
        return _converted(torch, torch2trt, parts, where, device)

    try:
        content = plans.kept(_KIND, _key(model, precision), build, accept=plan.load)
        if plan.engine is None and not plan.load(content):
            raise translated(plan.log.last, where, "TensorRT does not load what torch2trt built and")
        body = torch2trt.TRTModule(engine=plan.engine, input_names=["images"], output_names=["embeddings"])
        return Torch2TrtSession(parts, body, plan, where, device, BODY_BATCH)
    except (RuntimeError, MemoryError) as err:
        raise translated(err, where, "torch2trt") from err


def _converted(torch: Any, torch2trt: Any, parts: Any, where: str, device: Any) -> bytes:
    """The engine's bytes."""
    example = torch.zeros((BEST_BATCH, *parts.image), device=device)
    body = parts.body.to(device)
    _log.info("%s: torch2trt converts the network for this GPU; this takes minutes, once", where)
    started = time.monotonic()
    try:
        module = torch2trt.torch2trt(
            body,
            [example],
            fp16_mode=True,
            max_batch_size=BODY_BATCH,
            input_names=["images"],
            output_names=["embeddings"],
        )
    except (AttributeError, TypeError, ValueError, NotImplementedError) as err:  # what its converters trip over
        raise ModelFileError(
            f"{where}: torch2trt cannot convert it ({first_line(err)}); use the runtime tensorrt"
        ) from err
    if module.engine is None:
        raise EngineError(f"{where}: torch2trt built no engine, its reason stands above; use the runtime tensorrt")
    _log.info("%s: torch2trt's engine is built, in %.0f s", where, time.monotonic() - started)
    return bytes(module.engine.serialize())


def _key(content: bytes, precision: str) -> tuple[str, ...]:
    sha256 = hashlib.sha256(content).hexdigest()
    versions = (f"torch2trt {_own_version()}", f"TensorRT {library().__version__}")
    return (sha256, *versions, *device_parts(), precision, f"{BEST_BATCH} of {BODY_BATCH}", f"recipe {RECIPE}")


def _torch2trt() -> Any:
    version()
    try:
        return importlib.import_module("torch2trt")
    except (ImportError, OSError, AttributeError, RuntimeError) as err:
        raise RuntimeMissing(
            f"torch2trt does not load with TensorRT {library().__version__} ({first_line(err)}); "
            "use the runtime tensorrt"
        ) from err


def _own_version() -> str:
    try:
        return installed("torch2trt")
    except PackageNotFoundError:
        return "of unknown version"
