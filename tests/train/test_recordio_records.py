"""The record layer: bytes worked out by hand, the files that mxnet wrote, any payload, any damage."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paths import SHARED, needs_shared
from train.errors import DataError
from train.recordio.headers import HEADER, MAX_EXACT, pack, unpack
from train.recordio.records import MAGIC_BYTES, MAX_PAYLOAD, RecordFile, encode

PAYLOADS = st.lists(
    st.sampled_from([MAGIC_BYTES, MAGIC_BYTES[:2], MAGIC_BYTES[2:], b"\0"]) | st.binary(max_size=9), max_size=8
).map(b"".join)
"""Full of magics, whole and in pieces, at every distance from a multiple of 4."""


def written(folder: Path, content: bytes) -> Path:
    path = folder / "a.rec"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "0a23d7ce 00000000"),
        (b"abc", "0a23d7ce 03000000 61626300"),
        (b"abcd", "0a23d7ce 04000000 61626364"),
        (MAGIC_BYTES, "0a23d7ce 00000020 0a23d7ce 00000060"),
        (b"abcd" + MAGIC_BYTES + b"e", "0a23d7ce 04000020 61626364 0a23d7ce 01000060 65000000"),
        (MAGIC_BYTES * 2, "0a23d7ce 00000020 0a23d7ce 00000040 0a23d7ce 00000060"),
        (b"a" + MAGIC_BYTES, "0a23d7ce 05000000 610a23d7 ce000000"),
    ],
)
def test_bytes_by_hand(payload: bytes, words: str) -> None:
    assert encode(payload) == bytes.fromhex(words)


@settings(deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]) -> None:
    records = [encode(payload) for payload in payloads]
    assert all(len(record) % 4 == 0 for record in records)
    with RecordFile(written(tmp_path_factory.mktemp("r"), b"".join(records))) as file:
        offsets = list(file.offsets())
        assert offsets == [sum(map(len, records[:place])) for place in range(len(records))]
        assert [file.read(offset) for offset in offsets] == payloads


@settings(deadline=None, max_examples=200)
@given(
    payloads=st.lists(PAYLOADS, min_size=1, max_size=4),
    damage=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 40),
    offset=st.integers(-8, 250),
)
def test_damage_is_named_or_harmless(
    tmp_path_factory: pytest.TempPathFactory,
    payloads: list[bytes],
    damage: list[tuple[int, int]],
    cut: int,
    offset: int,
) -> None:
    content = bytearray(b"".join(map(encode, payloads)))
    for place, value in damage:
        content[place % len(content)] = value
    path = written(tmp_path_factory.mktemp("r"), bytes(content[: max(len(content) - cut, 0)]))
    with contextlib.suppress(DataError), RecordFile(path) as file:
        for each in file.offsets():
            file.read(each)
    with contextlib.suppress(DataError), RecordFile(path) as file:
        file.read(offset)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n", "no record begins at byte 0"),
        (b"\x0a\x23", "lies beyond the end"),
        (encode(b"abcdef")[:-4], "is cut short"),
        (encode(MAGIC_BYTES)[:8], "lies beyond the end"),
        (encode(MAGIC_BYTES)[8:], "parts out of order"),
        (encode(MAGIC_BYTES)[:8] + encode(b"abc"), "parts out of order"),
        (bytes.fromhex("0a23d7ce 000000e0"), "parts out of order"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        RecordFile(written(tmp_path, content)).read(0)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        RecordFile(tmp_path / "train.rec")
    with pytest.raises(DataError, match="cannot be read"):
        RecordFile(tmp_path)


def test_closing_twice(tmp_path: Path) -> None:
    file = RecordFile(written(tmp_path, encode(b"abc")))
    file.close()
    file.close()
    with pytest.raises(DataError, match="beyond the end"):
        file.read(0)


def test_a_record_longer_than_the_format_holds() -> None:
    with pytest.raises(DataError, match="does not fit"):
        encode(bytes(MAX_PAYLOAD + 1))


def test_headers_by_hand() -> None:
    assert pack(1, 5, b"J") == bytes.fromhex("00000000 0000803f 0500000000000000 0000000000000000 4a")
    assert pack([2, 3], 0, id2=1) == bytes.fromhex(
        "02000000 00000000 0000000000000000 0100000000000000 00000040 00004040"
    )


@given(st.integers(0, MAX_EXACT) | st.lists(st.integers(0, MAX_EXACT), max_size=4), st.binary(max_size=9))
def test_headers_are_read_as_written(label: int | list[int], image: bytes) -> None:
    record = unpack(pack(label, 7, image), "here")
    assert record.labels == ((label,) if isinstance(label, int) else tuple(label) or (0,))
    assert (record.key, record.image) == (7, image)


@pytest.mark.parametrize("label", [-1, MAX_EXACT + 1])
def test_a_label_that_float32_does_not_hold(label: int) -> None:
    with pytest.raises(DataError, match="float32"):
        pack(label, 1)
    with pytest.raises(DataError, match="float32"):
        pack([0, label], 1)


def test_a_payload_shorter_than_its_header() -> None:
    with pytest.raises(DataError, match=r"here: 23 bytes are no image record"):
        unpack(bytes(23), "here")
    with pytest.raises(DataError, match="promises 3 labels"):
        unpack(HEADER.pack(3, 0, 1, 0) + bytes(11), "here")


class TestOfMxnet:
    pytestmark = needs_shared

    def test_adversarial_records_byte_for_byte(self) -> None:
        folder = SHARED / "recordio" / "adversarial"
        payloads = [base64.b64decode(text) for text in json.loads((folder / "payloads.json").read_text())]
        assert len(payloads) == 311
        assert b"".join(map(encode, payloads)) == (folder / "a.rec").read_bytes()
        with RecordFile(folder / "a.rec") as file:
            assert [file.read(offset) for offset in file.offsets()] == payloads
