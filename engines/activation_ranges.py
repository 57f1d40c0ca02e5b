"""The values that a network's activations take: what int8 scales are made of.

Enters: an fp32 graph and images, or the sha256 of weights whose ranges are shipped as numbers (``configs/int8``).
Leaves: smallest and largest value of each activation, by role (``engines.graphs.quantisation``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError
from engines.presets import configs_dir
from engines.runtimes import onnxruntime

BATCH: Final = 4
"""Faces of one step of calibration: all activations of a step are in memory, 50 MB a face of an iresnet50."""

Ranges = dict[str, tuple[float, float]]
"""As ``engines.graphs.quantisation.Ranges``, which would load onnx."""
Progress = Callable[[int], object]
"""Is told after each step how many faces it took."""


@dataclass(frozen=True, slots=True)
class ShippedRanges:
    """One file of ``configs/int8``."""

    ranges: Ranges
    calibrated_on: str


def observed(
    content: bytes, where: str, images: Iterable[Any], *, threads: int = 1, progress: Progress | None = None
) -> Ranges:
    """Smallest and largest value of each activation.

    Args:
        content: an fp32 ONNX model with one uint8 input (N, H, W, 3); where it fixes N, so many go through at once.
        where: names it in messages.
        images: each (H, W, 3) uint8.

    Raises:
        ModelFileError: the graph cannot be quantised, or gives numbers that are none.
        EngineError: ONNX Runtime failed.
        RuntimeMissing: ONNX Runtime does not work here.
    """
    import onnx
    from onnx import TensorProto, helper

    from engines.graphs.quantisation import roles

    graph = onnx.ModelProto.FromString(content)
    try:
        role_of = roles(graph)
    except ModelFileError as err:
        raise ModelFileError(f"{where}: {err}") from err
    own = [value.name for value in graph.graph.output]
    graph.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in role_of if name not in own
    )
    session = onnxruntime.compiled(graph.SerializeToString(), where, threads)
    bounds: dict[str, tuple[float, float]] = dict.fromkeys(role_of, (0.0, 0.0))
    fixed = session.get_inputs()[0].shape[0]
    for batch in _batches(images, fixed if isinstance(fixed, int) else BATCH):
        values = onnxruntime.outputs(session, where, list(role_of), batch)
        for name, array in zip(role_of, values, strict=True):
            low, high = bounds[name]
            bounds[name] = (float(np.minimum(low, array.min())), float(np.maximum(high, array.max())))
        if progress is not None:
            progress(len(batch))
    return {role_of[name]: _finite(f"{where}: {role_of[name]}", low, high) for name, (low, high) in bounds.items()}


def shipped_ranges(weights_sha256: str) -> ShippedRanges | None:
    """What this installation knows of a network's activations; None for most.

    Raises:
        ModelFileError: a file of ``configs/int8`` is damaged.
    """
    for path in sorted((configs_dir() / "int8").glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["weights_sha256"] == weights_sha256:
                ranges = {str(role): (float(low), float(high)) for role, (low, high) in values["ranges"].items()}
                return ShippedRanges(ranges, str(values["calibrated_on"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
            raise ModelFileError(f"{path}: cannot be read ({err}); install realtime again") from err
    return None


def _batches(images: Iterable[Any], size: int) -> Iterable[NDArray[np.uint8]]:
    waiting: list[Any] = []
    for image in images:
        if waiting and (len(waiting) == size or image.shape != waiting[0].shape):
            yield np.stack(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield np.stack(waiting)


def _finite(what: str, low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ModelFileError(f"{what} is not a number for some images; the weights are damaged, get them again")
    return low, high
