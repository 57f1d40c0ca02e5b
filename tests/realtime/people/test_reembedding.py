"""A gallery moves to another model from its crops, all of it or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.capture.photo import load_photo
from realtime.errors import GalleryError
from realtime.faces.alignment import align
from realtime.people.enrollment import reference_of_view
from realtime.people.gallery import Gallery
from realtime.people.gallery_check import check
from realtime.people.reembedding import reembed
from realtime.records import RGB_HW3
from realtime.settings import GallerySettings
from tests.realtime.people.helpers import MODEL, OTHER_MODEL, analyser, astronaut, crop, reference


def colours(crops: list[RGB_HW3]) -> NDArray[np.float32]:
    """A model of four dimensions that is easy to check: unit mean colours."""
    means = np.array([[*each.reshape(-1, 3).mean(axis=0), 1.0] for each in crops], dtype=np.float32)
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    with Gallery.open(tmp_path / "g.sqlite", MODEL) as made:
        made.add("Ana", [reference(number, crop=crop(number)) for number in range(40)])
        made.add("Ben", [reference(50, crop=crop(50))])
    return Gallery.open(tmp_path / "g.sqlite")


def test_every_reference_is_embedded_anew(gallery: Gallery) -> None:
    done: list[int] = []
    assert reembed(gallery, colours, OTHER_MODEL, progress=done.append) == 41
    assert sum(done) == 41
    with Gallery.open(gallery.path, OTHER_MODEL) as moved:
        references = moved.references()
        assert references.embeddings_MD.shape == (41 + 1, 4)  # and Ana's mean
        expected = colours([crop(7).aligned_to("arcface_112")])[0]
        np.testing.assert_allclose(moved.references_of("Ana")[7].embedding_D, expected, atol=1e-6)
        assert not [problem for problem in check(moved, 1e-9) if problem.severity == "error"]
    with pytest.raises(GalleryError, match="realtime gallery reembed"):
        Gallery.open(gallery.path, MODEL)


def test_without_crops_it_refuses_or_drops(gallery: Gallery) -> None:
    with Gallery.open(gallery.path, MODEL) as other:
        other.add("Cy", [reference(60)])
        other.add("Ben", [reference(61)])
    with pytest.raises(GalleryError, match=r"2 people have references without a crop \(Ben, Cy\).*--drop"):
        reembed(gallery, colours, OTHER_MODEL)
    assert len(Gallery.open(gallery.path, MODEL).references()) == 43 + 2  # and two people's means
    assert reembed(gallery, colours, OTHER_MODEL, drop_without_crop=True) == 41
    assert [person.name for person in gallery.people()] == ["Ana", "Ben"]


def test_a_failure_on_the_way_changes_nothing(gallery: Gallery) -> None:
    calls = []

    def fails(crops: list[RGB_HW3]) -> NDArray[np.float32]:
        calls.append(len(crops))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return colours(crops)

    with pytest.raises(KeyboardInterrupt):
        reembed(gallery, fails, OTHER_MODEL)
    assert len(Gallery.open(gallery.path, MODEL).references()) == 41 + 1  # and Ana's mean


def test_somebody_enrols_meanwhile(gallery: Gallery) -> None:
    def slow(crops: list[RGB_HW3]) -> NDArray[np.float32]:
        with Gallery.open(gallery.path, MODEL) as other:
            other.add("Dora", [reference(70, crop=crop())])
        return colours(crops)

    with pytest.raises(GalleryError, match="meanwhile; run it again"):
        reembed(gallery, slow, OTHER_MODEL)
    assert len(Gallery.open(gallery.path, MODEL).people()) == 3


def test_a_damaged_crop_is_a_sentence(gallery: Gallery) -> None:
    gallery.query("UPDATE refs SET crop = x'0011' WHERE id = 3")
    with pytest.raises(GalleryError, match="a stored crop is damaged"):
        reembed(gallery, colours, OTHER_MODEL)


def test_another_template_sees_the_face_as_it_would_in_the_photo(tmp_path: Path) -> None:
    """dlib's chip ends above the eyebrows where ArcFace's crop shows the forehead: the margin has it."""
    photo = load_photo(astronaut())
    view = analyser().views(photo)[0]
    manifest = analyser().manifest
    embedding = analyser().embed([view.crop_SS3])[0]
    made = reference_of_view(view, embedding, manifest, GallerySettings(), source="a", rgb_HW3=photo, sha256="0" * 64)
    seen: list[RGB_HW3] = []

    def look(crops: list[RGB_HW3]) -> NDArray[np.float32]:
        seen.extend(crops)
        return colours(crops)

    with Gallery.open(tmp_path / "g.sqlite", manifest) as gallery:
        gallery.add("Eileen Collins", [made])
        reembed(gallery, look, OTHER_MODEL)
    direct = align(photo, view.points_P2, "arcface_112")
    assert np.abs(seen[0].astype(int) - direct).mean() < 4
