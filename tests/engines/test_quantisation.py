"""int8 graphs: pairs where they belong, and answers as near as 8 bits allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.activation_ranges import observed
from engines.dlib.detector_graph import detector_graph
from engines.dlib.networks import Detector
from engines.dlib.pyramid import layout
from engines.errors import ModelFileError
from engines.graphs.quantisation import only_convolutions, quantise_graph, roles, symmetric
from engines.runtimes import onnxruntime, openvino


def chain(*, channels: int = 4, kernel: int = 3, stride: int = 1, groups: int = 1, seed: int = 0) -> onnx.ModelProto:
    """uint8 (N, 12, 12, 3) -> Conv -> Relu -> Conv + shortcut -> mean: float32 (N, channels)."""
    random = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> TensorProto:
        spread = np.exp(random.normal(0, 1, (shape[0], *(1,) * (len(shape) - 1))))  # filters of unlike size
        return numpy_helper.from_array((random.normal(0, 0.3, shape) * spread).astype(np.float32), name)

    same: dict[str, Any] = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4}
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "small"], ["x"]),
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], strides=[stride] * 2, **same),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], group=groups, **same),
        helper.make_node("Add", ["c1", "r0"], ["sum"]),
        helper.make_node("ReduceMean", ["sum"], ["y"], axes=[2, 3], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(np.float32(1 / 255), "small"),
        weights("w0", channels, 3, kernel, kernel),
        weights("b0", channels),
        weights("w1", channels, channels // groups, kernel, kernel),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 12, 12, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", channels])
    graph = helper.make_graph(nodes, "chain", [images], [out], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def noise(count: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)


def run(model: onnx.ModelProto, images: NDArray[np.uint8], precision: str = "fp32") -> NDArray[np.float32]:
    return onnxruntime.open_session(model.SerializeToString(), "test", precision=precision, threads=1).run(images)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@settings(max_examples=20, deadline=None)
@given(
    width=st.integers(1, 5),
    groups=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_any_chain_keeps_its_answers_within_a_few_steps(
    width: int, groups: int, kernel: int, stride: int, seed: int
) -> None:
    model = chain(channels=2 * width, groups=groups, kernel=kernel, stride=stride, seed=seed)
    images = noise(seed=seed)
    expected = run(model, images)
    int8 = quantise_graph(model, observed(model.SerializeToString(), "test", images))
    reach = max(
        abs(bound) for bounds in observed(model.SerializeToString(), "test", images).values() for bound in bounds
    )
    assert np.abs(run(int8, images) - expected).max() <= 0.03 * reach
    assert np.abs(run(only_convolutions(int8), images) - expected).max() <= 0.03 * reach
    assert np.abs(run(symmetric(int8), images) - expected).max() <= 0.05 * reach


def test_weights_are_int8_one_scale_a_filter_and_bias_stays_whole() -> None:
    model = chain()
    int8 = quantise_graph(model, observed(model.SerializeToString(), "test", noise()))
    tensors = {tensor.name: tensor for tensor in int8.graph.initializer}
    scales, steps = (numpy_helper.to_array(tensors[name]) for name in ("w0/scale", "w0/q"))
    original = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w0"))
    assert steps.dtype == np.int8
    assert np.abs(steps.astype(int)).max() == 127
    assert scales.shape == (4,)
    assert np.abs(steps * scales[:, None, None, None] - original).max() <= scales.max() / 2 * 1.001
    assert tensors["b0"].data_type == TensorProto.FLOAT
    assert "w0" not in tensors


def test_what_is_before_and_behind_the_convolutions_is_left_alone() -> None:
    found = roles(chain())
    assert found == {"x": "Conv0.in", "c0": "Conv0.out", "r0": "Relu0.out", "c1": "Conv1.out"}


def test_forms_for_the_runtimes() -> None:
    model = chain()
    whole = quantise_graph(model, observed(model.SerializeToString(), "test", noise()))
    assert kinds(whole).count("QuantizeLinear") == 4
    few = only_convolutions(whole)
    assert kinds(few).count("QuantizeLinear") == 2
    assert kinds(few).count("DequantizeLinear") == 4
    onnx.checker.check_model(few)
    around_zero = symmetric(whole)
    onnx.checker.check_model(around_zero)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in around_zero.graph.initializer}
    zeros = [tensors[n.input[2]] for n in around_zero.graph.node if n.op_type == "QuantizeLinear"]
    assert [(zero.dtype, int(zero)) for zero in zeros] == [(np.int8, 0)] * 2
    assert kinds(whole).count("QuantizeLinear") == 4, "the model that was given is left alone"


def test_a_convolution_without_a_range_stays_as_it_is() -> None:
    model = chain()
    ranges = observed(model.SerializeToString(), "test", noise())
    del ranges["Relu0.out"]
    tensors = {t.name for t in quantise_graph(model, ranges).graph.initializer}
    assert {"w0/q", "w1"} <= tensors
    assert "w1/q" not in tensors


def test_dead_activations_and_filters_do_no_harm() -> None:
    model = chain()
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "b0"):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    ranges = observed(model.SerializeToString(), "test", np.zeros((2, 12, 12, 3), dtype=np.uint8))
    assert set(ranges.values()) == {(0.0, 0.0)}
    assert np.isfinite(run(quantise_graph(model, ranges), noise())).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.opset_import[0].CopyFrom(helper.make_opsetid("", 12)), "opset 13"),
        (lambda m: m.graph.node[4].CopyFrom(helper.make_node("QuantizeLinear", ["c0", "small"], ["r0"])), "already"),
        (lambda m: m.graph.initializer.pop(1) and m.graph.initializer.pop(2), "no convolution"),
    ],
)
def test_graphs_that_cannot_be_int8_are_refused(change: Any, words: str) -> None:
    model = chain()
    change(model)
    with pytest.raises(ModelFileError, match=words):
        quantise_graph(model, {"Conv0.in": (0.0, 1.0)})


def test_branches_and_ranges_of_another_network_are_refused() -> None:
    model = chain()
    with pytest.raises(ModelFileError, match="of another network"):
        quantise_graph(model, {"Conv99.in": (0.0, 1.0)})
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["y"], ["z"], then_branch=branch, else_branch=branch))
    with pytest.raises(ModelFileError, match="branches or loops"):
        roles(model)


def test_ranges_hold_zero_and_grow_with_what_is_seen() -> None:
    content = chain().SerializeToString()
    one, all_ = observed(content, "test", noise(1)), observed(content, "test", noise(8))
    for role, (low, high) in all_.items():
        assert low <= one[role][0] <= 0 <= one[role][1] <= high


def test_numbers_that_are_none_are_the_files_fault() -> None:
    model = chain()
    weights = numpy_helper.to_array(model.graph.initializer[1]).copy()
    weights[0, 0, 0, 0] = np.nan
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weights, "w0"))
    with pytest.raises(ModelFileError, match="not a number"):
        observed(model.SerializeToString(), "test", noise())


def test_a_detectors_roles_are_the_same_for_every_frame_size(mmod: Detector) -> None:
    small, large = (detector_graph(mmod.network, layout(*size)) for size in ((97, 120), (320, 240)))
    assert list(roles(small).values()) == list(roles(large).values())
    assert list(roles(small)) != list(roles(large)), "their names are not"


def test_both_runtimes_agree_on_int8() -> None:
    model = chain(channels=16)
    int8 = quantise_graph(model, observed(model.SerializeToString(), "test", noise())).SerializeToString()
    images = noise()
    expected = run(model, images)
    sessions = (r.open_session(int8, "test", precision="int8", threads=1) for r in (onnxruntime, openvino))
    for session in sessions:
        assert np.abs(session.run(images) - expected).max() <= 0.03 * np.abs(expected).max()
