"""The files as a whole: byte for byte those of im2rec and RecBuilder, whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import SHARED, needs_shared
from train.errors import DataError
from train.recordio.headers import pack
from train.recordio.layouts import Entry, write_im2rec, write_recbuilder
from train.recordio.records import encode

ENTRIES = [Entry(b"JPEG0", 0, "a/a_1.jpg"), Entry(b"JPEG-1", 0, "a/a_2.jpg"), Entry(b"J2", 1, "b/b_1.jpg")]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_im2rec_by_hand(tmp_path: Path) -> None:
    assert write_im2rec(tmp_path / "val", ENTRIES) == 3
    assert contents(tmp_path) == {
        "val.rec": b"".join(encode(pack(entry.label, key, entry.image)) for key, entry in enumerate(ENTRIES)),
        "val.idx": b"0\t0\n1\t40\n2\t80\n",
        "val.lst": b"0\t0.000000\ta/a_1.jpg\n1\t0.000000\ta/a_2.jpg\n2\t1.000000\tb/b_1.jpg\n",
    }


def test_recbuilder_by_hand(tmp_path: Path) -> None:
    assert write_recbuilder(tmp_path / "train", ENTRIES) == 3
    images = b"".join(encode(pack(entry.label, key, entry.image)) for key, entry in enumerate(ENTRIES, start=1))
    subjects = encode(pack([1, 3], 4)) + encode(pack([3, 4], 5))
    assert contents(tmp_path) == {
        "train.rec": images + subjects + encode(pack([4, 6], 0, id2=1)),
        "train.idx": b"1\t0\n2\t40\n3\t80\n4\t116\n5\t156\n0\t196\n",
        "train.lst": b"1\t0.000000\ta/a_1.jpg\n2\t0.000000\ta/a_2.jpg\n3\t1.000000\tb/b_1.jpg\n",
        "property": b"2,112,112\n",
    }


def test_a_folder_has_one_property(tmp_path: Path) -> None:
    write_recbuilder(tmp_path / "train", ENTRIES, side=96)
    write_recbuilder(tmp_path / "val", ENTRIES[:2], with_property=False)
    assert (tmp_path / "property").read_bytes() == b"2,96,96\n"


@pytest.mark.parametrize("write", [write_im2rec, write_recbuilder])
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "no images"),
        ([Entry(b"x", 0, "a/\tb.jpg")], "tab or a line end"),
        ([Entry(b"x", 0, "a/b.jpg"), Entry(b"x", -1, "a/c.jpg")], "label -1"),
    ],
)
def test_files_of_before_stay_where_a_set_is_refused(tmp_path: Path, write, entries, message: str) -> None:
    write(tmp_path / "train", ENTRIES)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=message):
        write(tmp_path / "train", entries)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("labels", [[1], [0, 2], [0, 1, 0], [0, 0, 1, 3]])
def test_recbuilder_needs_subjects_in_order(tmp_path: Path, labels: list[int]) -> None:
    with pytest.raises(DataError, match="should follow"):
        write_recbuilder(tmp_path / "train", [Entry(b"x", label, "a/b.jpg") for label in labels])
    assert not contents(tmp_path)


def test_nothing_is_left_where_it_is_stopped(tmp_path: Path) -> None:
    def stopped() -> Iterator[Entry]:
        yield ENTRIES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_im2rec(tmp_path / "train", stopped())
    assert not contents(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_im2rec(tmp_path / "nowhere" / "train", ENTRIES)


def test_a_full_disk(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    write_im2rec(tmp_path / "train", ENTRIES)
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(DataError, match="cannot be written"):
            write_im2rec(tmp_path / "train", [Entry(bytes(1 << 14), 0, f"a/{key}.jpg") for key in range(9)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == before


class TestOfMxnet:
    pytestmark = needs_shared

    @pytest.fixture
    def entries(self) -> list[Entry]:
        """As the tutorial's command goes through the folders: sorted folders, sorted files."""
        folders = sorted(path for path in (SHARED / "johns").iterdir() if path.is_dir())
        return [
            Entry(path.read_bytes(), label, f"{folder.name}/{path.name}")
            for label, folder in enumerate(folders)
            for path in sorted(folder.glob("*.jpg"))
        ]

    @pytest.mark.parametrize("name", ["train.rec", "train.idx", "train.lst"])
    def test_im2rec(self, tmp_path: Path, entries: list[Entry], name: str) -> None:
        write_im2rec(tmp_path / "train", entries)
        assert (tmp_path / name).read_bytes() == (SHARED / "recordio" / "im2rec" / name).read_bytes()

    @pytest.mark.parametrize("name", ["train.rec", "train.idx", "property"])
    def test_recbuilder(self, tmp_path: Path, entries: list[Entry], name: str) -> None:
        write_recbuilder(tmp_path / "train", entries)
        assert (tmp_path / name).read_bytes() == (SHARED / "recordio" / "recbuilder" / name).read_bytes()
