"""Stored crops in any template, of everybody alike; a gallery that is missing or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.errors import GalleryError
from realtime.people.enrolled_crops import enrolled_crops
from realtime.people.gallery import Gallery
from tests.realtime.people.helpers import MODEL, crop, reference


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ana has nine photos, one of them without a crop; Ben has two."""
    path = tmp_path_factory.mktemp("gallery") / "g.sqlite"
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ana", [*(reference(number, crop=crop(number)) for number in range(8)), reference(20)])
        gallery.add("Ben", [reference(number, crop=crop(number)) for number in (8, 9)])
    return path


def test_all_of_them_in_their_own_template(path: Path) -> None:
    crops = enrolled_crops(path, "arcface_112", 300)
    assert (crops.shape, crops.dtype) == ((10, 112, 112, 3), np.uint8)
    for number, each in enumerate(crops):
        np.testing.assert_array_equal(each, crop(number).aligned_to("arcface_112"))


def test_in_another_template(path: Path) -> None:
    crops = enrolled_crops(path, "dlib_chip_150", 300)
    assert crops.shape == (10, 150, 150, 3)
    np.testing.assert_array_equal(crops[9], crop(9).aligned_to("dlib_chip_150"))


@given(limit=st.integers(1, 40))
def test_never_more_than_the_limit_and_spread_over_people(path: Path, limit: int) -> None:
    everything = enrolled_crops(path, "arcface_112", 300)
    crops = enrolled_crops(path, "arcface_112", limit)
    assert 1 <= len(crops) <= limit
    assert len(crops) >= min(len(everything), limit) / 2
    np.testing.assert_array_equal(crops[0], everything[0])
    if limit in (5, 6, 7, 8, 9):
        assert any(np.array_equal(each, everything[8]) for each in crops)  # Ben's


def test_a_gallery_that_is_not_there_has_nobody(tmp_path: Path) -> None:
    assert enrolled_crops(tmp_path / "none.sqlite", "arcface_112", 300).shape == (0, 112, 112, 3)
    assert not (tmp_path / "none.sqlite").exists()


def test_a_damaged_crop_is_a_sentence(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.sqlite", MODEL) as gallery:
        gallery.add("Ana", [reference(0, crop=crop())])
        gallery.query("UPDATE refs SET crop = x'0011'")
    with pytest.raises(GalleryError, match=r"a stored crop is damaged .*realtime gallery check"):
        enrolled_crops(tmp_path / "g.sqlite", "arcface_112", 300)
