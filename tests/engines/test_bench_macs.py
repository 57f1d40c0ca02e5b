"""Multiply-accumulates, against sums made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from engines.benchmark.macs import count_macs
from engines.networks import NETWORKS
from engines.networks.random_weights import random_state
from engines.networks.shapes import multiply_adds
from engines.networks.to_onnx import to_onnx
from engines.store import default_model


def model(nodes: list[Any], input_shape: list[int | str], **constants: tuple[int, ...]) -> onnx.ModelProto:
    """From ``x`` to ``y`` through the nodes, with constants of zeros."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@given(
    side=st.integers(7, 20),
    channels=st.integers(1, 4),
    filters=st.integers(1, 4),
    groups=st.integers(1, 3),
    window=st.integers(1, 3),
    stride=st.integers(1, 2),
    pad=st.integers(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_a_convolution_is_counted_as_if_by_hand(
    side: int, channels: int, filters: int, groups: int, window: int, stride: int, pad: int
) -> None:
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=[stride] * 2, pads=[pad] * 4, group=groups, kernel_shape=[window] * 2
    )
    weights = (filters * groups, channels, window, window)
    made = model([node], ["N", channels * groups, side, side], w=weights)
    places = len(range(0, side + 2 * pad - window + 1, stride)) ** 2
    assert count_macs(made) == places * filters * groups * channels * window * window


def test_products() -> None:
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    assert count_macs(model([gemm], ["N", 7], w=(5, 7))) == 35
    turned = helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)
    assert count_macs(model([turned], [7, 3], w=(7, 5))) == 3 * 7 * 5
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert count_macs(model([matmul], ["N", 4, 7], w=(7, 5))) == 4 * 7 * 5
    assert count_macs(model([helper.make_node("Relu", ["x"], ["y"])], ["N", 4])) == 0


def test_a_size_that_nobody_knows_is_not_counted() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["found"]),
        helper.make_node("Cast", ["found"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["z", "w"], ["y"], transA=1),
    ]
    assert count_macs(model(nodes, ["N"], w=(1, 5))) is None


def test_a_network_of_ours_has_the_count_of_its_layers() -> None:
    network = NETWORKS["mobilefacenet"]
    made = to_onnx(network, random_state(network, 0), unit_length=True, mirrored=False)
    before = made.SerializeToString(deterministic=True)
    assert count_macs(made) == multiply_adds(network)
    assert made.SerializeToString(deterministic=True) == before


def test_a_mirrored_model_counts_both_images() -> None:
    counts = [
        count_macs(onnx.ModelProto.FromString(default_model(mirrored=mirrored).content)) for mirrored in (False, True)
    ]
    assert counts[0] is not None
    assert counts[0] == pytest.approx(0.271e9, rel=0.01)
    assert counts[1] == 2 * counts[0]
