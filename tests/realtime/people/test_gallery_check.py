"""``check`` finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realtime.people.gallery import Gallery
from realtime.people.gallery_check import check
from tests.realtime.people.helpers import MODEL, crop, reference, unit


def near(seed: int, distance: float) -> np.ndarray:
    """A unit embedding at about this squared distance from ``unit(seed)``."""
    away = unit(seed + 1000)
    away = away - (away @ unit(seed)) * unit(seed)
    away /= np.linalg.norm(away)
    angle = np.arccos(1 - distance / 2)
    return (np.cos(angle) * unit(seed) + np.sin(angle) * away).astype(np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    opened = Gallery.open(tmp_path / "g.sqlite", MODEL)
    opened.add("Ana", [reference(1, crop=crop()), reference(2, crop=crop())])
    opened.add("Ben", [reference(3, crop=crop()), reference(4, crop=crop())])
    return opened


def kinds(gallery: Gallery, threshold: float | None = 0.05) -> list[tuple[str, str]]:
    return [(problem.severity, problem.kind) for problem in check(gallery, threshold)]


def test_a_good_gallery_has_no_problem(gallery: Gallery) -> None:
    assert kinds(gallery) == []


def test_an_empty_gallery_has_no_problem(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.sqlite") as empty:
        assert check(empty) == []


def test_people_who_will_be_confused(gallery: Gallery) -> None:
    gallery.add("Bea", [replace(reference(8, crop=crop()), embedding_D=near(1, 0.03)), reference(9, crop=crop())])
    (problem,) = check(gallery, 0.05)
    assert (problem.severity, problem.kind) == ("warning", "collision")
    assert "'Ana' and 'Bea' are 0.030 apart" in problem.message
    assert kinds(gallery, 0.02) == []


def test_the_models_own_threshold_is_the_default(gallery: Gallery) -> None:
    gallery.add("Bea", [replace(reference(8, crop=crop()), embedding_D=near(1, 0.29)), reference(9, crop=crop())])
    assert "'Ana' and 'Bea'" in "".join(problem.message for problem in check(gallery))


def test_one_photo_under_two_names(gallery: Gallery) -> None:
    gallery.add("Bea", [replace(reference(1, crop=crop()), embedding_D=unit(77)), reference(9, crop=crop())])
    (problem,) = check(gallery, 0.01)
    assert (problem.kind, problem.severity) == ("duplicate", "warning")
    assert "1.jpg is enrolled as Ana, Bea" in problem.message


def test_advice(gallery: Gallery) -> None:
    gallery.add("Bea", [reference(8)])
    assert sorted(kinds(gallery)) == [("advice", "crop"), ("advice", "few")]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("UPDATE refs SET embedding = zeroblob(32) WHERE id = 1", "embedding"),
        ("UPDATE refs SET embedding = x'0102' WHERE id = 1", "embedding"),
        (f"UPDATE refs SET embedding = x'{'0000c07f' * 8}' WHERE id = 1", "embedding"),
        ("UPDATE refs SET embedding = 'text' WHERE id = 1", "embedding"),
        ("UPDATE refs SET crop = 'text' WHERE id = 1", "embedding"),
        ("UPDATE refs SET model_id = 'other' WHERE id = 1", "model"),
        ("UPDATE refs SET crop = x'00' WHERE id = 1", "crop"),
    ],
)
def test_damaged_rows(gallery: Gallery, damage: str, kind: str) -> None:
    gallery.query(damage)
    assert kinds(gallery) == [("error", kind)]


def test_rows_of_nobody(gallery: Gallery) -> None:
    gallery.query("PRAGMA foreign_keys = OFF")
    gallery.query("DELETE FROM people WHERE name = 'Ana'")
    assert ("error", "orphan") in kinds(gallery)


def test_other_users_can_read_it(gallery: Gallery) -> None:
    gallery.path.chmod(0o644)
    (problem,) = check(gallery, 0.05)
    assert problem.kind == "permissions"
    assert f"chmod 600 {gallery.path}" in problem.message
