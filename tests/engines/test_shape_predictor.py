from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.dlib.shape_predictor import parse_shape_predictor, read_shape_predictor
from engines.errors import ModelFileError
from realtime.faces.landmarks import FILES, dlib_model_path
from tests.engines.test_dlib_format import packed

POINTS, CASCADES, TREES, SPLITS, PIXELS = 3, 2, 2, 3, 4


def real(value: float) -> bytes:
    mantissa, exponent = math.frexp(value)
    return packed(int(mantissa * 2**24)) + packed(exponent - 24)


def column(values: list[float]) -> bytes:
    return packed(-len(values)) + packed(-1) + b"".join(map(real, values))


def tree(number: int) -> bytes:
    splits = b"".join(packed(split) + packed(PIXELS - 1 - split) + real(split + number / 4) for split in range(SPLITS))
    leaves = b"".join(column([number + leaf / 8] * 2 * POINTS) for leaf in range(SPLITS + 1))
    return packed(SPLITS) + splits + packed(SPLITS + 1) + leaves


def small_file(*, anchor: int = 1, points: int = POINTS) -> bytes:
    mean = column([index / 4 for index in range(2 * points)])
    forest = packed(TREES) + tree(0) + tree(1)
    anchors = packed(PIXELS) + packed(anchor) * PIXELS
    deltas = packed(PIXELS) + b"".join(real(index / 2) + real(-index / 2) for index in range(PIXELS))
    return (
        packed(1)
        + mean
        + packed(CASCADES)
        + forest * CASCADES
        + packed(CASCADES)
        + anchors * CASCADES
        + packed(CASCADES)
        + deltas * CASCADES
    )


def test_every_number_of_a_small_file_comes_back() -> None:
    found = parse_shape_predictor(small_file(), "file")
    assert np.array_equal(found.mean_P2, np.arange(6, dtype=np.float32).reshape(3, 2) / 4)
    assert found.first_CTS.tolist() == [[[0, 1, 2]] * TREES] * CASCADES
    assert found.second_CTS.tolist() == [[[3, 2, 1]] * TREES] * CASCADES
    assert found.thresholds_CTS[0].tolist() == [[0, 1, 2], [0.25, 1.25, 2.25]]
    assert found.leaves_CTLP2.shape == (CASCADES, TREES, SPLITS + 1, POINTS, 2)
    assert found.leaves_CTLP2[1, 1, 3, 2, 1] == 1 + 3 / 8
    assert found.anchors_CF.tolist() == [[1] * PIXELS] * CASCADES
    assert found.deltas_CF2[0].tolist() == [[0, 0], [0.5, -0.5], [1, -1], [1.5, -1.5]]
    assert (found.points, found.depth) == (3, 2)


def test_dlibs_own_file_is_read() -> None:
    found = read_shape_predictor(dlib_model_path(FILES["5"]))
    assert found.leaves_CTLP2.shape == (15, 500, 16, 5, 2)
    assert found.deltas_CF2.shape == (15, 800, 2)
    assert found.depth == 4
    # the mean face of dlib's 5 points: right eye right of the left one, the nose below both
    assert found.mean_P2[0, 0] > found.mean_P2[2, 0]
    assert found.mean_P2[4, 1] > found.mean_P2[:4, 1].max()


@pytest.mark.parametrize("cut", [0, 1, 7, 100, 300, -1])
def test_a_cut_file_is_refused(cut: int) -> None:
    with pytest.raises(ModelFileError, match="file"):
        parse_shape_predictor(small_file()[:cut], "file")


def test_what_points_beyond_its_array_is_refused() -> None:
    with pytest.raises(ModelFileError, match="anchor is not one of 3"):
        parse_shape_predictor(small_file(anchor=3), "file")
    with pytest.raises(ModelFileError, match="tree is not as large"):
        parse_shape_predictor(small_file(points=4), "file")
    with pytest.raises(ModelFileError, match="left over"):
        parse_shape_predictor(small_file() + packed(0), "file")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_byte_gives_a_sentence_or_another_predictor(data: st.DataObject) -> None:
    content = bytearray(small_file())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    try:
        found = parse_shape_predictor(bytes(content), "file")
    except ModelFileError:
        return
    assert np.isfinite(found.leaves_CTLP2).all()
    assert found.first_CTS.max() < found.anchors_CF.shape[1]


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    with pytest.raises(ModelFileError):
        parse_shape_predictor(content, "file")


def test_a_missing_and_a_foreign_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_shape_predictor(tmp_path / "none.dat")
    foreign = tmp_path / "foreign.dat"
    foreign.write_bytes(hashlib.sha256(b"x").digest())
    with pytest.raises(ModelFileError, match=r"foreign\.dat"):
        read_shape_predictor(foreign)
