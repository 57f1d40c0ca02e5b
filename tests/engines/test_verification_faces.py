"""Crops from folders, arrays and aligners; what an aligner made is kept, and made once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engines.errors import EngineError
from engines.store import CACHE_VARIABLE
from engines.verification import faces as library
from engines.verification.faces import read_faces
from engines.verification.packed import pack

S = 12
MODEL = {"template": "dlib_chip_150", "size": S}


@pytest.fixture(autouse=True)
def crops_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "crops"


def picture(value: int, side: int = S) -> NDArray[np.uint8]:
    return np.full((side, side, 3), (value, 2, 3), dtype=np.uint8)


def folder_of(place: Path, names: Mapping[str, int], side: int = S) -> Path:
    for name, value in names.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(value, side)).save(place / name)
    return place


class TestCrops:
    def test_a_folder_a_person(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "set", {"ben/2.png": 20, "ana/1.png": 10, "ana/b.png": 11})
        (folder / "ana" / "notes.txt").write_text("no image")
        (folder / "ana" / ".hidden.png").write_bytes(b"")
        found = read_faces(folder, **MODEL)
        assert found.names == ("ana/1.png", "ana/b.png", "ben/2.png")
        assert found.people == ("ana", "ana", "ben")
        assert found.faces_NSS3[:, 0, 0].tolist() == [[10, 2, 3], [11, 2, 3], [20, 2, 3]]
        assert found.labelled
        assert found.failures == {}
        assert "3 crops as they are" in found.source

    def test_images_in_no_folder_are_of_nobody_known(self, tmp_path: Path) -> None:
        found = read_faces(folder_of(tmp_path / "set", {"1.png": 1, "2.png": 2}), **MODEL)
        assert found.people == ("", "")
        assert not found.labelled

    def test_what_is_no_crop_is_named_with_its_reason(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "set", {"a/1.png": 1})
        folder_of(folder, {"a/2.png": 2}, side=40)
        (folder / "a" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
        noise = np.random.default_rng(1).integers(0, 256, (S, S, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "a" / "4.png")
        (folder / "a" / "4.png").write_bytes((folder / "a" / "4.png").read_bytes()[:200])
        found = read_faces(folder, **MODEL)
        assert found.names == ("a/1.png",)
        assert found.failures["a/2.png"] == f"has 40x40 pixels, crops have {S}x{S}"
        assert found.failures["a/3.png"] == "cannot be decoded"
        assert found.failures["a/4.png"] == "is damaged or cut short"

    def test_a_limit_takes_them_evenly(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "set", {f"{k}.png": k for k in range(9)})
        told: list[tuple[int, int]] = []
        found = read_faces(folder, **MODEL, limit=3, progress=lambda done, total: told.append((done, total)))
        assert found.names == ("0.png", "4.png", "8.png")
        assert told == [(1, 3), (2, 3), (3, 3)]
        assert len(read_faces(folder, **MODEL, limit=100)) == 9

    def test_only_what_is_asked_for(self, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "set", {f"{k}.png": k for k in range(4)})
        assert read_faces(folder, **MODEL, only={"1", "3"}).names == ("1.png", "3.png")

    def test_grey_and_transparent_images_become_rgb(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((S, S), 7, dtype=np.uint8)).save(tmp_path / "grey.png")
        assert read_faces(tmp_path, **MODEL).faces_NSS3[0, 0, 0].tolist() == [7, 7, 7]

    @pytest.mark.parametrize("names", [{}, {"1.png": 1}])
    def test_a_folder_without_a_crop_is_one_sentence(self, tmp_path: Path, names: dict[str, int]) -> None:
        folder = folder_of(tmp_path / "set", names, side=5)
        folder.mkdir(exist_ok=True)
        with pytest.raises(EngineError, match="no crop of 12x12 pixels"):
            read_faces(folder, **MODEL, form="crops")

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="no such file or folder"):
            read_faces(tmp_path / "none", **MODEL)


class TestArrays:
    def test_an_array_is_mapped_not_read(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.arange(5 * S * S * 3, dtype=np.uint8).reshape(5, S, S, 3))
        found = read_faces(tmp_path / "x.npy", **MODEL)
        assert isinstance(found.faces_NSS3, np.memmap)
        assert found.names == ("0", "1", "2", "3", "4")
        assert len(read_faces(tmp_path / "x.npy", **MODEL, limit=2)) == 2

    @pytest.mark.parametrize(
        "array", [np.zeros((2, S, S, 3)), np.zeros((2, S, S), dtype=np.uint8), np.zeros((0, S, S, 3), dtype=np.uint8)]
    )
    def test_other_arrays_are_refused(self, tmp_path: Path, array: NDArray[np.uint8]) -> None:
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(EngineError, match=r"x\.npy"):
            read_faces(tmp_path / "x.npy", **MODEL)

    @pytest.mark.parametrize(
        "content", [b"", b"\x93NUMPY", b"hello", b"\x93NUMPY\x01\x00\x08\x00{\x00\x00\x00\x00\x00\x00}"]
    )
    def test_a_file_that_is_no_array(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(EngineError, match="cannot be read as an array"):
            read_faces(tmp_path / "x.npy", **MODEL)

    def test_nothing_in_it_is_executed(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.array([print], dtype=object), allow_pickle=True)
        with pytest.raises(EngineError, match="cannot be read as an array"):
            read_faces(tmp_path / "x.npy", **MODEL)


class Drawn:
    """Photos 0..n-1 of two people; every fourth shows no face."""

    def __init__(self, count: int = 10, *, digest: str = "one", stop_at: int | None = None) -> None:
        self.names = [f"{'ab'[k % 2]}/{k}.jpg" for k in range(count)]
        self.people = ["ab"[k % 2] for k in range(count)]
        self.digest = digest
        self.made: list[int] = []
        self.closed = False
        self._stop_at = stop_at

    def crop(self, index: int) -> NDArray[np.uint8] | str:
        if index == self._stop_at:
            raise KeyboardInterrupt
        self.made.append(index)
        return "no face found" if index % 4 == 3 else picture(index)

    def close(self) -> None:
        self.closed = True


def packed(photos: Drawn, folder: Path, rows: list[int] | None = None) -> NDArray[np.uint8]:
    wanted = list(range(len(photos.names))) if rows is None else rows
    found = pack(photos, wanted, S, folder, lambda done, total: None)
    good = [row for row in wanted if row % 4 != 3]
    assert found.faces_NSS3[:, 0, 0, 0].tolist() == good
    assert found.names == tuple(photos.names[row] for row in good)
    assert found.people == tuple(photos.people[row] for row in good)
    assert found.failures == {photos.names[row]: "no face found" for row in wanted if row % 4 == 3}
    return found.faces_NSS3


class TestPacking:
    def test_a_second_call_makes_nothing_and_maps_the_file(self, crops_cache: Path) -> None:
        packed(Drawn(), crops_cache)
        again = Drawn()
        assert isinstance(packed(again, crops_cache), np.memmap)
        assert again.made == []

    def test_another_set_and_another_selection_are_made_anew(self, crops_cache: Path) -> None:
        packed(Drawn(), crops_cache)
        for other, rows in ((Drawn(digest="two"), None), (Drawn(), [2, 3, 4])):
            packed(other, crops_cache, rows)
            assert other.made

    @pytest.mark.parametrize("stop_at", [0, 1, 4, 9])
    def test_a_stopped_run_goes_on_where_it_was(self, crops_cache: Path, stop_at: int) -> None:
        with pytest.raises(KeyboardInterrupt):
            packed(Drawn(stop_at=stop_at), crops_cache)
        rest = Drawn()
        packed(rest, crops_cache)
        assert rest.made == list(range(stop_at, 10))
        assert not list(crops_cache.glob("*.part"))

    @pytest.mark.parametrize("cut", [1, S * S * 3, 2 * S * S * 3 + 5])
    def test_a_part_that_was_cut_loses_only_what_was_cut(self, crops_cache: Path, cut: int) -> None:
        with pytest.raises(KeyboardInterrupt):
            packed(Drawn(stop_at=7), crops_cache)
        (part,) = crops_cache.glob("*.part")
        part.write_bytes(part.read_bytes()[:-cut])
        rest = Drawn()
        packed(rest, crops_cache)
        assert 0 < len(rest.made) < 10

    def test_torn_notes_are_mended(self, crops_cache: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            packed(Drawn(stop_at=6), crops_cache)
        (notes,) = crops_cache.glob("*.jsonl")
        notes.write_text(notes.read_text()[:-5])
        rest = Drawn()
        packed(rest, crops_cache)
        assert rest.made == [5, 6, 7, 8, 9]

    @pytest.mark.parametrize("damage", [b"", b"\x93NUMPY rubbish"])
    def test_a_damaged_file_is_made_again(self, crops_cache: Path, damage: bytes) -> None:
        packed(Drawn(), crops_cache)
        (whole,) = crops_cache.glob("*.npy")
        whole.write_bytes(damage)
        again = Drawn()
        packed(again, crops_cache)
        assert again.made

    def test_a_set_without_a_face_is_kept_too(self, crops_cache: Path) -> None:
        packed(Drawn(), crops_cache, [3, 7])
        again = Drawn()
        packed(again, crops_cache, [3, 7])
        assert again.made == []

    def test_a_cache_that_cannot_be_written_keeps_them_in_memory(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        with caplog.at_level(logging.WARNING):
            found = packed(Drawn(), tmp_path / "file" / "crops")
        assert not isinstance(found, np.memmap)
        assert "stay in memory" in caplog.text


class TestAligners:
    @pytest.fixture
    def aligner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Drawn]:
        """A package with an entry point, as an install leaves it."""
        place = tmp_path / "site"
        (place / "drawn-1.0.dist-info").mkdir(parents=True)
        (place / "drawn-1.0.dist-info" / "METADATA").write_text("Name: drawn\nVersion: 1.0\n")
        (place / "drawn-1.0.dist-info" / "entry_points.txt").write_text(
            "[tests.aligners]\nphotos = drawn_aligner:open_\n"
        )
        (place / "drawn_aligner.py").write_text(
            "from tests.engines.test_verification_faces import Drawn\n"
            "def open_(path, *, template, size, options):\n"
            "    return Drawn(digest=repr((template, size, sorted(options.items()))))\n"
        )
        monkeypatch.setattr(library, "GROUP", "tests.aligners")
        monkeypatch.syspath_prepend(str(place))
        return Drawn

    def test_photos_go_to_the_aligner_that_is_installed(self, tmp_path: Path, aligner: type[Drawn]) -> None:
        photos = folder_of(tmp_path / "photos", {"a/1.png": 1}, side=40)
        found = read_faces(photos, **MODEL, options={"detect.kind": "cnn"})
        assert len(found) == 8
        assert found.labelled
        assert "8 of 10 photos aligned to dlib_chip_150" in found.source
        assert found.failures == {"b/3.jpg": "no face found", "b/7.jpg": "no face found"}
        assert read_faces(photos, **MODEL, only={"1", "2"}).names == ("b/1.jpg", "a/2.jpg")
        assert read_faces(photos, **MODEL, limit=2).names == ("a/0.jpg", "b/9.jpg")

    def test_images_of_the_models_size_are_photos_where_that_is_said(
        self, tmp_path: Path, aligner: type[Drawn]
    ) -> None:
        same_size = folder_of(tmp_path / "photos", {"a/1.png": 1})
        assert "as they are" in read_faces(same_size, **MODEL).source
        assert "aligned" in read_faces(same_size, **MODEL, form="photos").source

    def test_no_face_at_all_is_one_sentence(self, tmp_path: Path, aligner: type[Drawn]) -> None:
        photos = folder_of(tmp_path / "photos", {"a/1.png": 1}, side=40)
        with pytest.raises(EngineError, match="no face in any of 1 photos"):
            read_faces(photos, **MODEL, only={"3"})
        with pytest.raises(EngineError, match="no face in any of 0 photos"):
            read_faces(photos, **MODEL, only={"absent"})

    def test_without_an_aligner_photos_are_refused_with_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(library, "GROUP", "tests.nothing")
        with pytest.raises(EngineError, match="give crops of the model's size, or install"):
            read_faces(folder_of(tmp_path / "photos", {"a/1.png": 1}, side=40), **MODEL)
