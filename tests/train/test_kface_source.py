"""K-FACE trees of every form and with every damage: what is promised is either a crop or named."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.train.kface_tree import IMAGE_DAMAGE, ids, write_tree
from train.errors import ConfigError, DataError
from train.kface.codes import parse_name
from train.kface.source import KFaceSource, open_kface
from train.source import Taken

PEOPLE = ids(12)
SMALL = ((1,), (1, 3), (1,), (6, 7))
SMALL_TEXT = "S1/L1,3/E1/C6,7"


def all_of(source: KFaceSource) -> dict[str, Taken | str]:
    reader = source.open()
    taken = {item.name: reader.take(place) for place, item in enumerate(source.items)}
    reader.close()
    return taken


def images(refused: dict[str, str]) -> dict[str, str]:
    return {name: why for name, why in refused.items() if parse_name(name)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain")
    write_tree(root, people=3, select=SMALL)
    return root


def test_every_form_of_a_tree_gives_the_same_crops(plain: Path, tmp_path: Path) -> None:
    expected = all_of(open_kface(plain, SMALL_TEXT))
    assert len(expected) == 12
    for form, nested in (("zip_of_zips", "stored"), ("zip_of_zips", "deflated"), ("extracted", "stored")):
        root = tmp_path / f"{form}-{nested}"
        write_tree(root, people=3, select=SMALL, form=form, nested=nested)  # type: ignore[arg-type]
        for place in (root, next(root.iterdir())):
            taken = all_of(open_kface(place, SMALL_TEXT))
            assert list(taken) == list(expected)
            for name, other in taken.items():
                own = expected[name]
                assert isinstance(own, Taken)
                assert isinstance(other, Taken)
                assert (own.sha256, own.crop_SS3.tobytes()) == (other.sha256, other.crop_SS3.tobytes())


def test_a_source_is_in_order_and_travels(plain: Path) -> None:
    told: list[tuple[int, int]] = []
    source = open_kface(plain, SMALL_TEXT, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    names = [item.name for item in source.items]
    assert names[:5] == [
        f"{PEOPLE[0]}/S001/L1/E01/C6.jpg",
        f"{PEOPLE[0]}/S001/L1/E01/C7.jpg",
        f"{PEOPLE[0]}/S001/L3/E01/C6.jpg",
        f"{PEOPLE[0]}/S001/L3/E01/C7.jpg",
        f"{PEOPLE[1]}/S001/L1/E01/C6.jpg",
    ]
    assert [item.subject for item in source.items] == [name[:8] for name in names]
    assert source.items[-1] == source.items[len(source.items) - 1]
    assert source.items[2:4] == [source.items[2], source.items[3]]
    with pytest.raises(IndexError):
        source.items[12]
    other = pickle.loads(pickle.dumps(source))
    assert [item.name for item in other.items] == names
    assert (other.digest, other.expected, other.size, other.template) == (source.digest, 12, 112, "arcface_112")
    assert source.facts["select"] == "S1/L1,3/E1/C6-7"
    assert len(pickle.dumps(source)) < 10_000


def test_the_digest_is_of_contents_and_of_the_way_of_cropping(plain: Path, tmp_path: Path) -> None:
    source = open_kface(plain, SMALL_TEXT)
    copied = tmp_path / "elsewhere"
    shutil.copytree(plain, copied)
    assert open_kface(copied, SMALL_TEXT).digest == source.digest
    assert open_kface(plain, SMALL_TEXT, crop="box").digest != source.digest
    assert open_kface(plain, "S1/L1/E1/C6,7").digest != source.digest
    write_tree(copied, people=PEOPLE[:1], select=SMALL, damage={f"{PEOPLE[0]}/S001/L1/E01/C7.jpg": "moved"})
    assert open_kface(copied, SMALL_TEXT).digest != source.digest


PERSON_CASES = {
    "truncated": "zip unusable ({id}.zip: is cut short)",
    "not_a_zip": "zip unusable ({id}.zip: is no zip)",
    "twice": "person in two zips that differ ({id}.zip and {id} (1).zip; keep one)",
    "no_txt": "annotation missing",
    "encrypted": "encrypted in the zip (unpack it with its password)",
    "copy": None,
    "cp949": None,
    "slip": None,
}


@pytest.fixture(scope="module", params=["zips", "zip_of_zips"])
def damaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> KFaceSource:
    root = tmp_path_factory.mktemp("damaged")
    damage = dict(zip(PEOPLE, PERSON_CASES, strict=False))
    write_tree(root, people=len(PERSON_CASES) + 1, select=SMALL, damage=damage, form=request.param)
    return open_kface(root, SMALL_TEXT)


def test_every_damage_of_a_person_is_named(damaged: KFaceSource) -> None:
    taken = all_of(damaged)
    reasons = {name: answer for name, answer in taken.items() if isinstance(answer, str)} | images(
        dict(damaged.refused)
    )
    crops = [name for name, answer in taken.items() if isinstance(answer, Taken)]
    assert len(crops) + len(reasons) == damaged.expected == 4 * len(damaged.homes)
    for subject, (_, reason) in zip(PEOPLE, PERSON_CASES.items(), strict=False):
        own = Counter(why for name, why in reasons.items() if name.startswith(subject))
        nested = f"Middle_Resolution.zip:Middle_Resolution/{subject}"
        expected = reason and reason.format(id=subject)
        answers = {expected, expected and expected.replace(subject, nested)}
        assert own == {} if expected is None else set(own.values()) == {4} and set(own) <= answers, (subject, own)
    others = {name: why for name, why in damaged.refused.items() if not parse_name(name)}
    assert Counter(why.partition(" (")[0] for why in others.values()) == {
        "second zip of a person": 1,
        "never read": 2,
    }
    assert any(name.endswith(":../../../escaped.jpg") for name in others)


IMAGE_CASES = {
    "missing": "missing",
    "empty": "image cannot be decoded",
    "broken_jpg": "image cannot be decoded",
    "crc": "damaged in the zip (wrong checksum)",
    "bomb": "too large in the zip (it claims 67108864 bytes",
    "lying_bomb": "damaged in the zip (claims 1000 bytes and holds more)",
    "encrypted": "encrypted in the zip",
    "twice": "in the zip 2 times with different contents",
    "other_size": "image of another size (864x576",
    "no_txt": "annotation missing",
    "short_txt": "annotation lacks a line (13 lines, camera C7 has 14)",
    "no_point": "annotation lacks a point",
    "no_face_box": "annotation lacks a line",
    "long_txt": "annotation has a line too many",
    "words_txt": "annotation holds something else than numbers",
    "big_txt": "too large in the zip",
    "wild_coordinates": "annotation of another image",
    "out_of_frame": "face out of the frame",
    "high_coordinates": None,
    "low_coordinates": None,
    "moved": None,
}


def test_every_damage_of_an_image_is_named(tmp_path: Path) -> None:
    assert set(IMAGE_CASES) == set(IMAGE_DAMAGE)
    names = [f"{subject}/S001/L{light}/E01/C7.jpg" for subject in PEOPLE for light in (1, 3)]
    damage = dict(zip(names, IMAGE_CASES, strict=False))
    write_tree(tmp_path, people=11, select=((1,), (1, 3), (1,), (7,)), damage=damage)
    source = open_kface(tmp_path, "S1/L1,3/E1/C7")
    taken = all_of(source)
    reasons: dict[str, Taken | str] = {**source.refused, **taken}
    assert len(reasons) == source.expected == 22
    for name, kind in damage.items():
        expected, got = IMAGE_CASES[kind], reasons[name]
        assert got.startswith(expected) if isinstance(got, str) and expected else isinstance(got, Taken), (kind, got)
    undamaged = open_kface(write_plain(tmp_path / "plain"), "S1/L1,3/E1/C7")
    whole = all_of(undamaged)
    for kind in ("high_coordinates", "low_coordinates"):
        name = next(name for name, own in damage.items() if own == kind)
        rescaled, own = taken[name], whole[name]
        assert isinstance(rescaled, Taken)
        assert isinstance(own, Taken)
        assert np.abs(rescaled.crop_SS3.astype(float) - own.crop_SS3).mean() < 12


def write_plain(root: Path) -> Path:
    write_tree(root, people=11, select=((1,), (1, 3), (1,), (7,)))
    return root


def test_lent_landmarks_serve_other_lights_and_accessories(tmp_path: Path) -> None:
    moved = {f"{PEOPLE[1]}/S003/L1/E01/C7.jpg": "moved", f"{PEOPLE[2]}/S001/L1/E01/C7.jpg": "no_txt"}
    select = ((1, 2, 3), (1, 2, 3), (1,), (7, 8))
    write_tree(tmp_path, people=3, select=select, damage=moved)
    text = "S1-3/L1-3/E1/C7,8"
    with pytest.raises(ConfigError, match=r"nobody has landmarks, as of S001/L2/E01/C7; .* add --reuse-landmarks"):
        open_kface(tmp_path, text)
    source = open_kface(tmp_path, text, reuse_landmarks=True)
    assert (len(source.items), source.refused) == (54, {})
    refused = {name: why for name, why in all_of(source).items() if isinstance(why, str)}
    assert set(refused) == {f"{PEOPLE[1]}/S003/L{light}/E01/C7.jpg" for light in (1, 2, 3)}
    assert all(why.startswith("head has moved since its landmarks were taken (by") for why in refused.values())


def test_missing_people_promise_nothing_and_unusable_sets_say_so(tmp_path: Path) -> None:
    write_tree(tmp_path, people=2, select=SMALL, damage={PEOPLE[0]: "no_txt", PEOPLE[1]: "no_txt"})
    with pytest.raises(DataError, match=r"no image of the selection can be used: \d{8}/S001/L1/E01/C6.jpg: annotation"):
        open_kface(tmp_path, SMALL_TEXT)
    with pytest.raises(ConfigError, match="--crop is 'face'"):
        open_kface(tmp_path, SMALL_TEXT, crop="face")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="known are high, middle, low"):
        open_kface(tmp_path, SMALL_TEXT, resolution="tiny")


def test_the_box_needs_no_pixel_of_the_aligned_crop(plain: Path) -> None:
    source = open_kface(plain, SMALL_TEXT, crop="box")
    taken = all_of(source)
    assert source.template == "kface_box"
    aligned = all_of(open_kface(plain, SMALL_TEXT))
    for name, answer in taken.items():
        other = aligned[name]
        assert isinstance(answer, Taken)
        assert isinstance(other, Taken)
        assert answer.sha256 == other.sha256
        assert not np.array_equal(answer.crop_SS3, other.crop_SS3)


def test_a_zip_that_vanishes_is_one_sentence(plain: Path, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    shutil.copytree(plain, root)
    source = open_kface(root, SMALL_TEXT)
    (root / "Middle_Resolution" / f"{PEOPLE[0]}.zip").unlink()
    reader = source.open()
    with pytest.raises(DataError, match="cannot be read"):
        reader.take(0)
    assert isinstance(reader.take(4), Taken)
    reader.close()
    reader.close()


# --- where people are found ----------------------------------------------------------------------------------------


def test_a_tree_is_found_a_folder_deeper_and_in_a_single_zip(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "download" / "K-FACE")
    assert len(open_kface(tmp_path / "download", SMALL_TEXT).items) == 12
    alone = plain / "Middle_Resolution" / f"{PEOPLE[1]}.zip"
    assert {item.subject for item in open_kface(alone, SMALL_TEXT).items} == {PEOPLE[1]}
    unnamed = tmp_path / "unnamed"
    shutil.copytree(plain / "Middle_Resolution", unnamed)
    (unnamed / "readme.zip").write_bytes(b"")
    source = open_kface(unnamed, SMALL_TEXT)
    assert source.refused == {"readme.zip": "begins with no K-FACE id of eight digits"}


def test_what_was_unpacked_is_not_read_twice(plain: Path, tmp_path: Path) -> None:
    root = tmp_path / "both"
    write_tree(root, people=3, select=SMALL, form="zip_of_zips")
    shutil.copytree(plain / "Middle_Resolution", root / "Middle_Resolution")
    write_tree(root, people=1, select=SMALL, form="extracted")
    (root / "Middle_Resolution" / f"{PEOPLE[2]}.zip").unlink()
    source = open_kface(root, SMALL_TEXT)
    assert len(source.items) == source.expected == 12
    assert Counter(source.refused.values()) == {
        "unpacked beside it, which is read": 2,
        "unpacked beside its zip, which is read": 1,
    }
    assert source.homes[2].member is not None


def test_the_wrong_place_is_one_sentence(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_kface(tmp_path / "missing")
    with pytest.raises(DataError, match=r"nobody of K-FACE in it; Middle_Resolution/19062531.zip"):
        open_kface(tmp_path)
    with pytest.raises(ConfigError, match="add --resolution middle"):
        open_kface(plain, resolution="high")
    with pytest.raises(ConfigError, match="add --resolution middle"):
        open_kface(plain / "Middle_Resolution", resolution="low")
    flat = tmp_path / "Middle_Resolution.zip"
    with zipfile.ZipFile(flat, "w") as file:
        file.writestr(f"Middle_Resolution/{PEOPLE[0]}/S001/L1/E01/C7.jpg", b"")
    with pytest.raises(DataError, match="holds folders of people, not a zip for each"):
        open_kface(flat)


def test_another_persons_images_in_a_zip_are_not_taken_for_his(tmp_path: Path) -> None:
    home = tmp_path / "Middle_Resolution"
    write_tree(tmp_path, people=2, select=SMALL)
    with zipfile.ZipFile(home / f"{PEOPLE[0]}.zip") as file:
        content = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(home / f"{PEOPLE[0]}.zip", "w") as file:
        for name, data in content.items():
            file.writestr(f"{PEOPLE[1] if 'C6' in name else PEOPLE[0]}/{name}", data)
    source = open_kface(tmp_path, SMALL_TEXT)
    missing = [name for name, why in source.refused.items() if why == "missing"]
    assert missing == [f"{PEOPLE[0]}/S001/L{light}/E01/C6.jpg" for light in (1, 3)]
    assert source.refused[f"{PEOPLE[0]}.zip:{PEOPLE[1]}/"] == "never read (it belongs to another person)"
    assert len(source.items) == 6


@pytest.mark.parametrize("resolution", ["High", "Low"])
def test_other_resolutions(tmp_path: Path, resolution: str) -> None:
    write_tree(tmp_path, people=2, select=((1,), (1,), (1,), (7,)), resolution=resolution)  # type: ignore[arg-type]
    taken = all_of(open_kface(tmp_path, "S1/L1/E1/C7", resolution=resolution.lower()))
    assert [type(answer) for answer in taken.values()] == [Taken, Taken]
