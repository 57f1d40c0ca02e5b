"""Models on TensorRT 10.12 and newer, 11 too: fp16, fp32 and int8.

Enters: ONNX bytes. Leaves: a ``Session``. The graph says which node computes in which precision (fp16: body in half,
the last layer in float32; int8: its quantise and dequantise nodes), so that one way of building serves both versions.
The engine is built once for this GPU and this version, which takes minutes, and kept.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from typing import TYPE_CHECKING, Any, Final

from engines import plans
from engines.errors import ModelFileError, RuntimeMissing, first_line
from engines.gpu.cuda_errors import translated

if TYPE_CHECKING:
    from engines.gpu.trt_build import LoadedPlan
    from engines.gpu.trt_session import TensorRtSession

OLDEST: Final = (10, 12)
"""Before, a strongly typed network was not the rule and lacked operators."""

RECIPE: Final = 1
"""Raise it when the same model would give another engine: kept ones are then built again."""

_KIND: Final = "tensorrt"


def version() -> str:
    """Of the library and the device.

    Raises:
        RuntimeMissing: TensorRT or a torch with CUDA is not installed or does not load, or there is no GPU.
    """
    trt, torch = library(), cuda_torch("tensorrt")
    return f"{trt.__version__}, {torch.cuda.get_device_name()}"


def obstacle(precision: str) -> str | None:
    if precision not in ("fp16", "fp32", "int8"):
        return f"tensorrt runs fp16, fp32 and int8 only, not {precision}"
    found = version_numbers(str(library().__version__))
    if found < OLDEST:
        return "TensorRT {}.{} is too old; install 10.12 or newer".format(*found)
    return None


def ready(content: bytes, precision: str) -> bool:
    """Whether the engine is built and kept."""
    return plans.have(_KIND, _key(library(), content, precision))


def open_session(model: bytes, where: str, *, precision: str, threads: int) -> TensorRtSession:
    """Load the engine, building it where it is not kept; that takes a minute or more.

    Raises:
        ModelFileError: TensorRT refuses the graph.
        OutOfDeviceMemory: the GPU's memory is too small or taken.
        DeviceLost: the driver does not answer.
        EngineError: anything else.
    """
    trt, torch = library(), cuda_torch("tensorrt")
    torch.cuda.init()
    plan = _loaded(trt, model, where, precision)
    from engines.gpu.trt_session import TensorRtSession

    try:
        return TensorRtSession(plan, where, torch.device("cuda", torch.cuda.current_device()))
    except RuntimeError as err:
        raise translated(err, where, "TensorRT") from err


def cuda_torch(runtime: str) -> Any:
    """The module ``torch``.

    Raises:
        RuntimeMissing: it is not installed, cannot use CUDA, or sees no GPU.
    """
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as err:
        raise RuntimeMissing(
            f"{runtime} needs torch for the GPU's memory ({first_line(err)}); install it with `pip install torch`"
        ) from err
    if torch.version.cuda is None:
        raise RuntimeMissing(f"{runtime} needs a torch with CUDA, this one is for CPUs; install one from pytorch.org")
    if not torch.cuda.is_available():
        raise RuntimeMissing(f"torch sees no NVIDIA GPU for {runtime}; look at `nvidia-smi` and CUDA_VISIBLE_DEVICES")
    return torch


def version_numbers(text: str) -> tuple[int, int]:
    """Major and minor of ``10.16.1.11``."""
    numbers = [int(digits) for digits in re.findall(r"\d+", text)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _loaded(trt: Any, model: bytes, where: str, precision: str) -> LoadedPlan:
    from engines.gpu.trt_build import LoadedPlan, build_plan

    plan = LoadedPlan(trt)

    def build() -> bytes:
        return build_plan(trt, typed_graph(model, where, precision), where, device_parts())

    content = plans.kept(_KIND, _key(trt, model, precision), build, accept=plan.load)
    if plan.engine is None and not plan.load(content):
        raise translated(plan.log.last, where, "TensorRT does not load what it built and")
    return plan


def typed_graph(model: bytes, where: str, precision: str) -> bytes:
    """The ONNX whose types TensorRT follows.

    Raises:
        ModelFileError: the graph has no such form.
    """
    import onnx

    from engines.graphs.anatomy import float_input
    from engines.graphs.folding import fold
    from engines.graphs.mixed_precision import to_mixed
    from engines.graphs.quantisation import symmetric

    graph = onnx.ModelProto.FromString(model)
    try:
        typed = symmetric(graph) if precision == "int8" else fold(graph)
        typed = to_mixed(typed) if precision == "fp16" else float_input(typed)
    except ModelFileError as err:
        raise ModelFileError(f"{where}: {err}") from err
    content: bytes = typed.SerializeToString(deterministic=True)
    return content


def _key(trt: Any, content: bytes, precision: str) -> tuple[str, ...]:
    from engines.gpu.trt_build import PROFILES

    sha256 = hashlib.sha256(content).hexdigest()
    return (sha256, f"TensorRT {trt.__version__}", *device_parts(), precision, repr(PROFILES), f"recipe {RECIPE}")


def device_parts() -> tuple[str, ...]:
    """What an engine of this GPU runs on: compute capability and name."""
    torch = cuda_torch("tensorrt")
    major, minor = torch.cuda.get_device_capability()
    return (f"sm_{major}{minor}", str(torch.cuda.get_device_name()))


def library() -> Any:
    """The module ``tensorrt``; looked for first, as loading torch for nothing takes seconds."""
    if importlib.util.find_spec("tensorrt") is None:
        raise RuntimeMissing("tensorrt is not installed; install it with `pip install tensorrt`")
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError, AttributeError, RuntimeError) as err:
        again = "install it again with `pip install --force-reinstall tensorrt`"
        raise RuntimeMissing(f"tensorrt does not load ({first_line(err)}); {again}") from err
