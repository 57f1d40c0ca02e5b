"""A folded graph gives the same answers with fewer nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engines.errors import ModelFileError
from engines.graphs.folding import fold, fold_bytes
from engines.networks import Network
from engines.networks.model_files import random_model
from tests.engines.graph_pieces import Pieces, onnx_answer, operators, random_images, small_iresnet

SIDE = 7


def assert_same(model: onnx.ModelProto, *, norms_left: int = 0, side: int = SIDE) -> onnx.ModelProto:
    """The folded model, whose answers differ by less than 1e-5 of the largest."""
    folded = fold(model)
    onnx.checker.check_model(folded, full_check=True)
    assert operators(folded).count("BatchNormalization") == norms_left
    images = random_images(3, side)
    before, after = onnx_answer(model, images), onnx_answer(folded, images)
    assert after.shape == before.shape
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    return folded


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Any window that fits onto 7 x 7 pixels, with uneven pads."""
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    return {
        "kernel": draw(pairs),
        "strides": draw(pairs),
        "pads": draw(st.tuples(*[st.integers(0, 2)] * 4)),
        "dilations": draw(pairs),
        "group": draw(st.sampled_from([1, 2, 4])),
        "bias": draw(st.booleans()),
    }


@settings(max_examples=60, deadline=None)
@given(options=convolutions(), before=st.booleans(), behind=st.booleans(), seed=st.integers(0, 99))
def test_any_convolution_takes_the_norms_beside_it(
    options: dict[str, Any], before: bool, behind: bool, seed: int
) -> None:
    net = Pieces(SIDE, seed)
    x = net.conv(net.x, 3, 4, bias=True)
    x = net.graph.node("Relu", x)  # the first norm must not go into the first convolution
    x = net.norm(x, 4) if before else x
    x = net.conv(x, 4, 8, **options)
    x = net.norm(x, 8) if behind else x
    folded = assert_same(net.finish(x, 8, "H", "W"))
    mapped = before and any(options["pads"])
    assert operators(folded).count("Add") == mapped


def test_two_convolutions_that_share_a_norm_both_take_it() -> None:
    net = Pieces(SIDE)
    x = net.norm(net.graph.node("Relu", net.conv(net.x, 3, 4)), 4)
    body = net.conv(x, 4, 6, strides=(2, 2))
    shortcut = net.conv(x, 4, 6, kernel=(1, 1), strides=(2, 2), pads=(0, 0, 0, 0))
    assert_same(net.finish(net.graph.node("Add", body, shortcut), 6, 4, 4))


def test_a_norm_that_something_else_reads_stays() -> None:
    net = Pieces(SIDE)
    x = net.norm(net.graph.node("Relu", net.conv(net.x, 3, 4)), 4)
    assert_same(net.finish(net.graph.node("Add", net.conv(x, 4, 4), x), 4, SIDE, SIDE), norms_left=1)


def test_a_convolution_that_something_else_reads_keeps_its_values() -> None:
    net = Pieces(SIDE)
    x = net.conv(net.x, 3, 4)
    assert_same(net.finish(net.graph.node("Add", net.norm(x, 4), x), 4, SIDE, SIDE), norms_left=1)


def test_a_norm_that_is_the_result_goes_into_what_is_before_it() -> None:
    net = Pieces(SIDE)
    assert_same(net.finish(net.norm(net.norm(net.conv(net.x, 3, 4), 4), 4), 4, SIDE, SIDE))


def test_weights_that_two_layers_share_change_for_one_alone() -> None:
    net = Pieces(SIDE)
    shared = net.uniform(-0.3, 0.3, 3, 3, 3, 3)
    x = net.norm(net.graph.node("Conv", net.x, shared, pads=[1] * 4), 3)
    assert_same(net.finish(net.graph.node("Conv", x, shared, pads=[1] * 4), 3, SIDE, SIDE))


@pytest.mark.parametrize("options", [{}, {"transB": 1}, {"transB": 1, "alpha": 0.5, "beta": 2.0}])
def test_a_fully_connected_layer_takes_the_norms_beside_it(options: dict[str, float]) -> None:
    net = Pieces(SIDE)
    x = net.norm(net.graph.node("Relu", net.conv(net.x, 3, 4)), 4)
    flat = net.graph.node("Flatten", net.graph.node("Dropout", x))
    x = net.norm(net.gemm(flat, 4 * SIDE * SIDE, 10, **options), 10)
    assert_same(net.finish(x, 10))


def test_an_unknown_size_keeps_a_norm_before_padding_and_loses_the_others() -> None:
    net = Pieces(SIDE)
    x = net.norm(net.graph.node("Relu", net.norm(net.conv(net.x, 3, 4), 4)), 4)
    model = net.finish(net.conv(x, 4, 4), 4, SIDE, SIDE)
    for value in (model.graph.input[0], model.graph.output[0]):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == SIDE:
                dim.dim_param = f"axis{axis}"
    assert_same(model, norms_left=1)


def test_a_whole_iresnet_keeps_no_norm() -> None:
    """As insightface trains it: one norm in front of each padded convolution, one behind, one before the last layer."""
    model = small_iresnet()
    folded = assert_same(model, side=24)
    assert operators(model).count("BatchNormalization") == 31
    assert operators(folded).count("Conv") == operators(model).count("Conv")
    assert operators(folded).count("Add") == operators(model).count("Add") + 8


def test_our_own_export_keeps_no_norm() -> None:
    network = Network(name="small", family="iresnet", blocks=(1, 2, 1, 1), width=4, dimensions=8)
    model = onnx.ModelProto.FromString(random_model(network, 3, mirrored=True).content)
    assert "BatchNormalization" in operators(model)
    folded = assert_same(model, side=112)
    assert folded.metadata_props == model.metadata_props


def test_the_model_given_is_left_alone() -> None:
    model = small_iresnet()
    before = model.SerializeToString(deterministic=True)
    fold(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_norm_in_training_stays() -> None:
    net = Pieces(SIDE)
    model = net.finish(net.norm(net.conv(net.x, 3, 4), 4), 4, SIDE, SIDE)
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    norm.attribute.append(helper.make_attribute("training_mode", 1))
    norm.output.extend(["mean", "variance"])
    assert "BatchNormalization" in operators(fold(model))


def test_constants_may_be_nodes() -> None:
    model = small_iresnet()
    initialisers = list(model.graph.initializer)
    del model.graph.initializer[:]
    constants = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in initialisers]
    nodes = [*constants, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert_same(model, side=24)


def test_constants_may_stand_among_the_inputs() -> None:
    """As files of old versions have them; what is folded away leaves both lists."""
    model = small_iresnet()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    folded = assert_same(model, side=24)
    assert {value.name for value in folded.graph.input} <= {
        "images",
        *(tensor.name for tensor in folded.graph.initializer),
    }


def test_weights_beyond_float32_are_refused() -> None:
    net = Pieces(SIDE)
    scale = net.graph.constant(np.full(4, 1e38, dtype=np.float32))
    others = [net.graph.constant(np.full(4, value, dtype=np.float32)) for value in (0, 0, 1e-12)]
    x = net.graph.node("BatchNormalization", net.conv(net.x, 3, 4, bias=True), scale, *others)
    model = net.finish(x, 4, SIDE, SIDE)
    with pytest.raises(ModelFileError, match=r"^big\.onnx: .* overflow float32 once folded") as caught:
        fold_bytes(model.SerializeToString(), "big.onnx")
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelFileError, match=r"^half\.onnx: is not a whole ONNX file"):
        fold_bytes(small_iresnet().SerializeToString()[:-9], "half.onnx")
