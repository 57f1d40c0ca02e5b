"""A graph in torch gives what ONNX Runtime gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import fx

from engines.dlib.detector_graph import detector_graph
from engines.dlib.networks import Detector
from engines.dlib.pyramid import layout
from engines.errors import ModelFileError
from engines.graphs.epilogues import fuse
from engines.graphs.folding import fold, fold_bytes
from engines.graphs.stem import widen
from engines.graphs.torch_graph import body_nodes, image_shape, to_body, to_torch
from engines.networks import NETWORKS, Network
from engines.networks.model_files import random_model
from engines.store import default_model
from tests.engines.graph_pieces import (
    Pieces,
    onnx_answer,
    operators,
    random_images,
    small_iresnet,
    worst_cosine,
)
from tests.pretended_gpu import moved, pretended_gpu

SIDE = 6

Build = Callable[[Pieces, str], str]
Float32 = NDArray[np.float32]


def torch_answer(module: fx.GraphModule, images: NDArray[np.uint8]) -> Float32:
    with torch.inference_mode():
        answer: Float32 = module(torch.from_numpy(images)).numpy()
    return answer


def assert_same(model: onnx.ModelProto, images: NDArray[np.uint8]) -> None:
    expected = onnx_answer(model, images)
    answer = torch_answer(to_torch(model, dtype=torch.float32), images)
    assert answer.shape == expected.shape
    assert answer.dtype == np.float32
    assert np.abs(answer - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


def ints(net: Pieces, *values: int) -> str:
    return net.graph.ints(*values)


def number(net: Pieces, *values: float) -> str:
    return net.graph.constant(np.array(values, dtype=np.float32))


def flat(net: Pieces, x: str) -> str:
    return net.graph.node("Flatten", x)


ONE_OPERATOR: dict[str, Build] = {
    "add, a constant first": lambda net, x: net.graph.node("Add", net.uniform(-1, 1, 1, 4, 1, 1), x),
    "average pool": lambda net, x: net.graph.node("AveragePool", x, kernel_shape=[3, 2], strides=[2, 1]),
    "average pool, padded": lambda net, x: net.graph.node(
        "AveragePool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4, count_include_pad=1
    ),
    "average pool, padding not counted": lambda net, x: net.graph.node(
        "AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
    ),
    "batch norm of channels": lambda net, x: net.norm(x, 4),
    "batch norm of features": lambda net, x: net.norm(flat(net, x), 4 * SIDE**2),
    "clip": lambda net, x: net.graph.node(
        "Clip", x, net.graph.constant(np.float32(-0.2)), net.graph.constant(np.float32(0.3))
    ),
    "clip from below": lambda net, x: net.graph.node("Clip", x, net.graph.constant(np.float32(-0.2))),
    "concat": lambda net, x: net.graph.node("Concat", x, net.graph.node("Relu", x), x, axis=1),
    "conv, grouped, dilated, unevenly padded": lambda net, x: net.conv(
        x, 4, 8, group=2, dilations=(1, 2), pads=(0, 2, 1, 1), strides=(2, 1)
    ),
    "div": lambda net, x: net.graph.node("Div", x, number(net, 3.0)),
    "dropout": lambda net, x: net.graph.node("Dropout", x),
    "gather a row": lambda net, x: net.graph.node("Gather", x, ints(net, 2, 0, 1), axis=1),
    "gather one": lambda net, x: net.graph.node("Gather", x, net.graph.constant(np.array(1)), axis=2),
    "gemm": lambda net, x: net.gemm(flat(net, x), 4 * SIDE**2, 5),
    "gemm, scaled": lambda net, x: net.gemm(flat(net, x), 4 * SIDE**2, 5, transB=1, alpha=0.5, beta=2.0),
    "gemm, one bias": lambda net, x: net.graph.node("Gemm", flat(net, x), net.uniform(-1, 1, 144, 5), number(net, 3.0)),
    "gemm, no bias": lambda net, x: net.graph.node("Gemm", flat(net, x), net.uniform(-1, 1, 144, 5)),
    "global average pool": lambda net, x: net.graph.node("GlobalAveragePool", x),
    "lp normalization": lambda net, x: net.graph.node("LpNormalization", flat(net, x), axis=1, p=2),
    "matmul": lambda net, x: net.graph.node("MatMul", flat(net, x), net.uniform(-1, 1, 4 * SIDE**2, 5)),
    "max": lambda net, x: net.graph.node("Max", x, number(net, 0.1)),
    "max pool": lambda net, x: net.graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max pool, padded": lambda net, x: net.graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4),
    "max pool, unevenly padded": lambda net, x: net.graph.node("MaxPool", x, kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
    "pad with a number": lambda net, x: net.graph.node(
        "Pad", x, ints(net, 0, 1, 2, 0, 0, 2, 0, 1), net.graph.constant(np.float32(0.5))
    ),
    "pad and crop": lambda net, x: net.graph.node("Pad", x, ints(net, 0, 0, -1, 0, 0, 0, 2, 0)),
    "prelu": lambda net, x: net.prelu(x, 4),
    "prelu, one slope": lambda net, x: net.graph.node("PRelu", x, number(net, 0.3)),
    "prelu, a slope a place": lambda net, x: net.graph.node("PRelu", x, net.uniform(0, 1, 4, SIDE, SIDE)),
    "prelu of features": lambda net, x: net.graph.node("PRelu", flat(net, x), net.uniform(0, 1, 4 * SIDE**2)),
    "reduce l2": lambda net, x: net.graph.node("ReduceL2", x, axes=[1], keepdims=1),
    "reduce mean": lambda net, x: net.graph.node("ReduceMean", x, axes=[2, 3], keepdims=0),
    "reduce sum": lambda net, x: net.graph.node("ReduceSum", x, ints(net, 1), keepdims=0),
    "relu": lambda net, x: net.graph.node("Relu", x),
    "reshape, an axis kept": lambda net, x: net.graph.node("Reshape", x, ints(net, 0, 2, -1)),
    "resize to corners": lambda net, x: net.graph.node(
        "Resize", x, "", "", ints(net, 1, 4, 5, 9), mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "resize by half pixels": lambda net, x: net.graph.node("Resize", x, "", "", ints(net, 1, 4, 12, 9), mode="linear"),
    "slice": lambda net, x: net.graph.node(
        "Slice", x, ints(net, 1, 0), ints(net, 3, 2**60), ints(net, 1, 3), ints(net, 1, 2)
    ),
    "sqrt": lambda net, x: net.graph.node("Sqrt", net.graph.node("Relu", x)),
    "squeeze": lambda net, x: net.graph.node("Squeeze", net.graph.node("GlobalAveragePool", x), ints(net, 2, 3)),
    "sub from a constant": lambda net, x: net.graph.node("Sub", number(net, 1.0), x),
    "transpose": lambda net, x: net.graph.node("Transpose", x, perm=[0, 2, 3, 1]),
    "unsqueeze": lambda net, x: net.graph.node("Unsqueeze", x, ints(net, -1, 0)),
    "constants alone": lambda net, x: net.graph.node("Mul", x, net.graph.node("Sqrt", number(net, 2.0))),
}


@pytest.mark.parametrize("build", ONE_OPERATOR.values(), ids=ONE_OPERATOR)
def test_every_operator_is_onnxs(build: Build) -> None:
    net = Pieces(SIDE)
    model = net.finish(build(net, net.conv(net.x, 3, 4)), "A", "B", "C")
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert_same(model, random_images(1, SIDE))


@settings(max_examples=80, deadline=None)
@given(start=st.integers(-9, 9), end=st.integers(-9, 9), step=st.sampled_from([-3, -2, -1, 1, 2, 3]))
def test_any_slice_is_onnxs(start: int, end: int, step: int) -> None:
    net = Pieces(SIDE)
    cut = net.graph.node("Slice", net.x, ints(net, start), ints(net, end), ints(net, 2), ints(net, step))
    model = net.finish(cut, 3, "H", SIDE)
    expected = onnx_answer(model, random_images(2, SIDE))
    answer = torch_answer(to_torch(model, dtype=torch.float32), random_images(2, SIDE))
    assert np.array_equal(answer, expected)


def test_the_embedded_descriptor(chips: NDArray[np.uint8]) -> None:
    model = onnx.ModelProto.FromString(default_model().content)
    expected = onnx_answer(model, chips[:4])
    answer = torch_answer(to_torch(model, dtype=torch.float32), chips[:4])
    assert worst_cosine(answer, expected) >= 0.9999
    assert np.linalg.norm(answer - expected, axis=1).max() <= 1e-5


def test_the_detector(mmod: Detector, astronaut: NDArray[np.uint8]) -> None:
    frame = np.ascontiguousarray(astronaut[None, :160, 100:340])
    model = detector_graph(mmod.network, layout(240, 160))
    expected = onnx_answer(model, frame)
    answer = torch_answer(to_torch(model, dtype=torch.float32), frame)
    assert answer.shape == expected.shape
    assert expected.max() > 0
    assert np.abs(answer - expected).max() <= 2e-4


@pytest.mark.parametrize("family", ["iresnet", "mobilefacenet"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_our_own_exports(family: Any, mirrored: bool) -> None:
    width, expansion = (8, 0) if family == "iresnet" else (16, 16)
    network = Network(name="s", family=family, blocks=(1, 1, 1, 1), width=width, expansion=expansion, dimensions=32)
    model = onnx.ModelProto.FromString(random_model(network, 1, mirrored=mirrored).content)
    images = random_images(3, 112)
    expected = onnx_answer(model, images)
    for form in (model, fold(model)):
        answer = torch_answer(to_torch(form, dtype=torch.float32), images)
        assert np.linalg.norm(answer - expected, axis=1).max() <= 1e-5
        fused = torch_answer(fuse(to_torch(form, dtype=torch.float32)), images)
        assert np.linalg.norm(fused - expected, axis=1).max() <= 1e-5


@pytest.mark.parametrize(
    ("dtype", "floor"), [(torch.float32, 0.9999999), (torch.bfloat16, 0.999), (torch.float16, 0.9999)]
)
def test_folded_fused_and_in_low_precision_it_is_the_same_network(dtype: torch.dtype, floor: float) -> None:
    model, images = small_iresnet(), random_images(4, 24)
    expected = onnx_answer(model, images)
    for module in (to_torch(fold(model), dtype=dtype), fuse(to_torch(fold(model), dtype=dtype))):
        assert worst_cosine(torch_answer(module, images), expected) >= floor


def test_the_body_alone_is_in_low_precision_and_channels_last() -> None:
    module = to_torch(fold(small_iresnet()), dtype=torch.bfloat16)
    by_dtype = {dtype: [b for b in module.buffers() if b.dtype == dtype] for dtype in (torch.float32, torch.bfloat16)}
    assert sorted(tuple(b.shape) for b in by_dtype[torch.float32]) == [(1,), (1,), (16,), (16, 48)]  # mean, scale, Gemm
    images = [b for b in by_dtype[torch.bfloat16] if b.dim() == 4]
    assert len(images) > 20
    assert all(b.is_contiguous(memory_format=torch.channels_last) for b in images)
    entered = [node for node in module.graph.nodes if node.target is to_body]
    assert len(entered) == 1


def test_the_tail_begins_at_the_last_product() -> None:
    """A product whose result goes back into convolutions (squeeze and excite) is body."""
    net = Pieces(SIDE)
    x = net.conv(net.x, 3, 4)
    pooled = net.graph.node("Flatten", net.graph.node("GlobalAveragePool", x))
    gate = net.graph.node("Unsqueeze", net.gemm(pooled, 4, 4), net.graph.ints(2, 3))
    y = net.conv(net.graph.node("Mul", x, gate), 4, 4)
    last = net.gemm(net.graph.node("Flatten", y), 4 * SIDE**2, 8)
    model = net.finish(last, 8)
    kinds = {node.output[0]: node.op_type for node in model.graph.node}
    body = [kinds[name] for name in body_nodes(model.graph)]
    assert sorted(body) == sorted(
        ["Conv", "GlobalAveragePool", "Flatten", "Gemm", "Unsqueeze", "Mul", "Conv", "Flatten"]
    )
    images = random_images(2, SIDE)
    assert worst_cosine(torch_answer(to_torch(model, dtype=torch.bfloat16), images), onnx_answer(model, images)) > 0.999


def test_behind_each_convolution_is_one_call() -> None:
    called: list[tuple[bool, bool, bool]] = []

    def epilogue(
        x: torch.Tensor, shift: torch.Tensor | None, residual: torch.Tensor | None, slope: torch.Tensor | None
    ) -> torch.Tensor:
        called.append((shift is not None and shift.shape[2:] == x.shape[2:], residual is not None, slope is not None))
        y = x if shift is None else x + shift
        y = y if residual is None else y + residual
        return y if slope is None else torch.where(y >= 0, y, y * slope.view(-1, 1, 1))

    model, images = small_iresnet(), random_images(2, 24)
    module = fuse(to_torch(fold(model), dtype=torch.float32), epilogue)
    assert worst_cosine(torch_answer(module, images), onnx_answer(model, images)) > 0.9999999
    block = [(True, False, True), (False, True, False)]  # bias map and PReLU; bias and residual
    assert called == [(False, False, True), *block * 8]
    functions = {node.target for node in module.graph.nodes if node.op == "call_function"}
    assert torch.add not in functions
    assert torch.nn.functional.prelu not in functions
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    assert {name for name, _ in module.named_buffers()} == used


def test_relu_networks_are_fused_too(chips: NDArray[np.uint8]) -> None:
    model = onnx.ModelProto.FromString(default_model().content)
    module = fuse(to_torch(model, dtype=torch.float32))
    left = [node for node in module.graph.nodes if node.target is torch.relu]
    assert len(left) == 2  # where a shortcut is larger than its block, zeros are added to the block first
    assert np.linalg.norm(torch_answer(module, chips[:2]) - onnx_answer(model, chips[:2]), axis=1).max() <= 1e-5


def test_what_has_other_readers_is_not_fused_away() -> None:
    net = Pieces(SIDE)
    first = net.conv(net.x, 3, 4, bias=True)
    active = net.graph.node("Relu", first)
    second = net.conv(active, 4, 4, bias=True)
    x = net.graph.node("Add", net.graph.node("Add", second, first), net.graph.node("Add", second, second))
    model, images = net.finish(x, 4, SIDE, SIDE), random_images(2, SIDE)
    answer = torch_answer(fuse(to_torch(model, dtype=torch.float32)), images)
    assert np.abs(answer - onnx_answer(model, images)).max() < 1e-4


def test_torch_compile_takes_the_whole_graph_for_any_batch() -> None:
    """Traced as on a GPU, in one piece; the compiler itself is left out here."""
    model, images = small_iresnet(widths=(6,)), random_images(5, 24)
    compiled = torch.compile(
        fuse(to_torch(fold(model), dtype=torch.float32)), dynamic=True, fullgraph=True, backend="eager"
    )
    expected = onnx_answer(model, images)
    for count in (1, 2, 5):
        with torch.no_grad():
            answer = compiled(torch.from_numpy(images[:count])).numpy()
        assert worst_cosine(answer, expected[:count]) > 0.9999999


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(ModelFileError) as caught:
        to_torch(model, dtype=torch.float32, where="odd.onnx")
    message = str(caught.value)
    assert message.startswith("odd.onnx: torch cannot load it (")
    assert "\n" not in message
    return message


def test_an_unknown_operator_is_named_with_its_node() -> None:
    model = small_iresnet()
    model.graph.node[3].op_type = "NoSuchOperator"
    model.graph.node[3].name = "scale"
    assert "NoSuchOperator 'scale'" in refused(model)
    model.graph.node[3].op_type, model.graph.node[3].domain = "Mul", "com.example"
    assert "no com.example Mul" in refused(model)


@pytest.mark.parametrize(
    ("operator", "options", "words"),
    [
        ("Conv", {"auto_pad": "SAME_UPPER", "kernel_shape": [3, 3]}, "Conv that is not of two axes"),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 0]}, "AveragePool with uneven pads"),
        ("Resize", {"mode": "cubic"}, "Resize in mode cubic"),
        ("Flatten", {"axis": 2}, "axis=2"),
        ("ReduceMean", {}, "an operator over all axes"),
        ("Conv", {"kernel_shape": [3, 3], "weights": "computed"}, "Conv whose input 1 is computed"),
    ],
)
def test_a_form_that_is_not_known_is_said(operator: str, options: dict[str, Any], words: str) -> None:
    net = Pieces(SIDE)
    x = net.conv(net.x, 3, 3)
    weights = net.uniform(-1, 1, 3, 3, 3, 3)
    if options.pop("weights", ""):
        weights = net.graph.node("Relu", x)
    inputs = {"Conv": (x, weights), "Resize": (x, "", "", net.graph.ints(1, 3, 4, 4))}.get(operator, (x,))
    node = helper.make_node(operator, inputs, ["odd"], name="odd", **options)
    model = net.finish(x, 3, SIDE, SIDE)
    model.graph.node.insert(len(model.graph.node) - 1, node)
    assert words in refused(model)


def test_a_malformed_graph_is_the_files_fault() -> None:
    model = small_iresnet()
    del model.graph.node[0].attribute[:]  # a Transpose without its order
    assert "Transpose" in refused(model)
    model = small_iresnet()
    model.graph.node[2].input[0] = "nothing"
    assert "'nothing', which nothing here makes" in refused(model)


def test_the_input_says_its_size() -> None:
    model = small_iresnet()
    assert image_shape(model, "x") == (None, (24, 24, 3))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert image_shape(model, "x") == (1, (24, 24, 3))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(ModelFileError, match="one uint8 input of fixed height and width"):
        image_shape(model, "x")


def test_half_precision_weights_in_the_file_are_read() -> None:
    model = small_iresnet()
    expected = onnx_answer(model, random_images(2, 24))
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, TensorProto.BFLOAT16, values.shape, values.ravel()))
    assert "BatchNormalization" in operators(fold(model))  # folding touches float32 alone
    assert worst_cosine(torch_answer(to_torch(model, dtype=torch.float32), random_images(2, 24)), expected) > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_network_on_a_gpu_has_nothing_left_on_the_host_and_waits_for_nothing(
    dtype: torch.dtype,
) -> None:
    """So it can be recorded into a CUDA graph."""
    small = Network(name="small", family="iresnet", blocks=(1, 1, 1, 1), width=8, dimensions=16)
    for model in (random_model(small, 0), default_model(), random_model(NETWORKS["mobilefacenet"], 0)):
        folded = fold_bytes(model.content, model.where)
        for change in (lambda module: module, fuse, widen):
            module = change(to_torch(folded, dtype=dtype))
            _, shape = image_shape(folded, model.where)
            with pretended_gpu() as device:
                images = torch.empty(2, *shape, dtype=torch.uint8, device=device)
                embeddings = moved(module, device)(images)
            assert embeddings.device == device
            assert embeddings.dtype == torch.float32
