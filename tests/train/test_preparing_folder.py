"""Photos and crops of a folder or a tar as a source."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.errors import EngineError
from realtime.errors import RealtimeError
from tests.paths import SHARED, needs_shared
from train.errors import ConfigError, DataError
from train.preparing.folder import open_folder, readable_name
from train.preparing.run import prepare
from train.source import Item, Taken


def write_crop(path: Path, seed: int, side: int = 112) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return content.getvalue()


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Three people with two crops each, and things that are none."""
    folder = tmp_path / "crops"
    for seed, name in enumerate(["b/1.png", "b/2.png", "a/1.png", "a/2.png", "deep/c/1.png", "deep/c/2.png"]):
        write_crop(folder / name, seed)
    write_crop(folder / "loose.png", 10)
    write_crop(folder / "b/large.png", 11, side=113)
    (folder / "b/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (folder / "a/empty.jpg").write_bytes(b"")
    (folder / "a/notes.txt").write_text("blue eyes")
    (folder / "a/gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "d").symlink_to(folder / "a")
    return folder


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".")
    return path


class TestCrops:
    def test_people_are_sorted_and_everything_else_is_named(self, crops: Path) -> None:
        source = open_folder(crops, aligned=True)
        names = [item.name for item in source.items]
        assert names == [
            *("a/1.png", "a/2.png", "a/empty.jpg"),
            *("b/1.png", "b/2.png", "b/broken.jpg", "b/large.png"),
            *("deep/c/1.png", "deep/c/2.png"),
        ]
        assert source.items[-1] == Item("deep/c/1.png".replace("1", "2"), "c")
        assert source.refused == {
            "loose.png": "not in a person's folder",
            "a/notes.txt": "not a photo by its name",
            "a/gone.jpg": "cannot be read (No such file or directory)",
            "d": "a link to a folder, which is not followed",
        }

    def test_crops_are_taken_as_they_are_with_the_sha256_of_their_files(self, crops: Path) -> None:
        source = pickle.loads(pickle.dumps(open_folder(crops, aligned=True)))
        reader = source.open()
        taken = [reader.take(index) for index in range(len(source.items))]
        reader.close()
        assert isinstance(taken[0], Taken)
        with Image.open(crops / "a/1.png") as image:
            assert (np.asarray(image) == taken[0].crop_SS3).all()
        assert taken[0].sha256 == hashlib.sha256((crops / "a/1.png").read_bytes()).hexdigest()
        assert [reason for reason in taken if isinstance(reason, str)] == [
            "is empty (0 bytes); copy the photo again",
            "is damaged or cut short and cannot be decoded; copy it again or save it as JPEG",
            "is no crop of 112x112 pixels (it has 113x113)",
        ]

    def test_a_tar_gives_what_its_folder_gives(self, crops: Path, tmp_path: Path) -> None:
        prepare(open_folder(crops, aligned=True), tmp_path / "one", workers=0)
        prepare(open_folder(packed(crops), aligned=True), tmp_path / "two", workers=0)
        for name in ("crops.npy", "labels.npy", "images.jsonl"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    def test_images_that_look_aligned_are_asked_about(self, tmp_path: Path) -> None:
        write_crop(tmp_path / "a/1.png", 1)
        with pytest.raises(ConfigError, match=r"--aligned.*--no-aligned"):
            open_folder(tmp_path)
        assert len(open_folder(tmp_path, aligned=False).items) == 1

    def test_a_folder_that_changed_since_is_not_mixed(self, crops: Path) -> None:
        source = open_folder(crops, aligned=True)
        write_crop(crops / "a/3.png", 5)
        with pytest.raises(DataError, match="has changed"):
            source.open()

    def test_digest_knows_the_way_of_cropping(self, crops: Path) -> None:
        (crops / "a/1.png").rename(crops / "a/0.png")
        sources = [
            open_folder(crops, aligned=True),
            open_folder(crops, aligned=False),
            open_folder(crops, aligned=False, options={"detect.kind": "cnn"}),
            open_folder(crops, aligned=False, template="dlib_chip_150"),
        ]
        assert len({source.digest for source in sources}) == 4


class TestNames:
    @pytest.mark.skipif(os.fsencode("\udcb1") != b"\xb1", reason="names are no bytes here")
    def test_korean_folders_of_a_windows_zip_are_read(self, tmp_path: Path) -> None:
        korean = "김철수"
        for number, raw in enumerate((korean.encode("cp949"), b"\xff\xfe", "é".encode())):
            write_crop(tmp_path / os.fsdecode(raw) / "1.png", number)
        source = open_folder(tmp_path, aligned=True)
        assert [item.subject for item in source.items] == [r"\xff\xfe", "é", korean]
        prepare(source, tmp_path.parent / "set", workers=0)

    def test_a_name_in_two_encodings_stays_two_images(self, tmp_path: Path) -> None:
        korean = "김"
        for number, raw in enumerate((korean.encode("cp949"), korean.encode())):
            write_crop(tmp_path / os.fsdecode(raw) / "1.png", number)
        names = [item.name for item in open_folder(tmp_path, aligned=True).items]
        assert len(set(names)) == 2

    def test_plain_names_stay(self) -> None:
        assert readable_name("person/é (2).jpg") == "person/é (2).jpg"


@pytest.mark.parametrize("make", ["nothing", "empty", "no photos"])
def test_nothing_to_prepare(tmp_path: Path, make: str) -> None:
    path = tmp_path / "photos"
    if make != "nothing":
        path.mkdir()
    if make == "no photos":
        (path / "a").mkdir()
        (path / "a/list.txt").write_text("")
    with pytest.raises((RealtimeError, EngineError), match="photos"):
        open_folder(path, aligned=True)


def test_a_template_or_an_option_that_is_not_known(tmp_path: Path) -> None:
    write_crop(tmp_path / "a/1.png", 1, side=50)
    with pytest.raises(ConfigError, match="arcface_112"):
        open_folder(tmp_path, template="arcface")
    with pytest.raises(EngineError, match="detect"):
        open_folder(tmp_path, options={"show.window": "false"})
    with pytest.raises(ConfigError, match="take no options"):
        open_folder(tmp_path, aligned=True, options={"detect.kind": "cnn"})


@pytest.mark.shared
@needs_shared[1]
def test_photos_are_aligned_as_realtime_aligns_them(tmp_path: Path) -> None:
    from realtime.calibration.crops import align_photos

    for person in ("John_Salley", "John_Simm"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        for photo in sorted((SHARED / "johns" / person).iterdir())[:2]:
            (tmp_path / "photos" / person / photo.name).write_bytes(photo.read_bytes())
    Image.new("RGB", (200, 200), (90, 90, 90)).save(tmp_path / "photos" / "John_Simm" / "wall.png")
    source = open_folder(tmp_path / "photos")
    report = prepare(source, tmp_path / "set", workers=0)
    assert (report.train_rows, report.refused) == (4, 1)
    assert report.reasons == (("no face found", 1, ("John_Simm/wall.png",)),)
    photos = align_photos(tmp_path / "photos", template="arcface_112", size=112, options={})
    crops = [crop for crop in map(photos.crop, range(5)) if not isinstance(crop, str)]
    assert (np.stack(crops) == np.load(tmp_path / "set" / "crops.npy")).all()
