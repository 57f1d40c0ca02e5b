"""A network nobody trained, to measure speed and plumbing before one has weights.

Enters: a network and a seed. Leaves: a state dict whose activations are of the size that a trained network's are, and
whose embeddings of different pictures differ: the statistics of every norm are measured on made-up pictures, in one
pass of ONNX Runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.graphs.builder import GraphBuilder
from engines.networks import Network
from engines.networks.layouts import Convolution, Head, Maps, write
from engines.networks.shapes import expected_shapes
from engines.networks.to_onnx import EPSILON, GraphWriter, normalised
from engines.runtimes.onnxruntime import compiled, outputs

PICTURES: Final = 16
"""Made-up pictures that the statistics are taken from."""

SLOPE: Final = 0.25
"""Of every PReLU, as torch starts it."""

LAST_SCALE: Final = "features.weight"
"""Training holds it at 1."""

_NORMS: Final = {"weight": (1.0, 0.1), "bias": (0.0, 0.1), "running_mean": (0.0, 0.0), "running_var": (1.0, 0.0)}
"""Centre and spread."""

_CELLS: Final = (1, 4, 14, 28)
"""Scales of the noise in the pictures, pixels."""

Float32 = NDArray[np.float32]


def random_state(network: Network, seed: int) -> dict[str, Float32]:
    """Weights by name, the same for the same seed on the same machine.

    Raises:
        RuntimeMissing: ONNX Runtime does not work here.
    """
    random = np.random.default_rng(seed)
    arrays = _fresh(expected_shapes(network), random)
    if LAST_SCALE in arrays:
        arrays[LAST_SCALE] = np.ones_like(arrays[LAST_SCALE])
    return arrays | _statistics(network, arrays, _pictures(network.input_size, random))


def digest(arrays: Mapping[str, Float32]) -> str:
    """sha256 of weights that came from no file."""
    whole = hashlib.sha256()
    for name, values in arrays.items():
        whole.update(f"{name} {values.shape}".encode())
        whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()


def _fresh(shapes: Mapping[str, tuple[int, ...]], random: np.random.Generator) -> dict[str, Float32]:
    """Filters that keep the variance, norms near the identity."""
    arrays: dict[str, Float32] = {}
    for name, shape in shapes.items():
        owner, _, part = name.rpartition(".")
        if len(shape) > 1:
            centre, spread = 0.0, float(np.sqrt(2 / (np.prod(shape[1:]) * (1 + SLOPE**2))))
        elif part == "weight" and f"{owner}.running_mean" not in shapes:
            centre, spread = SLOPE, SLOPE / 10
        else:
            centre, spread = _NORMS[part]
        arrays[name] = random.standard_normal(shape, dtype=np.float32) * np.float32(spread) + np.float32(centre)
    return arrays


def _pictures(side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """(PICTURES, side, side, 3): noise at four scales, each picture with its own contrast and light."""
    total = np.zeros((PICTURES, side, side, 3), dtype=np.float32)
    for cell in _CELLS:
        count = -(-side // cell)
        noise = random.standard_normal((PICTURES, count, count, 3), dtype=np.float32)
        total += noise.repeat(cell, axis=1).repeat(cell, axis=2)[:, :side, :side]
    contrast = random.uniform(20, 50, (PICTURES, 1, 1, 1))
    return np.clip(total * contrast + random.uniform(90, 160, (PICTURES, 1, 1, 3)), 0, 255).astype(np.uint8)


def _statistics(network: Network, arrays: Mapping[str, Float32], pictures: NDArray[np.uint8]) -> dict[str, Float32]:
    """Mean and variance at every norm, when each normalises by what it sees."""
    side = network.input_size
    graph = GraphBuilder("statistics")
    writer = _MeasuringWriter(graph, arrays)
    planes = normalised(graph, graph.input("faces", ["N", side, side, 3]))
    embeddings = write(network, writer, Maps(planes, 3, side))
    model = graph.finish(embeddings, ["N", network.dimensions], "realtime")
    for tensor in writer.measured:
        model.graph.output.add(name=tensor)
    # one thread: the order of additions, and so the bytes, would depend on the number
    session = compiled(model.SerializeToString(), network.name, threads=1)
    found = outputs(session, network.name, list(writer.measured), pictures)
    return {name: values.ravel() for name, values in zip(writer.measured.values(), found, strict=True)}


class _MeasuringWriter(GraphWriter):
    """Norms take their statistics from the batch and give them out."""

    def __init__(self, graph: GraphBuilder, arrays: Mapping[str, Float32]) -> None:
        super().__init__(graph, arrays)
        self.measured: dict[str, str] = {}
        """Tensor to the name of the array that it becomes."""

    def convolution(self, x: Maps, spec: Convolution) -> Maps:
        return self.norm(self.convolve(x, spec, self.arrays[f"{spec.name}.weight"]), spec.norm)

    def norm(self, x: Maps, name: str) -> Maps:
        return Maps(self._measure(x.name, name, [0, 2, 3]), x.channels, x.side)

    def head(self, x: Maps, head: Head) -> str:
        if head.before is not None:
            x = self.norm(x, head.before)
        names = [f"{head.linear}.weight", *([f"{head.linear}.bias"] if head.bias else [])]
        flat = self.graph.node("Flatten", x.name, axis=1)
        constants = (self.graph.constant(self.arrays[name]) for name in names)
        return self._measure(self.graph.node("Gemm", flat, *constants, transB=1), head.after, [0])

    def _measure(self, x: str, name: str, axes: list[int]) -> str:
        node, constant = self.graph.node, self.graph.constant
        mean = node("ReduceMean", x, axes=axes, keepdims=1)
        centred = node("Sub", x, mean)
        variance = node("ReduceMean", node("Mul", centred, centred), axes=axes, keepdims=1)
        self.measured |= {mean: f"{name}.running_mean", variance: f"{name}.running_var"}
        deviation = node("Sqrt", node("Add", variance, constant(np.array(EPSILON, dtype=np.float32))))
        shape = (-1, *[1] * (len(axes) - 1))
        scale, shift = (constant(self.arrays[f"{name}.{part}"].reshape(shape)) for part in ("weight", "bias"))
        return node("Add", node("Mul", node("Div", centred, deviation), scale), shift)
