"""Mixed precision: the same answers within float16, and float32 where it is promised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelFileError
from engines.graphs.anatomy import anatomy, element_types, float_input, split, with_shapes
from engines.graphs.builder import GraphBuilder
from engines.graphs.folding import fold
from engines.graphs.mixed_precision import LARGEST, to_mixed
from engines.manifest import METADATA_KEY
from engines.networks import Network as EmbeddingNetwork
from engines.networks.random_weights import random_state
from engines.networks.to_onnx import to_onnx
from engines.store import default_model

SIDE, CHANNELS, DIMENSIONS = 16, 8, 12
BODY_STEPS = ("conv", "prelu", "bn", "residual", "relu", "pool", "pad", "softmax", "sigmoid", "shaped")


class Network:
    """A small network step by step, from uint8 (N, 16, 16, 3) to float32 (N, 12) of unit length."""

    def __init__(self, seed: int = 0, variance: float = 1.0) -> None:
        self.random = np.random.default_rng(seed)
        self.variance = variance
        self.graph = GraphBuilder("small")
        planes = self.graph.node("Transpose", self.graph.input("faces", ["N", SIDE, SIDE, 3]), perm=[0, 3, 1, 2])
        floats = self.graph.node("Cast", planes, to=TensorProto.FLOAT)
        self.x = self.graph.node("Div", self.graph.node("Sub", floats, self._scalar(127.5)), self._scalar(127.5))
        self.conv()

    def conv(self, largest: float | None = None) -> None:
        inputs = 3 if self.x.startswith("div") else CHANNELS
        weights = self.random.normal(0, (inputs * 9) ** -0.5, (CHANNELS, inputs, 3, 3))
        if largest is not None:
            weights[0, 0, 0, 0] = largest
        self.x = self.graph.node("Conv", self.x, self._floats(weights), kernel_shape=[3, 3], pads=[1] * 4)

    def prelu(self) -> None:
        self.x = self.graph.node("PRelu", self.x, self._floats(self.random.uniform(0, 0.5, (CHANNELS, 1, 1))))

    def bn(self) -> None:
        gamma = self.random.uniform(0.5, 1.5, CHANNELS) * np.sqrt(self.variance)
        values = gamma, self.random.normal(0, 0.1, CHANNELS), self.random.normal(0, 0.1, CHANNELS) * gamma
        variance = self._floats(np.full(CHANNELS, self.variance))
        self.x = self.graph.node("BatchNormalization", self.x, *map(self._floats, values), variance, epsilon=1e-12)

    def residual(self) -> None:
        before = self.x
        self.prelu()
        self.conv()
        self.x = self.graph.node("Add", before, self.x)

    def relu(self) -> None:
        self.x = self.graph.node("Relu", self.x)

    def pool(self) -> None:
        self.x = self.graph.node("MaxPool", self.x, kernel_shape=[3, 3], pads=[1] * 4)

    def pad(self) -> None:
        padded = self.graph.pad_end(self.x, 0, 2, 0)
        self.x = self.graph.node("Slice", padded, *map(self.graph.ints, (0, SIDE, 2)))

    def shaped(self) -> None:
        """As exporters write a view: the shape is computed."""
        self.x = self.graph.node("Reshape", self.x, self.graph.node("Shape", self.x))

    def softmax(self) -> None:
        self.x = self.graph.node("Mul", self.graph.node("Softmax", self.x, axis=1), self._scalar(CHANNELS))

    def sigmoid(self) -> None:
        self.x = self.graph.node("Mul", self.x, self.graph.node("Sigmoid", self.x))

    def finish(self) -> onnx.ModelProto:
        flat = self.graph.node("Flatten", self.x)
        weights = self.random.normal(0, 0.05, (DIMENSIONS, CHANNELS * SIDE * SIDE))
        raw = self.graph.node("Gemm", flat, self._floats(weights), self._floats(np.zeros(DIMENSIONS)), transB=1)
        length = self.graph.node("ReduceL2", raw, axes=[1], keepdims=1)
        self.graph.node("Div", raw, self.graph.node("Max", length, self._scalar(1e-12)), output="embeddings")
        return self.graph.finish("embeddings", ["N", DIMENSIONS], "test")

    def _floats(self, values: NDArray[np.float64]) -> str:
        return self.graph.constant(values.astype(np.float32))

    def _scalar(self, value: float) -> str:
        return self.graph.constant(np.array(value, dtype=np.float32))


def network(steps: Iterable[str], seed: int = 0, variance: float = 1.0) -> onnx.ModelProto:
    made = Network(seed, variance)
    for step in steps:
        getattr(made, step)()
    return made.finish()


def run(model: onnx.ModelProto, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: faces})
    result: NDArray[np.float32] = output
    assert result.dtype == np.float32
    return result


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    values: NDArray[np.float64] = (a.astype(np.float64) * b).sum(axis=1) / lengths
    return values


def precisions(model: onnx.ModelProto, operator: str) -> list[int]:
    """Element type that each node of an operator gives, in order."""
    types = element_types(with_shapes(model).graph)
    return [types[node.output[0]] for node in model.graph.node if node.op_type == operator]


@pytest.fixture(scope="module")
def faces() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(BODY_STEPS), max_size=6), st.integers(0, 99), st.sampled_from([1.0, 1e-7]), st.booleans()
)
def test_the_answers_are_those_of_float32(steps: list[str], seed: int, variance: float, folded: bool) -> None:
    model = network(steps, seed, variance)
    mixed = to_mixed(fold(model) if folded else model)
    faces = np.random.default_rng(seed).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    assert cosines(run(model, faces), run(mixed, faces)).min() >= 0.999
    assert mixed.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert mixed.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.parametrize("unit_length", [True, False])
@pytest.mark.parametrize("mirrored", [True, False])
def test_the_dlib_network_on_real_faces(chips: NDArray[np.uint8], unit_length: bool, mirrored: bool) -> None:
    model = onnx.ModelProto.FromString(default_model(unit_length=unit_length, mirrored=mirrored).content)
    mixed = to_mixed(fold(model))
    assert cosines(run(model, chips[:3]), run(mixed, chips[:3])).min() >= 0.99999
    assert mixed.ByteSize() < 0.51 * model.ByteSize()


@pytest.mark.parametrize("family", ["iresnet", "mobilefacenet"])
@pytest.mark.parametrize("mirrored", [True, False])
def test_the_networks_that_users_bring(family: Literal["iresnet", "mobilefacenet"], mirrored: bool) -> None:
    small = EmbeddingNetwork(
        name="small", family=family, blocks=(1, 1, 1, 1), width=8, expansion=8, dimensions=32, input_size=32
    )
    model = to_onnx(small, random_state(small, 0), unit_length=True, mirrored=mirrored)
    faces = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    for mixed in (to_mixed(model), to_mixed(fold(model)), to_mixed(to_mixed(model))):
        assert cosines(run(model, faces), run(mixed, faces)).min() >= 0.9999
        assert set(precisions(mixed, "Conv")) == {TensorProto.FLOAT16}
        assert [node.op_type for node in mixed.graph.node].count("Cast") == 3


def test_what_is_half_and_what_is_not() -> None:
    model = network(["bn", "prelu", "softmax", "conv"])
    mixed = to_mixed(model)
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    assert precisions(mixed, "Conv") == [half, half]
    assert precisions(mixed, "PRelu") == [half]
    assert precisions(mixed, "Softmax") == [single]
    assert precisions(mixed, "Gemm") == precisions(mixed, "ReduceL2") == [single]
    assert precisions(mixed, "Sub") == [single]
    assert [node.op_type for node in mixed.graph.node if node.op_type == "BatchNormalization"] == []
    weights = {tensor.name: tensor.data_type for tensor in mixed.graph.initializer}
    gemm = next(node for node in mixed.graph.node if node.op_type == "Gemm")
    assert weights[gemm.input[1]] == single


def test_the_model_given_is_left_alone_and_its_manifest_stays() -> None:
    model = onnx.ModelProto.FromString(default_model().content)
    before = model.SerializeToString(deterministic=True)
    mixed = to_mixed(model)
    assert model.SerializeToString(deterministic=True) == before
    assert METADATA_KEY in [each.key for each in mixed.metadata_props]
    assert to_mixed(model).SerializeToString(deterministic=True) == mixed.SerializeToString(deterministic=True)


@pytest.mark.parametrize("largest", [LARGEST * 1.01, 3e38, -1e5])
def test_a_weight_beyond_float16_keeps_its_node_in_float32(faces: NDArray[np.uint8], largest: float) -> None:
    made = Network()
    made.prelu()
    made.conv(largest)
    model = made.finish()
    mixed = to_mixed(model)
    assert precisions(mixed, "Conv") == [TensorProto.FLOAT16, TensorProto.FLOAT]
    assert np.isfinite(run(mixed, faces)).all() or not np.isfinite(run(model, faces)).all()


def test_a_network_that_ends_in_a_convolution_gives_float32(faces: NDArray[np.uint8]) -> None:
    """A detector has no matrix product; its output is cast, and may be read inside as well."""
    made = Network()
    made.conv()
    detector = made.graph.finish(made.x, ["N", CHANNELS, SIDE, SIDE], "test")
    reader = helper.make_node("Softmax", [made.x], ["unused"], axis=1)
    detector.graph.node.append(reader)
    mixed = to_mixed(detector)
    assert [value.name for value in mixed.graph.output] == [made.x]
    assert np.abs(run(mixed, faces) - run(detector, faces)).max() < 1e-2


def test_without_convolutions_nothing_is_half(faces: NDArray[np.uint8]) -> None:
    made = Network()
    made.x = "div3"
    model = made.graph.finish(made.x, ["N", 3, SIDE, SIDE], "test")
    del model.graph.node[-1]
    mixed = to_mixed(model)
    assert np.array_equal(run(mixed, faces), run(model, faces))
    assert TensorProto.FLOAT16 not in element_types(with_shapes(mixed).graph).values()


def test_constants_of_every_style(faces: NDArray[np.uint8]) -> None:
    """In Constant nodes, listed as inputs as well (old files), shared by both halves, under names that are taken."""
    model = network(["prelu", "residual"])
    expected = run(model, faces)
    graph = model.graph
    first, second, *_ = [
        tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT and tensor.dims
    ]
    graph.node.insert(0, helper.make_node("Constant", [], [first.name], value=first))
    graph.initializer.remove(first)
    graph.input.append(helper.make_tensor_value_info(second.name, second.data_type, second.dims))
    shared = numpy_helper.from_array(np.zeros(1, dtype=np.float32), "shared")
    graph.initializer.append(shared)
    conv = next(node for node in graph.node if node.op_type == "Conv")
    last = graph.node[-1]
    taken = f"{conv.output[0]}_fp32"
    graph.node.insert(list(graph.node).index(conv) + 1, helper.make_node("Add", [conv.output[0], "shared"], [taken]))
    for node in graph.node:
        if conv.output[0] in node.input and node.output[0] != taken:
            node.input[list(node.input).index(conv.output[0])] = taken
    last.output[0] = "shared_fp16"
    graph.node.append(helper.make_node("Add", ["shared_fp16", "shared"], ["embeddings"]))
    mixed = to_mixed(model)
    assert [value.name for value in mixed.graph.input] == ["faces"]
    assert cosines(run(mixed, faces), expected).min() >= 0.999


def test_control_flow_is_refused_in_one_sentence() -> None:
    model = network([])
    branch = helper.make_graph([], "branch", [], [])
    condition = numpy_helper.from_array(np.array(True), "condition")
    model.graph.initializer.append(condition)
    node = helper.make_node("If", ["condition"], [], "which", then_branch=branch, else_branch=branch)
    model.graph.node.insert(0, node)
    with pytest.raises(ModelFileError, match=r"has control flow .*which"):
        to_mixed(model)


def test_a_graph_that_contradicts_itself_is_the_files_fault() -> None:
    model = network([])
    next(node for node in model.graph.node if node.op_type == "Gemm").input[1] = model.graph.initializer[0].name
    with pytest.raises(ModelFileError, match="contradicts itself") as caught:
        to_mixed(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mirrored", [True, False])
def test_the_cast_comes_first_and_changes_nothing(chips: NDArray[np.uint8], mirrored: bool) -> None:
    model = onnx.ModelProto.FromString(default_model(mirrored=mirrored).content)
    changed = float_input(model)
    assert changed.graph.node[0].op_type == "Cast"
    assert [node.op_type for node in changed.graph.node].count("Cast") == 1
    assert np.array_equal(run(changed, chips[:2]), run(model, chips[:2]))
    assert float_input(changed).SerializeToString(deterministic=True) == changed.SerializeToString(deterministic=True)


def test_a_graph_that_computes_with_bytes_keeps_its_input() -> None:
    nodes = [helper.make_node("Add", ["faces", "faces"], ["wrapped"])]
    nodes.append(helper.make_node("Cast", ["wrapped"], ["embeddings"], to=TensorProto.FLOAT))
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 2])
    embeddings = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", 2])
    model = helper.make_model(helper.make_graph(nodes, "bytes", [faces], [embeddings]))
    assert float_input(model).graph == model.graph


@pytest.mark.parametrize(("unit_length", "mirrored"), [(True, True), (False, False)])
def test_the_three_parts_in_a_row_are_the_whole(chips: NDArray[np.uint8], unit_length: bool, mirrored: bool) -> None:
    model = onnx.ModelProto.FromString(default_model(unit_length=unit_length, mirrored=mirrored).content)
    values = chips[:3]
    for part in split(model):
        onnx.checker.check_model(part, full_check=True)
        values = run(part, values)
    assert np.array_equal(values, run(model, chips[:3]))
    body = split(model)[1].graph
    assert {node.op_type for node in body.node} >= {"Conv", "MatMul"}
    assert not anatomy(body).stem


def test_a_graph_that_does_not_come_apart_says_so() -> None:
    made = Network()
    with pytest.raises(ModelFileError, match="no convolutions that end in a matrix product"):
        split(made.graph.finish(made.x, ["N", CHANNELS, SIDE, SIDE], "test"))
    model = network([])
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    model.graph.node.append(helper.make_node("Flatten", [model.graph.node[3].output[0]], ["more"]))
    assert model.graph.node[3].op_type == "Div"
    model.graph.node.append(helper.make_node("ReduceMax", ["more"], ["most"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", [gemm.output[0], "most"], ["late"]))
    model.graph.output[0].name = "late"
    with pytest.raises(ModelFileError, match="does not come apart"):
        split(model)
