from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.dlib.format import Reader
from engines.errors import ModelFileError


def packed(value: int) -> bytes:
    """An integer as dlib writes it."""
    magnitude = abs(value)
    count = max(1, (magnitude.bit_length() + 7) // 8)
    return bytes([count | (0x80 if value < 0 else 0)]) + magnitude.to_bytes(count, "little")


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_integers_come_back(value: int) -> None:
    reader = Reader(packed(value), "file")
    assert reader.integer(-(2**63), 2**63, "a number") == value
    reader.end()


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_reals_come_back(value: float) -> None:
    mantissa, exponent = math.frexp(value)
    reader = Reader(packed(int(mantissa * 2**53)) + packed(exponent - 53), "file")
    assert reader.real("a number") == value


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=20))
def test_tensors_come_back(values: list[float]) -> None:
    array = np.array(values, dtype="<f4")
    data = packed(2) + b"".join(map(packed, (len(values), 1, 1, 1))) + array.tobytes()
    reader = Reader(data, "file")
    assert np.array_equal(reader.tensor("weights"), array)
    reader.end()


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for read in (
        lambda r: r.integer(-5, 5, "x"),
        lambda r: r.real("x"),
        lambda r: r.text("x"),
        lambda r: r.tensor("x"),
        lambda r: r.flag(),
    ):
        problem = ""
        try:
            read(Reader(data, "file"))
        except ModelFileError as err:
            problem = str(err)
        assert problem == "" or problem.startswith("file: byte")


@pytest.mark.parametrize("exponent", [32000, 32001, 32002, 2**30, -(2**30)])
def test_reals_that_are_not_finite_are_refused(exponent: int) -> None:
    with pytest.raises(ModelFileError, match="not a finite"):
        Reader(packed(1) + packed(exponent), "file").real("a weight")


def test_a_tensor_larger_than_the_file_is_refused_before_memory_is_taken() -> None:
    data = packed(2) + packed(2**31) * 4 + b"\0" * 100
    with pytest.raises(ModelFileError, match="the file ends"):
        Reader(data, "file").tensor("weights")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_tensor_with_other_than_numbers_is_refused(value: float) -> None:
    data = packed(2) + packed(1) * 4 + np.array([value], dtype="<f4").tobytes()
    with pytest.raises(ModelFileError, match="not finite"):
        Reader(data, "file").tensor("weights")


def test_left_over_bytes_are_refused() -> None:
    reader = Reader(b"1rest", "file")
    assert reader.flag()
    with pytest.raises(ModelFileError, match="4 bytes are left over"):
        reader.end()
