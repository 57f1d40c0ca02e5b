"""Indexing a .rec: every layout, a missing or wrong .idx, and damage."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.paths import SHARED, needs_shared
from train.errors import DataError
from train.recordio.headers import HEADER, MAX_EXACT, pack
from train.recordio.layouts import Entry, Layout, write_im2rec, write_recbuilder
from train.recordio.reading import read_rec
from train.recordio.records import MAGIC, MAGIC_BYTES, encode

WRITERS = {"im2rec": write_im2rec, "recbuilder": write_recbuilder}


def entries(count: int = 7) -> list[Entry]:
    return [Entry(bytes([place]) * (place + 1), place // 3, f"s/{place}.jpg") for place in range(count)]


def made(folder: Path, layout: str = "recbuilder", count: int = 7) -> Path:
    WRITERS[layout](folder / "train", entries(count))
    return folder / "train.rec"


def raw(folder: Path, records: list[tuple[int, bytes]]) -> Path:
    """Keys and payloads, as they are."""
    offset, lines, content = 0, "", b""
    for key, payload in records:
        lines += f"{key}\t{offset}\n"
        content += encode(payload)
        offset = len(content)
    (folder / "train.idx").write_text(lines)
    (folder / "train.rec").write_bytes(content)
    return folder / "train.rec"


@pytest.mark.parametrize("layout", ["im2rec", "recbuilder"])
@pytest.mark.parametrize("indexed", [True, False])
def test_every_layout_gives_the_same_images(tmp_path: Path, layout: Layout, indexed: bool) -> None:
    path = made(tmp_path, layout)
    if not indexed:
        (tmp_path / "train.idx").unlink()
    rec = pickle.loads(pickle.dumps(read_rec(path)))
    assert rec.layout == layout
    assert rec.labels_N.tolist() == [0, 0, 0, 1, 1, 1, 2]
    first = {"im2rec": 0, "recbuilder": 1}[layout]
    assert rec.keys_N.tolist() == list(range(first, first + 7))
    reader = rec.open()
    assert [reader.record(row).image for row in range(len(rec))] == [entry.image for entry in entries()]
    reader.close()


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    read_rec(made(tmp_path), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (11, 11)


def test_image_0_with_several_labels_is_an_image(tmp_path: Path) -> None:
    """``im2rec --pack-label`` with two label columns; arcface_torch takes it for the set's description."""
    rec = read_rec(raw(tmp_path, [(0, pack([5, 1], 0, b"J0")), (1, pack([6, 1], 1, b"J1"))]))
    assert rec.layout == "im2rec"
    assert rec.labels_N.tolist() == [5, 6]


def test_a_count_beyond_float32(tmp_path: Path) -> None:
    """WebFace42M: record 0 says 42,474,560 where 42,474,558 was meant."""
    described = HEADER.pack(2, 0, 0, 1) + np.array([MAX_EXACT + 10, MAX_EXACT + 12], dtype="<f4").tobytes()
    records = [(MAX_EXACT + 6 + place, pack(place, 9, b"J")) for place in range(3)]
    records += [(MAX_EXACT + 9, pack([1, 2], 9)), (MAX_EXACT + 10, pack([2, 3], 9)), (0, described)]
    assert read_rec(raw(tmp_path, records)).keys_N.tolist() == [MAX_EXACT + 6, MAX_EXACT + 7, MAX_EXACT + 8]


def test_a_header_that_lies_in_two_parts(tmp_path: Path) -> None:
    """The id of a record is the magic itself."""
    rec = read_rec(raw(tmp_path, [(0, pack(3, MAGIC, b"J" + MAGIC_BYTES)), (1, pack(4, 1, b"K"))]))
    assert rec.labels_N.tolist() == [3, 4]
    assert rec.open().record(0).image == b"J" + MAGIC_BYTES


def test_ids_that_are_not_unique_are_no_keys(tmp_path: Path) -> None:
    path = raw(tmp_path, [(5, pack(0, 1, b"a")), (6, pack(1, 1, b"b"))])
    (tmp_path / "train.idx").unlink()
    assert read_rec(path).keys_N.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("idx", "message"),
    [
        ("", "is no index"),
        ("0\n", "is no index"),
        ("0\t0\n1\n", "is no index"),
        ("zero\t0\n", "is no index"),
        ("0\t0\n1\t1.5\n", "is no index"),
        ("0\t-4\n", "is no index"),
        ("0\t0\n0\t40\n", "names key 0 twice"),
        ("0\t0\n1\t400\n", "lies beyond the end"),
        ("0\t0\n1\t99999999999999999999\n", "lies beyond the end|is no index"),
        ("0\t0\n1\t38\n", "no record begins at byte 38"),
        ("0\t0\n1\t36\n", "the index is cut short"),
        ("0\t0\t\n" * 500, "larger than any index"),
    ],
)
def test_an_index_that_does_not_fit(tmp_path: Path, idx: str, message: str) -> None:
    path = made(tmp_path, "im2rec", count=3)
    (tmp_path / "train.idx").write_text(idx)
    with pytest.raises(DataError, match=message):
        read_rec(path)


def test_an_index_that_is_no_text(tmp_path: Path) -> None:
    path = made(tmp_path)
    (tmp_path / "train.idx").write_bytes(os.urandom(40) + b"\xff")
    with pytest.raises(DataError, match="is no index"):
        read_rec(path)


@pytest.mark.parametrize("indexed", [True, False])
def test_a_file_that_is_cut_short(tmp_path: Path, indexed: bool) -> None:
    path = made(tmp_path)
    path.write_bytes(path.read_bytes()[:-6])
    if not indexed:
        (tmp_path / "train.idx").unlink()
    with pytest.raises(DataError, match="cut short"):
        read_rec(path)


def test_an_index_with_images_missing(tmp_path: Path) -> None:
    path = made(tmp_path)
    lines = (tmp_path / "train.idx").read_text().splitlines(keepends=True)
    (tmp_path / "train.idx").write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(DataError, match="promises 7 images, its index names 6"):
        read_rec(path)


def test_records_that_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 bytes are no image record"):
        read_rec(raw(tmp_path, [(0, b"abc")]))


def test_a_description_without_sense(tmp_path: Path) -> None:
    described = HEADER.pack(2, 0, 0, 1) + np.array([np.nan, 1], dtype="<f4").tobytes()
    with pytest.raises(DataError, match="record 0 says"):
        read_rec(raw(tmp_path, [(1, pack(0, 1, b"a")), (0, described)]))


@settings(deadline=None, max_examples=200)
@given(
    layout=st.sampled_from(["im2rec", "recbuilder"]),
    which=st.sampled_from(["train.rec", "train.idx"]),
    damage=st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), min_size=1, max_size=5),
    cut=st.integers(0, 40),
    indexed=st.booleans(),
)
def test_damage_is_named_or_harmless(
    tmp_path_factory: pytest.TempPathFactory,
    layout: str,
    which: str,
    damage: list[tuple[int, int]],
    cut: int,
    indexed: bool,
) -> None:
    folder = tmp_path_factory.mktemp("f")
    path = made(folder, layout)
    content = bytearray((folder / which).read_bytes())
    for place, value in damage:
        content[place % len(content)] = value
    (folder / which).write_bytes(bytes(content[: max(len(content) - cut, 0)]))
    if not indexed:
        (folder / "train.idx").unlink()
    with contextlib.suppress(DataError):
        rec = read_rec(path)
        reader = rec.open()
        for row in range(len(rec)):
            reader.record(row)


class TestOfMxnet:
    pytestmark = needs_shared

    @pytest.mark.parametrize("layout", ["im2rec", "recbuilder"])
    def test_johns(self, layout: str) -> None:
        rec = read_rec(SHARED / "recordio" / layout / "train.rec")
        assert (rec.layout, len(rec)) == (layout, 55)
        assert rec.labels_N.tolist() == np.repeat(np.arange(5), 11).tolist()
        reader = rec.open()
        photos = sorted((SHARED / "johns").glob("*/*.jpg"))
        assert [reader.record(row).image for row in range(55)] == [photo.read_bytes() for photo in photos]
