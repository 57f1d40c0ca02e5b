from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.dlib.descriptor_graph import folded
from engines.dlib.networks import Detector, Network, parse_mmod, parse_resnet, read_mmod, read_resnet
from engines.errors import ModelFileError

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def mmod_bytes(mmod_path: Path) -> bytes:
    return mmod_path.read_bytes()


@pytest.fixture(scope="module")
def resnet_bytes(resnet_path: Path) -> bytes:
    return resnet_path.read_bytes()


def test_the_descriptor_has_29_convolutions(resnet: Network) -> None:
    convolutions = [layer for layer in resnet.layers if layer.spec.kind == "con"]
    assert len(convolutions) == 29
    assert resnet.layers[-1].weights is not None
    assert resnet.layers[-1].weights.shape == (256, 128)
    assert np.allclose(resnet.mean_rgb, (122.782, 117.001, 104.298), atol=1e-4)


def test_the_detector_has_its_window_and_overlap(mmod: Detector) -> None:
    assert mmod.window == 80
    assert mmod.nms_iou == pytest.approx(0.33828, abs=1e-5)
    assert mmod.nms_covered == 1.0
    assert [layer.spec.filters for layer in mmod.network.layers if layer.spec.kind == "con"] == [
        16,
        32,
        32,
        45,
        45,
        45,
        1,
    ]


def test_folding_is_the_same_function(resnet: Network) -> None:
    con, affine = resnet.layers[0], resnet.layers[1]
    patch = np.random.default_rng(0).normal(size=(3, 7, 7))
    assert con.weights is not None and con.bias is not None  # noqa: PT018
    assert affine.weights is not None and affine.bias is not None  # noqa: PT018
    slow = affine.weights * ((con.weights * patch).sum(axis=(1, 2, 3)) + con.bias) + affine.bias
    weights, bias = folded(con, affine)
    assert np.allclose((weights * patch).sum(axis=(1, 2, 3)) + bias, slow, atol=1e-5)


def test_the_files_are_not_taken_for_each_other(resnet_path: Path, mmod_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not dlib's face descriptor"):
        read_resnet(mmod_path)
    with pytest.raises(ModelFileError, match="not dlib's face detector"):
        read_mmod(resnet_path)


@pytest.mark.parametrize("content", [b"", b"\x01", b"hello, world", b"\x80PNG\r\n", b"\x08" * 5000, b"\x01\x01" * 5000])
def test_foreign_files_are_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.dat"
    path.write_bytes(content)
    for read in (read_resnet, read_mmod):
        with pytest.raises(ModelFileError, match=r"foreign\.dat: byte \d+") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_missing_folders_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        read_mmod(tmp_path / "none.dat")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_mmod(tmp_path)
    huge = tmp_path / "huge.dat"
    huge.touch()
    os.truncate(huge, 1 << 40)
    with pytest.raises(ModelFileError, match="too many"):
        read_mmod(huge)


@SLOW
@given(data=st.data())
def test_truncated_anywhere_is_refused(mmod_bytes: bytes, data: st.DataObject) -> None:
    end = data.draw(st.one_of(st.integers(0, 6000), st.integers(0, len(mmod_bytes) - 1)))
    with pytest.raises(ModelFileError):
        parse_mmod(mmod_bytes[:end], "cut")


@SLOW
@given(data=st.data())
def test_flipped_bytes_give_a_network_or_a_refusal(mmod_bytes: bytes, data: st.DataObject) -> None:
    """Most of the file is weights: half of the flips aim at the headers, where the structure is."""
    damaged = bytearray(mmod_bytes)
    places = st.one_of(st.integers(0, 200), st.integers(5000, 5900), st.integers(0, len(mmod_bytes) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        damaged[place] = value
    try:
        detector = parse_mmod(bytes(damaged), "damaged")
    except ModelFileError:
        return
    for layer in detector.network.layers:
        for values in (layer.weights, layer.bias):
            assert values is None or np.isfinite(values).all()


@SLOW
@given(head=st.binary(max_size=400))
def test_any_bytes_after_a_right_start_are_refused(head: bytes) -> None:
    for parse, tag in ((parse_mmod, b"loss_mmod_"), (parse_resnet, b"loss_metric_2")):
        with pytest.raises(ModelFileError):
            parse(b"\x01\x01\x01" + bytes([len(tag)]) + tag + head, "made up")


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.9, 0.999999])
def test_a_truncated_descriptor_is_refused(resnet_bytes: bytes, share: float) -> None:
    with pytest.raises(ModelFileError, match="the file ends"):
        parse_resnet(resnet_bytes[: int(len(resnet_bytes) * share)], "cut")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 700), value=st.integers(0, 255))
def test_a_descriptor_with_a_damaged_header_is_read_or_refused(resnet_bytes: bytes, place: int, value: int) -> None:
    damaged = bytearray(resnet_bytes[:400_000])
    damaged[place] = value
    with pytest.raises(ModelFileError):
        parse_resnet(bytes(damaged), "damaged")


def test_a_byte_too_many_is_refused(mmod_bytes: bytes) -> None:
    with pytest.raises(ModelFileError, match="1 bytes are left over"):
        parse_mmod(mmod_bytes + b"\0", "long")


def test_weights_beyond_float32_are_refused(resnet: Network) -> None:
    con, affine = resnet.layers[0], resnet.layers[1]
    largest = np.finfo(np.float32).max
    assert con.weights is not None
    hostile = type(con)(con.spec, np.full_like(con.weights, largest), con.bias)
    scaled = type(affine)(affine.spec, np.full(32, 2.0, dtype=np.float32), affine.bias)
    with pytest.raises(ModelFileError, match="beyond float32"):
        folded(hostile, scaled)
