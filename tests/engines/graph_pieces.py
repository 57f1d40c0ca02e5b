"""Networks of a few random layers, and what ONNX Runtime says of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from engines.graphs.builder import GraphBuilder


class Pieces:
    """A graph from uint8 (N, S, S, 3) on, written layer by layer with random weights."""

    def __init__(self, side: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = GraphBuilder("pieces")
        self.images = self.graph.input("images", ["N", side, side, 3])
        planes = self.graph.node("Transpose", self.images, perm=[0, 3, 1, 2])
        floats = self.graph.node("Cast", planes, to=onnx.TensorProto.FLOAT)
        centred = self.graph.node("Sub", floats, self.graph.constant(np.array(127.5, dtype=np.float32)))
        self.x = self.graph.node("Mul", centred, self.graph.constant(np.array(1 / 127.5, dtype=np.float32)))

    def uniform(self, low: float, high: float, *shape: int) -> str:
        return self.graph.constant(self.random.uniform(low, high, shape).astype(np.float32))

    def norm(self, x: str, channels: int) -> str:
        """Far from doing nothing: a fold that forgets a part of it shows."""
        ranges = ((0.5, 2), (-1, 1), (-1, 1), (0.3, 3))
        parts = [self.uniform(low, high, channels) for low, high in ranges]
        return self.graph.node("BatchNormalization", x, *parts, epsilon=1e-3)

    def conv(
        self,
        x: str,
        inputs: int,
        outputs: int,
        *,
        kernel: tuple[int, int] = (3, 3),
        strides: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (1, 1, 1, 1),
        dilations: tuple[int, int] = (1, 1),
        group: int = 1,
        bias: bool = False,
    ) -> str:
        limit = (3 * group / (inputs * kernel[0] * kernel[1])) ** 0.5
        constants = [self.uniform(-limit, limit, outputs, inputs // group, *kernel)]
        constants += [self.uniform(-1, 1, outputs)] if bias else []
        return self.graph.node(
            "Conv", x, *constants, kernel_shape=kernel, strides=strides, pads=pads, dilations=dilations, group=group
        )

    def prelu(self, x: str, channels: int) -> str:
        return self.graph.node("PRelu", x, self.uniform(0.1, 0.4, channels, 1, 1))

    def gemm(self, x: str, inputs: int, outputs: int, **options: float) -> str:
        limit = (3 / inputs) ** 0.5
        shape = (outputs, inputs) if options.get("transB") else (inputs, outputs)
        return self.graph.node("Gemm", x, self.uniform(-limit, limit, *shape), self.uniform(-1, 1, outputs), **options)

    def finish(self, x: str, *shape: int | str) -> onnx.ModelProto:
        self.graph.node("Identity", x, output="result")
        return self.graph.finish("result", ["N", *shape], "tests")


def small_iresnet(side: int = 24, widths: tuple[int, ...] = (6, 8, 10, 12), dimensions: int = 16) -> onnx.ModelProto:
    """insightface's layout with every BatchNormalization in its place, two blocks a stage."""
    net = Pieces(side, seed=5)
    channels = widths[0]
    x = net.prelu(net.norm(net.conv(net.x, 3, channels), channels), channels)
    for width in widths:
        for strides in ((2, 2), (1, 1)):
            y = net.prelu(net.norm(net.conv(net.norm(x, channels), channels, width), width), width)
            y = net.norm(net.conv(y, width, width, strides=strides), width)
            if strides == (2, 2):
                short = net.conv(x, channels, width, kernel=(1, 1), strides=strides, pads=(0, 0, 0, 0))
                x = net.norm(short, width)
            x, channels = net.graph.node("Add", y, x), width
            side = (side + 1) // 2 if strides == (2, 2) else side
    flat = net.graph.node("Flatten", net.norm(x, channels))
    return net.finish(net.norm(net.gemm(flat, channels * side**2, dimensions, transB=1), dimensions), dimensions)


def onnx_answer(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return answer


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def random_images(count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(11).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def worst_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Over the rows."""
    flat_a, flat_b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    lengths = np.linalg.norm(flat_a, axis=1) * np.linalg.norm(flat_b, axis=1)
    return float(((flat_a * flat_b).sum(axis=1) / lengths).min())
