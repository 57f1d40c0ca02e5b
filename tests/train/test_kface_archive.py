"""Zips read in place: as zipfile reads them, and nothing hostile gets further than a sentence."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.errors import DataError
from train.kface.archive import Index, decoded, is_unsafe, read_index
from train.kface.failures import Unusable
from train.kface.members import read_member
from train.kface.person import Home, open_files
from train.kface.spans import Span, inflated, open_span

MOST = 1 << 20


def span_of(content: bytes) -> Span:
    return Span(io.BytesIO(content), 0, len(content), "some.zip")


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
        file.comment = comment
    return buffer.getvalue()


def contents(span: Span, index: Index) -> dict[str, bytes]:
    members = [index.member(row) for row in range(len(index))]
    return {member.text: read_member(span, member, MOST) for member in members}


members = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0/\\:."), min_size=1, max_size=12),
    st.binary(max_size=200),
    max_size=8,
)


@given(
    members, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.binary(max_size=30), st.binary(max_size=20)
)
def test_it_reads_what_zipfile_reads(files: dict[str, bytes], method: int, comment: bytes, front: bytes) -> None:
    content = front + packed(files, method, comment)
    span = span_of(content)
    assert contents(span, read_index(span)) == files


def test_a_name_that_holds_a_signature_is_walked_over() -> None:
    files = {"PK\x01\x02.jpg": b"1", "x" * 46 + "PK\x01\x02": b"2", "plain": b"3"}
    span = span_of(packed(files))
    assert contents(span, read_index(span)) == files


def test_a_zip_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    files = {f"S001/L1/E01/C{number}.jpg": bytes([number]) * 400 for number in range(1, 9)}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = packed(files, method)
        assert b"PK\x06\x06" in content
        span = span_of(content)
        assert contents(span, read_index(span)) == files
    damaged = content.replace(b"PK\x06\x06", b"PK\x06\x05")
    with pytest.raises(DataError, match="64 bits is damaged"):
        read_index(span_of(damaged))


def test_more_members_than_16_bits_can_count() -> None:
    files = {f"{number}": b"" for number in range(66_000)}
    index = read_index(span_of(packed(files, zipfile.ZIP_STORED)))
    assert index.names[-1] == b"65999"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no zip"),
        (b"<html>", "is no zip"),
        (packed({"a": b"1" * 100})[:-30], "is cut short"),
        (packed({"a": b"1"})[:-12] + b"\xff" * 12, "is cut short"),
    ],
)
def test_what_is_no_whole_zip_is_said_so(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_index(span_of(content))


@settings(max_examples=300)
@given(st.data())
def test_no_damage_does_more_than_being_refused(data: st.DataObject) -> None:
    whole = packed({"S001/L1/E01/C1.jpg": b"a" * 300, "S001/L1/E01/C2.jpg": bytes(range(256)), "e": b""}, comment=b"x")
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    span = span_of(bytes(content[:cut]))
    try:
        index = read_index(span)
    except DataError:
        return
    for row in range(len(index)):
        try:
            member = index.member(row)
            assert len(read_member(span, member, MOST)) <= MOST
        except Unusable:
            continue


def test_names_that_leave_the_zip_are_known() -> None:
    bad = ["../a", "a/../../b", "/etc/passwd", "C:/a", "..", "a/..", "\\\\host\\a", "a\\..\\b"]
    good = ["a..b", "a/..b/c", "안면/C7.jpg", "ab:c", "...", "S001/L1/E01/C7.jpg"]
    assert [name for name in bad if not is_unsafe(name.encode())] == []
    assert [name for name in good if is_unsafe(name.encode())] == []
    index = read_index(span_of(packed(dict.fromkeys([*good, *bad], b""))))
    assert len(index.unsafe) == len(bad)
    assert read_index(span_of(packed(dict.fromkeys(["a..b", "c"], b"")))).unsafe == ()


def test_korean_names_without_the_flag_of_utf8() -> None:
    assert decoded("안면".encode("cp949"), 0) == "안면"
    assert decoded("안면".encode(), 1 << 11) == "안면"
    assert decoded(b"\xff\xff", 0) == "\ufffd\ufffd"


def test_a_bomb_is_not_unpacked() -> None:
    span = span_of(packed({"bomb": bytes(8 << 20)}))
    member = read_index(span).member(0)
    with pytest.raises(Unusable, match="too large in the zip \\(it claims 8388608 bytes, 1048576 are allowed\\)"):
        read_member(span, member, MOST)


@pytest.mark.parametrize(("field", "value", "words"), [(10, 99, "method 99"), (8, 1, "encrypted"), (16, 7, "checksum")])
def test_a_member_that_cannot_be_read_says_why(field: int, value: int, words: str) -> None:
    content = bytearray(packed({"a": b"abc" * 50}))
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + field, value)
    span = span_of(bytes(content))
    with pytest.raises(Unusable, match=words):
        read_member(span, read_index(span).member(0), MOST)


def test_a_header_of_another_file_is_noticed() -> None:
    content = packed({"a": b"1", "b": b"2"})
    first_name = content.index(b"a")
    swapped = content[:first_name] + b"b" + content[first_name + 1 :]
    span = span_of(swapped)
    with pytest.raises(Unusable, match="another file's"):
        read_member(span, read_index(span).member(0), MOST)


# --- a zip within a zip -------------------------------------------------------------------------------------------


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


@given(st.binary(max_size=3000), st.integers(-3, 3))
def test_a_stretch_is_unpacked_whole_or_not_at_all(content: bytes, wrong_by: int) -> None:
    size = max(0, len(content) + wrong_by)
    stretch = span_of(deflated(content))
    if size == len(content):
        span = inflated(stretch, size)
        assert span.read(0, size) == content
        span.close()
    else:
        with pytest.raises(DataError, match=r"it is damaged|it is a bomb"):
            inflated(stretch, size)


def test_large_stretches_and_bombs() -> None:
    content = random.Random(1).randbytes(5_000_001)
    span = inflated(span_of(deflated(content) + b"after the end"), len(content))
    assert span.read(len(content) - 50, 50) == content[-50:]
    span.close()
    with pytest.raises(DataError, match="no zip of photos does"):
        inflated(span_of(deflated(bytes(64 << 20))), 64 << 20)
    with pytest.raises(DataError, match="is a bomb"):
        inflated(span_of(deflated(bytes(8 << 20))), 1000)
    with pytest.raises(DataError, match="is damaged"):
        inflated(span_of(b"\xff" * 100), 1000)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "19062531.zip")
    with pytest.raises(DataError, match="is no file"):
        open_span(tmp_path / "19062531.zip")
    (tmp_path / "S001/L1/E01").mkdir(parents=True)
    os.mkfifo(tmp_path / "S001/L1/E01/C7.jpg")
    assert open_files(Home("19062531", tmp_path)).trouble("S001/L1/E01/C7.jpg") == "missing"


def test_a_span_never_reads_beyond_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    span = open_span(path)
    part = span.part(2, 5, "part")
    assert part.read(0, 5) == b"23456"
    for offset, size in ((0, 6), (-1, 2), (5, 1), (0, -1)):
        with pytest.raises(DataError, match="cut short"):
            part.read(offset, size)
    with pytest.raises(DataError, match="beyond the end"):
        span.part(8, 3, "part")
    span.close()
    span = open_span(path)
    path.write_bytes(b"012")
    with pytest.raises(DataError, match="became shorter"):
        span.read(2, 5)
    span.close()
    with pytest.raises(DataError, match="cannot be read"):
        open_span(tmp_path / "missing")
