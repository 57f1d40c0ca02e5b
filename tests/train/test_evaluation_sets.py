"""Sets to measure on, in every form they come in."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import EngineError
from tests.paths import SHARED
from tests.train.sets import tiny_set
from train.errors import DataError
from train.evaluation.sets import from_split, names_list, open_verification
from train.prepared import IMAGES, REFUSED, open_prepared
from train.recordio.verification_bin import write_bin

TEMPLATE, SIZE = "arcface_112", 112


def opened(spec: Path | str, template: str = TEMPLATE, size: int = SIZE):  # type: ignore[no-untyped-def]
    return open_verification(str(spec), template=template, size=size)


def people_as_images(folder: Path, prepared: Path) -> Path:
    """The val split of a prepared set as a folder a person."""
    val = open_prepared(prepared).val
    assert val is not None
    for crop, name in zip(val.crops_NSS3, val.names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str((folder / name).with_suffix(".png")), crop[:, :, ::-1])
    return folder


def test_the_people_kept_back_of_a_prepared_set(tmp_path: Path) -> None:
    prepared = tiny_set(tmp_path / "set", val_people=3, images=4)
    lines = [{"name": "p005/9.jpg", "reason": "no face"}, {"name": "p001/9.jpg", "reason": "of a train person"}]
    (prepared / REFUSED).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = opened(prepared)
    assert found.name == "set val"
    assert (len(found), found.pairs) == (12, None)
    assert found.people is not None
    assert sorted(set(found.people)) == ["p004", "p005", "p006"]
    assert found.names[0] == "p004/0000.jpg"
    assert found.faces.failures == {"p005/9.jpg": "no face"}
    assert isinstance(found.faces.faces_NSS3, np.memmap)
    val = open_prepared(prepared).val
    assert val is not None
    assert np.array_equal(found.crops(3, 9), val.crops_NSS3[3:9])
    assert not isinstance(found.crops(3, 9), np.memmap)


def test_crops_of_scattered_rows(tmp_path: Path) -> None:
    prepared = tiny_set(tmp_path / "set", images=4)
    (tmp_path / "list.txt").write_text("p004/0001.jpg p004/0003.jpg 1\np000/0002.jpg p001/0000.jpg 0\n")
    found = opened(f"{prepared},{tmp_path / 'list.txt'}")
    assert found.names == ("p000/0002.jpg", "p001/0000.jpg", "p004/0001.jpg", "p004/0003.jpg")  # of both splits
    assert found.people == ("p000", "p001", "p004", "p004")
    whole = np.load(prepared / "crops.npy")
    assert np.array_equal(found.crops(0, 9), whole[[2, 4, 17, 19]])
    assert len(found.crops(4, 9)) == 0


def test_images_that_a_prepared_set_refused_stay_in_the_list(tmp_path: Path) -> None:
    prepared = tiny_set(tmp_path / "set", images=4)
    (prepared / REFUSED).write_text(json.dumps({"name": "p004/0009.jpg", "reason": "out of frame"}) + "\n")
    (tmp_path / "list.txt").write_text("p004/0001.jpg p004/0009.jpg 1\np000/0002.jpg p001/0000.jpg 0\n")
    found = opened(f"{prepared},{tmp_path / 'list.txt'}")
    assert found.failed_keys == ("p004|0009",)
    assert found.faces.failures == {"p004/0009.jpg": "out of frame"}


def test_a_damaged_list_of_refused_images_is_said(tmp_path: Path) -> None:
    prepared = tiny_set(tmp_path / "set")
    (prepared / REFUSED).write_text("no json\n")
    with pytest.raises(DataError, match=r"refused\.jsonl: cannot be read"):
        opened(prepared)


def test_a_prepared_set_for_another_model_is_refused(tmp_path: Path) -> None:
    prepared = tiny_set(tmp_path / "set")
    with pytest.raises(
        DataError, match="its crops are arcface_112 of 112 pixels, the model takes dlib_chip_150 of 150"
    ):
        opened(prepared, "dlib_chip_150", 150)


def test_a_set_that_keeps_nobody_or_one_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="keeps nobody back"):
        opened(tiny_set(tmp_path / "none", val_people=0))
    one = tiny_set(tmp_path / "one", val_people=1)
    with pytest.raises(DataError, match="val shows one person"):
        opened(one)
    assert len(from_split(open_prepared(one), "train")) == 20


def test_so_many_photos_that_their_comparisons_cannot_be_held_are_thinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = open_prepared(tiny_set(tmp_path / "set", val_people=3, images=9))
    assert len(from_split(prepared)) == 27
    monkeypatch.setattr("train.evaluation.sets.MOST_MATED", 40)  # 3 * 36 are there
    found = from_split(prepared)
    assert found.rows_N.tolist() == [0, 2, 4, 6, 8, 9, 11, 13, 15, 17, 18, 20, 22, 24, 26]
    assert found.faces.source == "set: 15 of 27 crops of people kept back, evenly at most 5 of each"
    assert found.people == ("p004",) * 5 + ("p005",) * 5 + ("p006",) * 5
    assert found.names[1] == "p004/0002.jpg"


def test_a_folder_a_person_is_compared_all_with_all(tmp_path: Path) -> None:
    folder = people_as_images(tmp_path / "people", tiny_set(tmp_path / "set", val_people=3, images=2))
    found = opened(folder)
    assert (len(found), found.pairs) == (6, None)
    assert found.people == ("p004", "p004", "p005", "p005", "p006", "p006")


def test_a_folder_that_does_not_say_who_is_who_is_refused(tmp_path: Path) -> None:
    folder = people_as_images(tmp_path / "people", tiny_set(tmp_path / "set", val_people=2, images=2))
    with pytest.raises(DataError, match="does not say who is who"):
        opened(folder / "p004")


def test_in_a_tree_of_kface_the_person_is_the_first_folder(tmp_path: Path) -> None:
    names = [f"{person}/S001/L1/E{e:02d}/C7.jpg" for person in ("19062421", "19062531") for e in (1, 2)]
    prepared = tiny_set(tmp_path / "set", val_people=2, images=2)
    val = open_prepared(prepared).val
    assert val is not None
    for crop, name in zip(val.crops_NSS3, names, strict=True):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "tree" / name), crop[:, :, ::-1])
    found = opened(tmp_path / "tree")
    assert found.people == ("19062421", "19062421", "19062531", "19062531")
    (tmp_path / "list.txt").write_text(f"{names[0]} {names[1]} 1\n{names[0]} {names[2]} 0\n")
    listed = opened(f"{tmp_path / 'tree'},{tmp_path / 'list.txt'}")
    assert listed.names == tuple(names[:3])
    assert listed.people == ("19062421", "19062421", "19062531")


def test_lists_in_the_form_of_lfw(tmp_path: Path) -> None:
    prepared = tiny_set(
        tmp_path / "set", images=2, names=tuple(f"a{k}/a{k}_{n:04d}.jpg" for k in range(6) for n in (1, 2))
    )
    (tmp_path / "pairs.txt").write_text("1\t2\na0\t1\t2\na1\t1\t2\na0\t1\ta1\t1\na5\t2\ta1\t2\n")
    found = opened(f"{prepared},{tmp_path / 'pairs.txt'}")
    assert found.keys == ("a0_0001", "a0_0002", "a1_0001", "a1_0002", "a5_0002")
    assert found.name == "set, pairs.txt"


def test_insightface_files(tmp_path: Path) -> None:
    val = open_prepared(tiny_set(tmp_path / "set", val_people=3, images=4)).val
    assert val is not None
    images = [cv2.imencode(".png", crop[:, :, ::-1])[1].tobytes() for crop in val.crops_NSS3]
    pairs = [(images[k], images[k + 1], True) for k in (0, 1, 4, 8)] + [
        (images[k], images[k + 4], False) for k in (0, 3)
    ]
    write_bin(tmp_path / "own.bin", pairs)
    found = opened(tmp_path / "own.bin")
    assert found.people is None
    assert found.pairs is not None
    assert len(found.pairs.photos) == 6
    assert len(found) == len({image for pair in pairs for image in pair[:2]})  # each photo once
    assert np.array_equal(found.crops(0, 1)[0], val.crops_NSS3[0])
    with pytest.raises(DataError, match="aligned to arcface_112"):
        opened(tmp_path / "own.bin", "dlib_chip_150", 150)
    with pytest.raises(DataError, match="holds its own pairs"):
        opened(f"{tmp_path / 'own.bin'},{tmp_path / 'own.bin'}")


def test_a_bin_that_is_an_exploit_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "evil.bin"
    path.write_bytes(b"cposix\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR.")
    with pytest.raises(DataError):
        opened(path)
    assert not (tmp_path / "pwned").exists()


def test_a_bin_without_a_usable_image_is_refused(tmp_path: Path) -> None:
    write_bin(tmp_path / "bad.bin", [(b"no", b"image", True), (b"not", b"one", False)])
    with pytest.raises(DataError, match="no image can be used"):
        opened(tmp_path / "bad.bin")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("nowhere,list.txt", "no folder or tar of photos 'nowhere'"),
        (".,nowhere.txt", "no list of pairs 'nowhere.txt'"),
    ],
)
def test_what_is_not_there_is_said(spec: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words):
        opened(spec)


def test_a_list_of_other_images_names_its_first(tmp_path: Path) -> None:
    prepared = tiny_set(tmp_path / "set")
    (tmp_path / "list.txt").write_text("x/1.jpg x/2.jpg 1\n")
    with pytest.raises(DataError, match=r"none of its images is in set \(its first is x/1\.jpg\)"):
        opened(f"{prepared},{tmp_path / 'list.txt'}")
    with pytest.raises(EngineError, match=r"none of the photos|no crop"):
        opened(f"{people_as_images(tmp_path / 'people', prepared)},{tmp_path / 'list.txt'}")


def test_a_comma_in_a_folder_is_no_list(tmp_path: Path) -> None:
    prepared = tiny_set(tmp_path / "one, two")
    assert len(opened(prepared)) == 10
    assert not names_list(str(prepared))
    assert names_list("a,b")
    assert names_list("a.bin")


def test_names_are_read_only_where_they_are_needed(tmp_path: Path) -> None:
    prepared = tiny_set(tmp_path / "set")
    (prepared / IMAGES).write_text("")
    with pytest.raises(DataError, match="fewer images"):
        opened(prepared)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="measurement data (../shared/data) is not here")
def test_the_real_small_bin() -> None:
    found = opened(SHARED / "lfw" / "small_lfw.bin")
    assert found.pairs is not None
    assert len(found.pairs.photos) == 10
    assert found.crops(0, 20).shape == (17, 112, 112, 3)  # three images are there twice
