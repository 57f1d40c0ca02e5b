"""A prepared split out to .rec, and a .rec in as a source."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.paths import SHARED, needs_shared
from tests.train.sets import tiny_set
from train.errors import DataError
from train.prepared import open_prepared
from train.recordio.exporting import export_rec, lst_name
from train.recordio.headers import HEADER
from train.recordio.images import decode_crop, encode_crop
from train.recordio.layouts import Entry, Layout, write_im2rec
from train.recordio.records import encode
from train.recordio.source import open_rec_source
from train.source import Item, Reader, Source, Taken


def png(size: int = 112, colour: tuple[int, int, int] = (9, 99, 199)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(content, "PNG")
    return content.getvalue()


def made(folder: Path, images: list[bytes], labels: list[int]) -> Path:
    pairs = enumerate(zip(images, labels, strict=True))
    write_im2rec(folder / "train", (Entry(image, label, f"{place}.png") for place, (image, label) in pairs))
    return folder / "train.rec"


@pytest.mark.parametrize("layout", ["recbuilder", "im2rec"])
def test_out_and_in(tmp_path: Path, layout: Layout) -> None:
    split = open_prepared(tiny_set(tmp_path / "set", train_people=3, images=4)).train
    told: list[tuple[int, int]] = []
    images = export_rec(split, tmp_path / "train", layout=layout, progress=lambda *at: told.append(at))
    assert (images, told[-1]) == (12, (12, 12))
    source: Source = open_rec_source(tmp_path / "train.rec")
    assert [item.subject for item in source.items] == ["0000000"] * 4 + ["0000001"] * 4 + ["0000002"] * 4
    assert (source.expected, source.template, source.size) == (12, "arcface_112", 112)
    assert source.facts == {"kind": "rec", "name": "train.rec", "layout": layout, "images": 12}
    reader: Reader = pickle.loads(pickle.dumps(source)).open()
    for row in range(12):
        content = encode_crop(split.crops_NSS3[row])
        taken = reader.take(row)
        assert isinstance(taken, Taken)
        assert taken.sha256 == hashlib.sha256(content).hexdigest()
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(taken.crop_SS3.astype(int) - expected).max() <= 2  # two JPEG decoders may round differently
    reader.close()


def test_the_list_has_the_names_of_the_tutorial(tmp_path: Path) -> None:
    names = tuple(
        f"{who}/S001/L1/E01/C{camera}.jpg" for who in ("19062531", "19062532", "19070101") for camera in (6, 10)
    )
    prepared = open_prepared(tiny_set(tmp_path / "set", train_people=2, val_people=1, images=2, names=names))
    # tiny_set calls its people p000..., so the name's own folder stays in the file's name
    export_rec(prepared.train, tmp_path / "train", layout="im2rec")
    assert (tmp_path / "train.lst").read_text().splitlines() == [
        "0\t0.000000\tp000/p000_19062531_S001_L1_E01_C10.jpg",  # im2rec sorts names as text: C10 before C6
        "1\t0.000000\tp000/p000_19062531_S001_L1_E01_C6.jpg",
        "2\t1.000000\tp001/p001_19062532_S001_L1_E01_C10.jpg",
        "3\t1.000000\tp001/p001_19062532_S001_L1_E01_C6.jpg",
    ]
    assert prepared.val is not None
    export_rec(prepared.val, tmp_path / "val")
    assert not (tmp_path / "property").exists()
    assert (tmp_path / "val.lst").read_text().startswith("1\t0.000000\t")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("19062531/S001/L1/E01/C6.jpg", "19062531/19062531_S001_L1_E01_C6.jpg"),
        ("19062531/a.JPG", "19062531/19062531_a.JPG"),
        ("19062531/a.png", "19062531/19062531_a.png.jpg"),
        ("elsewhere/a.jpg", "19062531/19062531_elsewhere_a.jpg"),
    ],
)
def test_names_in_the_list(name: str, expected: str) -> None:
    assert lst_name(name, "19062531") == expected


def test_a_subject_without_images_has_no_range_of_keys(tmp_path: Path) -> None:
    folder = tiny_set(tmp_path / "set", train_people=2, images=2)
    np.save(folder / "labels.npy", np.array([1, 1, 1, 1, 0, 0, 1, 1], dtype=np.int32))
    with pytest.raises(DataError, match="p000 has no image in train"):
        export_rec(open_prepared(folder).train, tmp_path / "train")


def test_subjects_are_sorted_whatever_the_order(tmp_path: Path) -> None:
    source = open_rec_source(made(tmp_path, [png()] * 4, [2, 0, 12345678, 2]))
    assert list(source.items) == [
        Item("00000000/00000001.jpg", "00000000"),
        Item("00000002/00000000.jpg", "00000002"),
        Item("00000002/00000003.jpg", "00000002"),
        Item("12345678/00000002.jpg", "12345678"),
    ]
    assert source.items[1:3] == list(source.items)[1:3]
    assert [item.subject for item in source.items] == sorted(item.subject for item in source.items)


def test_what_is_no_crop_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    images = [png(), b"", b"no image", png(100), png()[:60], encode_crop(noise)[:-3000]]
    reader = open_rec_source(made(tmp_path, images, [0] * 6)).open()
    taken = [reader.take(row) for row in range(6)]
    assert isinstance(taken[0], Taken)
    assert taken[1:] == [
        "is empty (0 bytes)",
        "is no image that can be decoded",
        "is not an aligned crop (has 100x100 pixels, not 112x112)",
        "is damaged or cut short",
        "is damaged or cut short",
    ]


def test_a_grey_crop_becomes_rgb() -> None:
    content = io.BytesIO()
    Image.new("L", (112, 112), 77).save(content, "PNG")
    crop = decode_crop(content.getvalue(), 112, "grey.png")
    assert isinstance(crop, np.ndarray)
    assert crop.shape == (112, 112, 3)
    assert (crop == 77).all()


def test_labels_that_are_no_subjects_are_named(tmp_path: Path) -> None:
    labels = [0.0, -1.0, 2.5, float("nan"), 3.0]
    content, lines = b"", ""
    for key, label in enumerate(labels):
        lines += f"{key}\t{len(content)}\n"
        content += encode(HEADER.pack(0, label, key, 0) + png())
    (tmp_path / "train.rec").write_bytes(content)
    (tmp_path / "train.idx").write_text(lines)
    source = open_rec_source(tmp_path / "train.rec")
    assert [item.name for item in source.items] == ["0000000/00000000.jpg", "0000003/00000004.jpg"]
    assert sorted(source.refused) == ["00000001.jpg", "00000002.jpg", "00000003.jpg"]
    assert source.refused["00000002.jpg"] == "its label is no subject's number (is 2.5, whole numbers from 0 are)"
    assert source.expected == len(source.items) + len(source.refused)


def test_no_usable_label_at_all(tmp_path: Path) -> None:
    (tmp_path / "train.rec").write_bytes(encode(HEADER.pack(0, -1, 0, 0) + png()))
    with pytest.raises(DataError, match="none of its 1 images has a label"):
        open_rec_source(tmp_path / "train.rec")


def test_a_record_damaged_behind_its_beginning(tmp_path: Path) -> None:
    path = made(tmp_path, [bytes(96) + bytes.fromhex("0a23d7ce") + bytes(40), png()], [0, 1])
    content = bytearray(path.read_bytes())
    content[128] ^= 0xFF  # the second part's magic
    path.write_bytes(bytes(content))
    reader = open_rec_source(path).open()
    assert "its record is damaged" in str(reader.take(0))
    assert isinstance(reader.take(1), Taken)


def test_the_digest_follows_the_file_and_the_way_of_cropping(tmp_path: Path) -> None:
    path = made(tmp_path, [png(), png()], [0, 1])
    first = open_rec_source(path).digest
    assert open_rec_source(path).digest == first
    assert open_rec_source(path, template="eyes_112").digest != first
    made(tmp_path, [png(), png(), png()], [0, 1, 1])
    assert open_rec_source(path).digest != first


@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_are_a_crop_or_a_reason(content: bytes, cut: int) -> None:
    for data in (content, png()[:cut] + content, encode_crop(np.zeros((112, 112, 3), np.uint8))[: cut * 10] + content):
        crop = decode_crop(data, 112, "any")
        assert isinstance(crop, str) or crop.shape == (112, 112, 3)


@pytest.mark.parametrize("layout", ["recbuilder", "im2rec"])
class TestOfMxnet:
    pytestmark = needs_shared

    def test_photos_of_another_size_are_refused_one_by_one(self, layout: str) -> None:
        source = open_rec_source(SHARED / "recordio" / layout / "train.rec")
        reader = source.open()
        reasons = {reader.take(row) for row in range(len(source.items))}
        assert reasons == {"is not an aligned crop (has 150x150 pixels, not 112x112)"}

    def test_photos_as_crops_of_their_size(self, layout: str) -> None:
        reader = open_rec_source(SHARED / "recordio" / layout / "train.rec", template="dlib_chip_150").open()
        taken = reader.take(54)
        assert isinstance(taken, Taken)
        assert taken.crop_SS3.shape == (150, 150, 3)
