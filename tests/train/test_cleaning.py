"""Wrong labels: angles against their definition, the set's own limit, who is dropped, and the set without them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.train.sets import tiny_set
from train.cleaning.angles import CHUNK, angles_to, centred, measure, nearest_class, strangers, unit
from train.cleaning.applying import apply
from train.cleaning.centres import fit_centres
from train.cleaning.drops import Cleaning, drop_list
from train.cleaning.limits import limit_at, own_limit, wrong_share
from train.cleaning.run import centres_of, clean
from train.cleaning.sheet import drop_sheet
from train.errors import ConfigError, DataError
from train.prepared import IMAGES, LABELS, MANIFEST, PreparedSet, open_prepared

Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def crowd(people: int, images: int, *, spread: float, seed: int, dimensions: int = 32) -> tuple[Float32, Ints]:
    """Embeddings around random directions, and whose they are."""
    random = np.random.default_rng(seed)
    own_CD = random.normal(size=(people, dimensions))
    labels_N = np.repeat(np.arange(people), images)
    embeddings_ND = own_CD[labels_N] + spread * random.normal(size=(len(labels_N), dimensions))
    return unit(embeddings_ND.astype(np.float32)), labels_N


def mixed_up(labels_N: Ints, share: float, seed: int) -> Ints:
    """A share of the labels shuffled among themselves."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(labels_N), round(share * len(labels_N)), replace=False)
    found = labels_N.copy()
    found[rows] = labels_N[random.permutation(rows)]
    return found


def means(crops_NSS3: NDArray[np.uint8]) -> Float32:
    """A model that tells the drawn people apart: the mean colours of 7 x 7 cells, less grey."""
    cells = crops_NSS3.reshape(len(crops_NSS3), 7, 16, 7, 16, 3).mean(axis=(2, 4))
    return (cells.reshape(len(crops_NSS3), -1) - 127.5).astype(np.float32)


@pytest.fixture
def noisy(tmp_path: Path) -> tuple[PreparedSet, Ints]:
    """Ten people of twelve images, two kept back; a sixth of the training labels are wrong. And the true labels."""
    folder = tiny_set(tmp_path / "set", train_people=10, val_people=2, images=12)
    labels = np.load(folder / LABELS)
    true = labels[:120].astype(np.int64)
    labels[:120] = mixed_up(true, 1 / 6, seed=3)
    np.save(folder / LABELS, labels)
    return open_prepared(folder), true


# angles


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 40), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_angles_are_those_of_the_definition(centres: int, classes: int, images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    faces_ND = random.normal(size=(images, 5)).astype(np.float32)
    labels_N = random.integers(0, classes, images)
    centres_CKD = random.normal(size=(classes, centres, 5)).astype(np.float32)
    found = measure(faces_ND, labels_N, centres_CKD)
    counts = np.zeros((classes, centres), dtype=int)
    for face, label, nearest in zip(faces_ND, labels_N, found.centre_N, strict=True):
        cosines = [face @ centre / np.linalg.norm(centre) for centre in centres_CKD[label]]
        assert cosines[nearest] == pytest.approx(max(cosines), abs=1e-5)
        counts[label, nearest] += 1
    assert np.array_equal(counts, found.counts_CK)
    for face, label, angle in zip(faces_ND, labels_N, found.own_N, strict=True):
        dominant = centres_CKD[label, counts[label].argmax()]
        cosine = face @ dominant / np.linalg.norm(face) / np.linalg.norm(dominant)
        assert np.cos(np.radians(angle)) == pytest.approx(cosine, abs=1e-4)


def test_the_dominant_centre_is_the_most_populated_one() -> None:
    axes = np.eye(3, dtype=np.float32)
    found = measure(axes[[0, 1, 1]], np.zeros(3, dtype=np.int64), axes[None, :2])
    assert found.counts_CK.tolist() == [[1, 2]]
    assert found.dominant_CD.tolist() == [[0, 1, 0]]
    assert found.own_N.tolist() == [90, 0, 0]


def test_more_images_than_a_chunk_change_nothing() -> None:
    faces_ND, labels_N = crowd(4, CHUNK // 2, spread=0.5, seed=1)
    centres_CD = unit(np.random.default_rng(2).normal(size=(4, 32)).astype(np.float32))
    whole = np.degrees(np.arccos(np.einsum("nd,nd->n", faces_ND, centres_CD[labels_N])))
    assert np.allclose(angles_to(faces_ND, centres_CD, labels_N), whole, atol=1e-2)
    assert nearest_class(faces_ND, centres_CD)[0].tolist() == (faces_ND @ centres_CD.T).argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("faces", "labels", "centres"), [((3, 4), [0, 0], (2, 1, 4)), ((2, 5), [0, 0], (2, 1, 4)), ((1, 4), [2], (2, 1, 4))]
)
def test_shapes_that_do_not_fit_are_refused(
    faces: tuple[int, ...], labels: list[int], centres: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"embeddings|labels"):
        measure(np.ones(faces, np.float32), np.array(labels), np.ones(centres, np.float32))


def test_seen_from_their_mean_strangers_stand_at_a_right_angle() -> None:
    faces_ND, labels_N = crowd(40, 4, spread=0.3, seed=5)
    corner_ND = unit(faces_ND + 3 * np.eye(32, dtype=np.float32)[0])  # all in one corner, as dlib's are
    assert np.median(strangers(corner_ND, labels_N, unit(corner_ND[::4]))) < 40
    freed_ND = centred(corner_ND)
    assert np.median(strangers(freed_ND, labels_N, freed_ND[::4])) == pytest.approx(90, abs=3)


def test_strangers_are_of_other_classes_only() -> None:
    axes = np.eye(4, dtype=np.float32)
    assert set(strangers(axes, np.arange(4), axes).tolist()) == {90.0}
    assert len(strangers(axes[:1], np.zeros(1, dtype=np.int64), axes[:1])) == 0


# limits


@given(st.floats(0, 0.5), st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_the_share_of_wrong_labels_is_found(share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    wrong_N = random.random(4000) < share
    own_N = np.where(wrong_N, random.normal(90, 7, 4000), random.normal(35, 9, 4000)).astype(np.float32)
    strange_M = np.sort(random.normal(90, 7, 20000)).astype(np.float32)
    assert wrong_share(own_N, strange_M) == pytest.approx(wrong_N.mean(), abs=0.03)
    limit = own_limit(own_N, strange_M)
    dropped_N = own_N >= limit.angle_deg
    if wrong_N.sum() > 50:
        assert wrong_N[dropped_N].mean() > 0.8
        assert wrong_N[dropped_N].sum() > 0.95 * wrong_N.sum()
        assert limit.precision is not None
        assert limit.precision >= 0.9


def test_a_set_without_wrong_labels_suggests_to_drop_nothing() -> None:
    random = np.random.default_rng(1)
    own_N = random.normal(35, 9, 4000).astype(np.float32)
    limit = own_limit(own_N, np.sort(random.normal(90, 7, 20000)).astype(np.float32))
    assert (limit.angle_deg, limit.wrong_share, limit.precision, limit.recall) == (180.0, 0.0, None, None)


def test_a_stricter_wish_gives_a_wider_angle() -> None:
    random = np.random.default_rng(1)
    own_N = np.concatenate([random.normal(90, 10, 800), random.normal(50, 12, 3200)]).astype(np.float32)
    strange_M = np.sort(random.normal(90, 10, 20000)).astype(np.float32)
    angles = [own_limit(own_N, strange_M, precision=wish).angle_deg for wish in (0.7, 0.9, 0.97)]
    assert angles == sorted(set(angles))


def test_nothing_to_measure_is_no_error() -> None:
    nothing = np.zeros(0, dtype=np.float32)
    assert own_limit(nothing, nothing).angle_deg == 180
    assert limit_at(75, nothing, nothing).precision is None


# centres


def test_learned_centres_find_shuffled_labels_among_many_people() -> None:
    faces_ND, true_N = crowd(60, 15, spread=0.7, seed=7)
    labels_N = mixed_up(true_N, 0.2, seed=1)
    wrong_N = labels_N != true_N
    faces_ND = centred(faces_ND)
    found = measure(faces_ND, labels_N, fit_centres(faces_ND, labels_N, 60, epochs=20))
    limit = own_limit(found.own_N, strangers(faces_ND, labels_N, found.dominant_CD))
    dropped_N = found.own_N >= limit.angle_deg
    assert (dropped_N & wrong_N).sum() >= 0.8 * wrong_N.sum()
    assert wrong_N[dropped_N].mean() >= 0.9


def test_the_same_seed_gives_the_same_centres() -> None:
    faces_ND, labels_N = crowd(5, 6, spread=0.5, seed=7)
    told: list[tuple[int, int]] = []
    first = fit_centres(faces_ND, labels_N, 5, epochs=3, progress=lambda done, total: told.append((done, total)))
    assert np.array_equal(first, fit_centres(faces_ND, labels_N, 5, epochs=3))
    assert first.shape == (5, 3, 32)
    assert told == [(1, 3), (2, 3), (3, 3)]


# a whole set


def test_wrong_labels_of_a_set_are_found_and_named(noisy: tuple[PreparedSet, Ints]) -> None:
    prepared, true_N = noisy
    found = clean(prepared, means, angle_deg=None)
    wrong = np.flatnonzero(prepared.train.labels_N != true_N).tolist()
    assert sorted(drop.row for drop in found.drops) == wrong
    for drop in found.drops:
        assert drop.looks_like == prepared.train.subjects[true_N[drop.row]]
        assert drop.subject == prepared.train.subjects[prepared.train.labels_N[drop.row]]
        assert drop.name == prepared.train.names[drop.row]
    angles = [drop.angle_deg for drop in found.drops]
    assert angles == sorted(angles, reverse=True)
    assert (found.emptied, found.doubtful, found.few) == ((), (), 0)
    lines = [json.loads(line) for line in drop_list(found).splitlines()]
    assert [line["name"] for line in lines] == [drop.name for drop in found.drops]


def test_a_runs_own_centres_are_taken_as_they_are(noisy: tuple[PreparedSet, Ints]) -> None:
    prepared, true_N = noisy
    faces_ND = means(np.array(prepared.train.crops_NSS3))
    own_CKD = np.stack([[faces_ND[true_N == label].mean(axis=0)] * 2 for label in range(10)])
    found = clean(prepared, means, centres_CKD=own_CKD)
    assert "of the run" in found.centres
    assert {drop.row for drop in found.drops} == set(np.flatnonzero(prepared.train.labels_N != true_N).tolist())


def test_the_cleaned_set_is_whole_and_counted_anew(noisy: tuple[PreparedSet, Ints], tmp_path: Path) -> None:
    prepared, true_N = noisy
    found = clean(prepared, means, angle_deg=None)
    cleaned = apply(prepared, found, tmp_path / "out")
    kept_N = prepared.train.labels_N == true_N
    assert np.array_equal(cleaned.train.labels_N, true_N[kept_N])
    assert np.array_equal(cleaned.train.crops_NSS3, prepared.train.crops_NSS3[kept_N])
    assert cleaned.train.names == tuple(np.array(prepared.train.names)[kept_N])
    assert prepared.val is not None
    assert cleaned.val is not None
    assert np.array_equal(cleaned.val.crops_NSS3, prepared.val.crops_NSS3)
    assert cleaned.val.names == prepared.val.names
    assert set(cleaned.refused) == {drop.name for drop in found.drops}
    assert cleaned.manifest.refused == 0
    assert cleaned.manifest.facts["images_left_out"] == len(found.drops)
    assert cleaned.manifest.facts["cleaned"]["from"] == prepared.manifest.digest
    assert cleaned.manifest.digest != prepared.manifest.digest
    assert not list(tmp_path.glob(".*.part"))


def test_people_of_whom_nothing_is_left_go(noisy: tuple[PreparedSet, Ints], tmp_path: Path) -> None:
    prepared, _ = noisy
    found = clean(prepared, means, angle_deg=None)
    first = np.flatnonzero(prepared.train.labels_N == 0).tolist()
    drops = tuple(replace(found.drops[0], row=row, subject="p000", name=prepared.train.names[row]) for row in first)
    cleaned = apply(prepared, replace(found, drops=drops, emptied=("p000",)), tmp_path / "out")
    assert cleaned.train.subjects == prepared.train.subjects[1:]
    assert set(cleaned.train.labels_N.tolist()) == set(range(9))


def all_but_one(found: Cleaning) -> Cleaning:
    return replace(found, emptied=tuple(f"p{number:03d}" for number in range(9)))


def test_a_set_of_one_person_is_not_written(noisy: tuple[PreparedSet, Ints], tmp_path: Path) -> None:
    found = clean(noisy[0], means, angle_deg=None)
    with pytest.raises(DataError, match="fewer than two people"):
        apply(noisy[0], all_but_one(found), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_taken_is_left_alone(noisy: tuple[PreparedSet, Ints], tmp_path: Path) -> None:
    found = clean(noisy[0], means)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is taken"):
        apply(noisy[0], found, tmp_path / "out")


def test_a_damaged_list_of_images_leaves_no_half_set(noisy: tuple[PreparedSet, Ints], tmp_path: Path) -> None:
    found = clean(noisy[0], means, angle_deg=None)
    (noisy[0].folder / IMAGES).unlink()
    with pytest.raises(DataError, match=r"cannot be (written|read)"):
        apply(noisy[0], found, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path.name != "set"]


def test_one_person_cannot_be_cleaned(tmp_path: Path) -> None:
    folder = tiny_set(tmp_path / "set", train_people=1, val_people=0)
    with pytest.raises(DataError, match="one person"):
        clean(open_prepared(folder), means)


def test_embeddings_that_are_no_numbers_are_refused(noisy: tuple[PreparedSet, Ints]) -> None:
    with pytest.raises(DataError, match="no numbers"):
        clean(noisy[0], lambda crops: np.full((len(crops), 4), np.nan, dtype=np.float32))


def test_the_sheet_shows_what_stays_beside_what_goes(noisy: tuple[PreparedSet, Ints]) -> None:
    prepared, _ = noisy
    found = clean(prepared, means, angle_deg=None)
    with Image.open(io.BytesIO(drop_sheet(prepared.train, found))) as image:
        shown = np.array(image)
    worst = np.array(prepared.train.crops_NSS3[found.drops[0].row])[10:-10, 10:-10]
    windows = np.lib.stride_tricks.sliding_window_view(shown, (1, 92, 3))[:, :, 0, 0]
    places = np.argwhere((windows == worst[0]).all(axis=(2, 3)))
    assert len(places) == 1
    top, left = places[0]
    assert np.array_equal(shown[top : top + 92, left : left + 92], worst)


def test_a_sheet_of_nothing_is_a_title(noisy: tuple[PreparedSet, Ints]) -> None:
    found = clean(noisy[0], means, angle_deg=180.0)
    assert found.drops == ()
    assert drop_list(found) == b""
    with Image.open(io.BytesIO(drop_sheet(noisy[0].train, found))) as image:
        assert image.height < 60


def test_only_a_run_of_this_set_gives_its_centres(noisy: tuple[PreparedSet, Ints], tmp_path: Path) -> None:
    from tests.train.checkpoint_parts import small_checkpoint
    from train.checkpoints import save_checkpoint
    from train.runs import open_run

    save_checkpoint(tmp_path / "checkpoint.pt", small_checkpoint())
    run = open_run(tmp_path / "checkpoint.pt")
    assert centres_of(run, noisy[0]) is None
    manifest = json.loads((noisy[0].folder / MANIFEST).read_text())
    (noisy[0].folder / MANIFEST).write_text(json.dumps({**manifest, "digest": run.data.digest}))
    found = centres_of(run, open_prepared(noisy[0].folder))
    assert found is not None
    assert found.shape == (5, 2, 8)
