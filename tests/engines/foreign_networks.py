"""Small networks as others export them: float32 NCHW in, embeddings out, no manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIMENSIONS = 16


def network(
    *,
    batch: int | str = "batch",
    side: int | str = 112,
    opset: int = 13,
    ir: int = 7,
    layout: str = "nchw",
    first: str | None = None,
    flatten: str = "Flatten",
    outputs: int = 1,
    seed: int = 0,
) -> onnx.ModelProto:
    """Convolution, batch normalisation, PReLU, fully connected, batch normalisation: ArcFace's kinds of layers.

    Args:
        batch: a number fixes it.
        side: of the image, pixels; a name leaves it free.
        opset: of the file.
        ir: version of the container; below 4, weights are inputs too.
        layout: nhwc puts a Transpose in front.
        first: ``Sub`` or ``Div``: the graph normalises its input itself.
        flatten: ``Flatten``, or ``Reshape`` to a constant (1, -1), as exporters write it.
        outputs: of shape (N, D).
        seed: of the weights.
    """
    noise = np.random.default_rng(seed)
    weights: dict[str, Any] = {
        "conv": noise.normal(0, 0.2, (4, 3, 5, 5)),
        "slope": noise.uniform(0.1, 0.3, (4, 1, 1)),
        "fc": noise.normal(0, 0.1, (4 * 14 * 14, DIMENSIONS)),
        "bias": noise.normal(0, 0.1, DIMENSIONS),
    }
    for name, size in (("bn", 4), ("bn2", DIMENSIONS)):
        weights |= {
            f"{name}.scale": noise.uniform(0.5, 1.5, size),
            f"{name}.shift": noise.normal(0, 0.3, size),
            f"{name}.mean": noise.normal(0, 0.3, size),
            f"{name}.var": noise.uniform(0.5, 1.5, size),
        }
    constants = [numpy_helper.from_array(np.asarray(v, dtype=np.float32), k) for k, v in weights.items()]
    nodes, x = [], "input.1"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [x], ["planes"], perm=[0, 3, 1, 2]))
        x = "planes"
    if first is not None:
        constants.append(numpy_helper.from_array(np.array(127.5, dtype=np.float32), "own"))
        nodes.append(helper.make_node(first, [x, "own"], ["normal"]))
        x = "normal"
    bn = [f".{part}" for part in ("scale", "shift", "mean", "var")]
    nodes += [
        helper.make_node("Conv", [x, "conv"], ["a"], kernel_shape=[5, 5], strides=[8, 8], pads=[2, 2, 2, 2]),
        helper.make_node("BatchNormalization", ["a", *(f"bn{part}" for part in bn)], ["b"]),
        helper.make_node("PRelu", ["b", "slope"], ["c"]),
    ]
    if flatten == "Reshape":
        constants.append(numpy_helper.from_array(np.array([1, -1], dtype=np.int64), "rows"))
        nodes.append(helper.make_node("Reshape", ["c", "rows"], ["d"]))
    else:
        nodes.append(helper.make_node("Flatten", ["c"], ["d"], axis=1))
    nodes += [
        helper.make_node("Gemm", ["d", "fc", "bias"], ["e"]),
        helper.make_node("BatchNormalization", ["e", *(f"bn2{part}" for part in bn)], ["embeddings"]),
        *(helper.make_node("Neg", ["embeddings"], [f"other{i}"]) for i in range(1, outputs)),
    ]
    shape = [batch, 3, side, side] if layout == "nchw" else [batch, side, side, 3]
    inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, shape)]
    if ir < 4:
        inputs += [helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in constants]
    names = ["embeddings", *(f"other{i}" for i in range(1, outputs))]
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, DIMENSIONS]) for name in names]
    graph = helper.make_graph(nodes, "foreign", inputs, out, initializer=constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir, producer_name="somebody"
    )


def content(**form: Any) -> bytes:
    """``network`` as a file's bytes."""
    return bytes(network(**form).SerializeToString())
