"""Sets in folders and tars, and tars that mean harm."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from realtime.calibration.images import MAX_MEMBER_BYTES, Item, open_set
from realtime.errors import PhotoError, RealtimeError


def photo(shade: int = 90) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), shade, dtype=np.uint8)).save(out, format="PNG")
    return out.getvalue()


def tar_of(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def folder_of(path: Path, members: list[tuple[str, bytes]]) -> Path:
    for name, data in members:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


MEMBERS = [
    ("set/Ana Silva/1.png", photo(10)),
    ("set/Ana Silva/2.png", photo(20)),
    ("set/박서준/a.jpg", photo(30)),
    ("set/README.txt", b"hello"),
    ("loose.png", photo()),
]


@pytest.mark.parametrize("make", [tar_of, folder_of])
def test_a_person_is_the_last_folder(tmp_path: Path, make: object) -> None:
    images = open_set(make(tmp_path / "set.any", MEMBERS))  # type: ignore[operator]
    assert {item.name: item.person for item in images.items} == {
        "set/Ana Silva/1.png": "Ana Silva",
        "set/Ana Silva/2.png": "Ana Silva",
        "set/박서준/a.jpg": "박서준",
    }
    assert images.passed_over == {
        "set/README.txt": "not a photo by its name",
        "loose.png": "not in a person's folder",
    }
    shades = [int(images.read(item)[0, 0, 0]) for item in images.items]
    assert shades == [10, 20, 30]
    images.close()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_compressed_tars_are_read(tmp_path: Path, mode: str) -> None:
    images = open_set(tar_of(tmp_path / "set.tar", MEMBERS, mode))
    assert images.read(images.items[2]).shape == (20, 30, 3)


def test_hostile_members_are_passed_over_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "in" / "set.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name in (
            "../../out/1.png",
            "/etc/passwd.png",
            "a/../../1.png",
            "ana/\x1b[2J.png",
            "ana/ok.png",
            "ana/ok.png",
        ):
            info = tarfile.TarInfo(name)
            info.size = len(photo())
            tar.addfile(info, io.BytesIO(photo()))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            link = tarfile.TarInfo(f"ana/link{kind.decode()}.png")
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    images = open_set(path)
    assert [item.name for item in images.items] == ["ana/ok.png"]
    assert len(images.passed_over) == 9
    images.read(images.items[0])
    images.close()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_member_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    info = tarfile.TarInfo("ana/huge.png")
    info.size = MAX_MEMBER_BYTES + 1
    first = tarfile.TarInfo("ana/1.png")
    first.size = len(photo())
    with path.open("wb") as file:
        file.write(
            first.tobuf() + photo().ljust(512, b"\0")[:512] + b"\0" * (-len(photo()) % 512 if len(photo()) > 512 else 0)
        )
        file.write(info.tobuf())
        file.truncate(file.tell() + MAX_MEMBER_BYTES + 1024)  # sparse: takes no room on the disk
    images = open_set(path)
    assert [item.name for item in images.items] == ["ana/1.png"]
    assert "too large" in images.passed_over["ana/huge.png"]


def test_a_cut_tar_is_refused_not_half_measured(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "set.tar", [("ana/1.png", photo()), ("ana/2.png", photo() + b"more" * 500)])
    path.write_bytes(path.read_bytes()[: 4 * 512 + 100])
    with pytest.raises(RealtimeError, match="cannot be read as a tar"):
        open_set(path)


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=2000))
def test_any_bytes_are_a_tar_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("tars") / "set.tar"
    path.write_bytes(data)
    with pytest.raises(RealtimeError, match=r"set\.tar: (cannot be read as a tar|no photos in it)"):
        open_set(path)


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 2047), value=st.integers(0, 255))
def test_a_damaged_tar_never_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tar_of(tmp_path_factory.mktemp("tars") / "set.tar", [("ana/1.png", photo()), ("ben/2.png", photo())])
    data = bytearray(path.read_bytes())
    data[place] = value
    path.write_bytes(data)
    try:
        images = open_set(path)
        for item in images.items:
            assert images.read(item).ndim == 3
    except (RealtimeError, PhotoError):
        pass


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    first = open_set(tar_of(tmp_path / "a.tar", MEMBERS)).digest
    assert open_set(tar_of(tmp_path / "b.tar", MEMBERS)).digest == first
    assert open_set(tar_of(tmp_path / "c.tar", MEMBERS[:3])).digest != first
    folder = folder_of(tmp_path / "folder", MEMBERS)
    before = open_set(folder).digest
    assert open_set(folder).digest == before
    (folder / "set" / "Ana Silva" / "1.png").write_bytes(photo(11) + b"more")
    assert open_set(folder).digest != before


def test_nothing_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RealtimeError, match="no such folder or tar"):
        open_set(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RealtimeError, match="no photos in it"):
        open_set(tmp_path / "empty")


def test_an_item_that_went_away_is_a_photo_error(tmp_path: Path) -> None:
    images = open_set(folder_of(tmp_path / "set", MEMBERS))
    with pytest.raises(PhotoError):
        images.read(Item(name="set/Ana Silva/gone.png", person="Ana Silva"))
