"""Real photos are accepted or refused, each with its reason; names come from files and folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from realtime.capture.photo import load_photo
from realtime.errors import GalleryError, PhotoError
from realtime.faces.quality import Quality
from realtime.people.enrollment import Accepted, Enroller, Outcome, Refused, Wish, as_json_line, quality_problem, wishes
from realtime.people.gallery import Gallery
from realtime.people.identification import identify
from realtime.settings import GallerySettings, Settings, load_settings
from tests.realtime.people.helpers import analyser, astronaut, reference

# the part of the portrait around the face, which is 90 pixels wide
PORTRAIT = np.ascontiguousarray(load_photo(astronaut())[0:260, 90:350])


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery.open(tmp_path / "gallery.sqlite", analyser().manifest)


def photo(folder: Path, name: str, rgb: np.ndarray = PORTRAIT) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return path


def enrol(gallery: Gallery, path: Path, name: str, settings: Settings | None = None, **options: bool) -> Outcome:
    return Enroller(gallery, analyser(), settings or Settings(), **options).enroll(Wish(path=path, name=name))


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused), outcome
    assert outcome.message.startswith(f"{outcome.source}: ")
    assert "\n" not in outcome.message
    assert as_json_line(outcome)["accepted"] is False
    return outcome.reason


def test_a_good_photo_is_accepted_and_recognised(gallery: Gallery, tmp_path: Path) -> None:
    outcome = enrol(gallery, photo(tmp_path, "a.png"), "Eileen Collins")
    assert isinstance(outcome, Accepted)
    assert as_json_line(outcome) == {
        "source": str(tmp_path / "a.png"), "name": "Eileen Collins", "accepted": True, "reason": None, "message": None,
    }  # fmt: skip
    (stored,) = gallery.references_of("Eileen Collins")
    assert stored.crop is not None
    assert (stored.source, stored.photo_sha256) == ("a.png", outcome.reference.photo_sha256)
    assert stored.size_px > 60
    views = analyser().views(np.ascontiguousarray(PORTRAIT[:, ::-1]))
    embeddings = analyser().embed([view.crop_SS3 for view in views])
    (answer,) = identify(views, embeddings, gallery.references(), threshold=0.1, margin=0.04)
    assert answer.name == "Eileen Collins"


def test_store_crops_off(gallery: Gallery, tmp_path: Path) -> None:
    settings = load_settings(overrides=["gallery.store_crops=false"])
    assert isinstance(enrol(gallery, photo(tmp_path, "a.png"), "Eileen", settings), Accepted)
    assert gallery.references_of("Eileen")[0].crop is None


def test_the_same_photo_again(gallery: Gallery, tmp_path: Path) -> None:
    enrol(gallery, photo(tmp_path, "a.png"), "Eileen")
    again = enrol(gallery, photo(tmp_path, "copy of a.png"), "eileen")
    assert reason(again) == "already there"
    assert "is enrolled as 'Eileen' already" in again.message  # type: ignore[union-attr]
    assert len(gallery.references()) == 1


def test_another_photo_of_the_same_person(gallery: Gallery, tmp_path: Path) -> None:
    enrol(gallery, photo(tmp_path, "a.png"), "Eileen")
    assert isinstance(enrol(gallery, photo(tmp_path, "b.png", PORTRAIT[:, ::-1]), "EILEEN"), Accepted)
    assert [(person.name, person.references) for person in gallery.people()] == [("Eileen", 2)]


def test_enrolled_under_another_name(gallery: Gallery, tmp_path: Path) -> None:
    enrol(gallery, photo(tmp_path, "a.png"), "Eileen")
    other = photo(tmp_path, "b.png", PORTRAIT[:, ::-1])
    refused = enrol(gallery, other, "Sally")
    assert reason(refused) == "somebody else"
    assert "looks like 'Eileen', who is enrolled (distance 0.0" in refused.message  # type: ignore[union-attr]
    assert "--force" in refused.message  # type: ignore[union-attr]
    assert [person.name for person in gallery.people()] == ["Eileen"]
    assert isinstance(enrol(gallery, other, "Sally", force=True), Accepted)


def test_strangers_in_the_gallery_do_not_matter(gallery: Gallery, tmp_path: Path) -> None:
    embedding = np.zeros(gallery.manifest.dimensions, np.float32)  # type: ignore[union-attr]
    embedding[0] = 1
    gallery.add("Bob", [replace(reference(1), embedding_D=embedding)])
    assert isinstance(enrol(gallery, photo(tmp_path, "a.png"), "Eileen"), Accepted)


def test_no_face(gallery: Gallery, tmp_path: Path) -> None:
    assert (
        reason(enrol(gallery, photo(tmp_path, "wall.png", np.full((200, 200, 3), 128, np.uint8)), "Eileen"))
        == "no face"
    )
    assert reason(enrol(gallery, photo(tmp_path, "dot.png", np.zeros((1, 1, 3), np.uint8)), "Eileen")) == "no face"


def test_several_faces(gallery: Gallery, tmp_path: Path) -> None:
    small = cv2.resize(PORTRAIT, (180, 180))
    both = np.zeros((260, 460, 3), np.uint8)
    both[:, :260], both[:180, 280:] = PORTRAIT, small
    path = photo(tmp_path, "two.png", both)
    refused = enrol(gallery, path, "Eileen")
    assert reason(refused) == "several faces"
    assert "2 faces are in it" in refused.message  # type: ignore[union-attr]
    outcome = enrol(gallery, path, "Eileen", largest=True)
    assert isinstance(outcome, Accepted)
    assert outcome.reference.size_px > 75


def test_too_small(gallery: Gallery, tmp_path: Path) -> None:
    settings = load_settings(overrides=["gallery.min_face_px=300"])
    refused = enrol(gallery, photo(tmp_path, "a.png"), "Eileen", settings)
    assert reason(refused) == "too small"
    assert "300 are needed" in refused.message  # type: ignore[union-attr]


def test_too_blurred(gallery: Gallery, tmp_path: Path) -> None:
    sharp_only = load_settings(overrides=["gallery.min_sharpness=100"])
    blurred = photo(tmp_path, "a.png", cv2.GaussianBlur(PORTRAIT, (0, 0), 1.5))
    assert reason(enrol(gallery, blurred, "Eileen", sharp_only)) == "too blurred"
    slightly = cv2.GaussianBlur(PORTRAIT, (0, 0), 0.7)
    assert isinstance(enrol(gallery, photo(tmp_path, "b.png", slightly), "Eileen"), Accepted)


def test_turned_away(gallery: Gallery, tmp_path: Path) -> None:
    settings = load_settings(overrides=["gallery.max_yaw_deg=0.01"])
    assert reason(enrol(gallery, photo(tmp_path, "a.png"), "Eileen", settings)) == "turned away"


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        ({}, None),
        ({"size_px": 39.0}, "too small"),
        ({"sharpness": 6.9}, "too blurred"),
        ({"yaw_deg": 46.0}, "turned away"),
        ({"yaw_deg": -46.0}, "turned away"),
    ],
)
def test_bounds_of_the_defaults(quality: dict[str, float], expected: str | None) -> None:
    values = {"size_px": 100.0, "sharpness": 100.0, "yaw_deg": 0.0, "weight": 0.5, **quality}
    problem = quality_problem(Quality(**values), GallerySettings())
    assert (problem and problem[0]) == expected


def test_unreadable(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"hello")
    assert reason(enrol(gallery, tmp_path / "a.jpg", "Eileen")) == "unreadable"
    assert reason(enrol(gallery, tmp_path / "missing.jpg", "Eileen")) == "unreadable"
    assert gallery.people() == []


def test_a_file_whose_name_is_no_text(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / b"Eileen \xff.png".decode("utf-8", "surrogateescape")
    try:
        photo(tmp_path, "a.png").rename(path)
    except OSError:
        pytest.skip("this file system has only text as names")
    assert isinstance(enrol(gallery, path, "Eileen"), Accepted)
    assert gallery.references_of("Eileen")[0].source == "Eileen ?.png"
    (wish,) = wishes([path])
    assert wish.name is None
    assert "half a character" in wish.problem


def test_whose_photos_these_are(tmp_path: Path) -> None:
    for name in (
        "people/Ana_Silva/IMG_1.jpg",
        "people/Ana_Silva/old/2.jpg",
        "people/Ben (2).jpg",
        "people/IMG_3.jpg",
        "Cy.png",
    ):
        photo(tmp_path, name, np.zeros((2, 2, 3), np.uint8))
    found = wishes([tmp_path / "people", tmp_path / "Cy.png", tmp_path / "people" / "Ben (2).jpg"])
    names = {wish.path.name: wish.name for wish in found}
    assert names == {
        "IMG_1.jpg": "Ana Silva",
        "2.jpg": "Ana Silva",
        "Ben (2).jpg": "Ben",
        "IMG_3.jpg": None,
        "Cy.png": "Cy",
    }
    (nameless,) = [wish for wish in found if wish.name is None]
    assert "is a camera's name" in nameless.problem
    assert {wish.name for wish in wishes([tmp_path], "Dora")} == {"Dora"}


def test_a_nameless_photo_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    (wish,) = wishes([photo(tmp_path, "IMG_1.png")])
    assert reason(Enroller(gallery, analyser(), Settings()).enroll(wish)) == "no name"


def test_wrong_paths_and_names_stop_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="no such file"):
        wishes([tmp_path / "missing"])
    with pytest.raises(GalleryError, match="no visible character"):
        wishes([photo(tmp_path, "a.png")], "  ")


def test_disk_full_while_enrolling(gallery: Gallery, tmp_path: Path) -> None:
    enrol(gallery, photo(tmp_path, "a.png"), "Eileen")
    gallery.query(f"PRAGMA max_page_count = {gallery.query('PRAGMA page_count')[0][0] + 1}")
    with pytest.raises(GalleryError, match="no space left to write; nothing was changed"):
        enrol(gallery, photo(tmp_path, "b.png", PORTRAIT[:, ::-1]), "Eileen")
    assert len(gallery.references()) == 1
