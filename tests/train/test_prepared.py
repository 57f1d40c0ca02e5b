"""Opening a prepared set: what it gives, and every damage to every one of its files in one sentence."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.sets import tiny_set
from train.errors import DataError
from train.prepared import (
    CROPS,
    IMAGES,
    LABELS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SCHEMA,
    SetManifest,
    is_prepared,
    open_prepared,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """4 people of 5 images to train on, 2 kept back."""
    return tiny_set(tmp_path / "set", size=16)


def change_manifest(folder: Path, **values: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **values}))


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_prepared(folder)
    return str(caught.value)


def test_both_splits(folder: Path) -> None:
    prepared = open_prepared(folder)
    crops, labels = np.load(folder / CROPS), np.load(folder / LABELS)
    assert prepared.val is not None
    assert (len(prepared.train), len(prepared.val)) == (20, 10)
    assert (prepared.train.crops_NSS3 == crops[:20]).all()
    assert (prepared.val.crops_NSS3 == crops[20:]).all()
    assert prepared.train.labels_N.tolist() == labels[:20].tolist()
    assert prepared.val.labels_N.tolist() == [0] * 5 + [1] * 5
    assert prepared.train.labels_N.dtype == np.int64
    assert prepared.train.subjects == ("p000", "p001", "p002", "p003")
    assert prepared.val.subjects == ("p004", "p005")
    assert prepared.train.names[6] == "p001/0001.jpg"
    assert prepared.val.names[0] == "p004/0000.jpg"


def test_crops_are_mapped_and_cannot_be_written(folder: Path) -> None:
    crops = open_prepared(folder).train.crops_NSS3
    assert isinstance(crops, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        crops[0] = 0


def test_a_set_without_val(tmp_path: Path) -> None:
    assert open_prepared(tiny_set(tmp_path / "set", val_people=0, size=16)).val is None


def test_what_is_a_prepared_set(folder: Path, tmp_path: Path) -> None:
    assert is_prepared(folder)
    assert not is_prepared(tmp_path)
    (folder / MANIFEST).unlink()
    assert not is_prepared(folder)


@pytest.mark.parametrize("name", [CROPS, LABELS])
@pytest.mark.parametrize(
    "damage", ["missing", "empty", "cut short", "nonsense", "a null byte", "objects", "another shape"]
)
def test_damaged_arrays(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "objects":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "another shape":
        np.save(path, np.load(path)[:-1])
    else:
        null = content[:71] + b"\0" + content[72:]  # numpy's own reader fails on it with another error
        path.write_bytes({"empty": b"", "cut short": content[:-1], "nonsense": b"no", "a null byte": null}[damage])
    message = refusal(folder)
    assert str(path) in message
    assert "prepare" in message


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(30), "should hold 30 labels"),
        (np.array([0] * 7 + [4] + [0] * 22), "row 7 has label 4, train has subjects 0 to 3"),
        (np.array([-1] + [0] * 29), "row 0 has label -1, train has subjects 0 to 3"),
        (np.array([0] * 29 + [2]), "row 29 has label 2, val has subjects 0 to 1"),
    ],
)
def test_labels_out_of_range(folder: Path, labels: Any, message: str) -> None:
    np.save(folder / LABELS, labels)
    assert message in refusal(folder)


def test_crops_of_another_kind(folder: Path) -> None:
    np.save(folder / CROPS, np.load(folder / CROPS).astype(np.float32))
    assert "holds float32 of shape (30, 16, 16, 3), its manifest promises 30 crops of 16x16" in refusal(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_rows": 21}, "its manifest promises 31 crops"),
        ({"size": 112}, "crops of 112x112"),
        ({"schema": SCHEMA + 1}, f"has schema {SCHEMA + 1}, this version reads up to {SCHEMA}"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"val_subjects": ["p003", "p004"]}, "p003 is in train and in val; splits must share nobody"),
        ({"train_subjects": ["p000"]}, "row 5 has label 1, train has subjects 0 to 0"),
        ({"train_subjects": None}, "cannot be read"),
        ({"schema": "1"}, "cannot be read"),
        ({"train_rows": "20"}, "cannot be read"),
        ({"train_rows": -5, "val_rows": 35}, "train_rows is -5"),
        ({"val_rows": None}, "cannot be read"),
        ({"size": 16.0}, "size is 16.0, a whole number is needed"),
        ({"refused": True}, "refused is True"),
        ({"digest": 5}, "digest is 5, text is needed"),
        ({"facts": []}, "facts is no table"),
    ],
)
def test_manifests_that_say_something_else(folder: Path, values: dict[str, Any], message: str) -> None:
    change_manifest(folder, **values)
    assert message in refusal(folder)


@pytest.mark.parametrize("missing", ["digest", "size", "train_rows", "train_subjects"])
def test_manifests_with_a_field_missing(folder: Path, missing: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest[missing]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert missing in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '"text"', "[" * 100_000, "\0", '{"schema": NaN}'])
def test_manifests_that_are_none(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    assert "prepare the set again" in refusal(folder)


def test_a_manifest_of_another_kind_of_file(folder: Path) -> None:
    with (folder / MANIFEST).open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    assert "too large for a manifest" in refusal(folder)


def test_no_set_at_all(folder: Path, tmp_path: Path) -> None:
    assert "no such folder; make one with" in refusal(tmp_path / "nowhere")
    (folder / MANIFEST).unlink()
    assert "it is no finished set; (re)start" in refusal(folder)


def without_lines(folder: Path, lines: slice) -> None:
    kept = (folder / IMAGES).read_text().splitlines(keepends=True)[lines]
    (folder / IMAGES).write_text("".join(kept))


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / IMAGES).unlink(),
        lambda folder: (folder / IMAGES).write_text('{"name": "a"'),
        lambda folder: (folder / IMAGES).write_text('["name"]\n' * 30),
        lambda folder: (folder / IMAGES).write_text('{"sha256": ""}\n' * 30),
        lambda folder: (folder / IMAGES).write_bytes(b"\xff\xfe" * 30),
        lambda folder: without_lines(folder, slice(0, 19)),
    ],
    ids=["missing", "no JSON", "a list", "no name", "no text", "cut short"],
)
def test_damaged_names_are_told_when_names_are_asked_for(folder: Path, harm: Callable[[Path], object]) -> None:
    harm(folder)
    train = open_prepared(folder).train
    with pytest.raises(DataError, match=r"images\.jsonl.*prepare the set again"):
        _ = train.names


def test_the_manifest_goes_through_json() -> None:
    manifest = SetManifest(
        name="한국어",
        template="arcface_112",
        size=112,
        train_rows=1,
        val_rows=0,
        train_subjects=("홍길동",),
        val_subjects=(),
        expected=None,
        refused=0,
        facts={"kind": "test"},
        digest="0" * 64,
    )
    assert "홍길동" in manifest.to_json()
    assert json.loads(manifest.to_json())["train_subjects"] == ["홍길동"]


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from([MANIFEST, CROPS, LABELS, IMAGES]),
    damage=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 900),
)
def test_damage_is_named_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, name: str, damage: list[tuple[int, int]], cut: int
) -> None:
    folder = tiny_set(tmp_path_factory.mktemp("p") / "set", train_people=2, val_people=1, images=2, size=4)
    content = bytearray((folder / name).read_bytes())
    for place, value in damage:
        content[place % len(content)] = value
    (folder / name).write_bytes(bytes(content[: max(len(content) - cut, 0)]))
    with contextlib.suppress(DataError):
        prepared = open_prepared(folder)
        for split in (prepared.train, prepared.val):
            if split is not None:
                assert len(split.names) == len(split) == len(split.crops_NSS3)
                assert set(split.labels_N.tolist()) <= set(range(len(split.subjects)))
