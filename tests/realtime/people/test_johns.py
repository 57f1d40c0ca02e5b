"""Five real people, three photos each: the others of each are named right, and group photos name nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from realtime.capture.photo import find_photos, load_photo
from realtime.people.enrollment import Accepted, Enroller, wishes
from realtime.people.gallery import Gallery
from realtime.people.gallery_check import check
from realtime.people.identification import Answer, identify
from realtime.settings import Settings
from tests.paths import SHARED, needs_shared
from tests.realtime.people.helpers import analyser

pytestmark = needs_shared


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    opened = Gallery.open(tmp_path_factory.mktemp("johns") / "g.sqlite", analyser().manifest)
    enroller = Enroller(opened, analyser(), Settings())
    for folder in sorted((SHARED / "johns").iterdir()):
        for wish in wishes(find_photos(folder)[:3], folder.name.replace("_", " ")):
            assert isinstance(enroller.enroll(wish), Accepted)
    return opened


def answers(gallery: Gallery, path: Path) -> list[Answer]:
    views = analyser().views(load_photo(path))
    threshold, margin = analyser().manifest.threshold, Settings().identity.margin
    embeddings = analyser().embed([view.crop_SS3 for view in views])
    return identify(views, embeddings, gallery.references(), threshold=threshold, margin=margin)


def test_the_others_are_named(gallery: Gallery) -> None:
    named = wrong = total = 0
    for folder in sorted((SHARED / "johns").iterdir()):
        for path in find_photos(folder)[3:]:
            total += 1
            for answer in answers(gallery, path):
                named += answer.name == folder.name.replace("_", " ")
                wrong += answer.name not in (None, folder.name.replace("_", " "))
    assert (total, wrong) == (40, 0)
    assert named >= 36, "nine in ten at the default threshold; 40 when this was written"


def test_strangers_stay_unknown(gallery: Gallery) -> None:
    faces = [answer for path in find_photos(SHARED / "group_photos") for answer in answers(gallery, path)]
    assert len(faces) > 40
    assert [answer.name for answer in faces if answer.name] == []


def test_the_gallery_is_sound(gallery: Gallery) -> None:
    assert check(gallery) == []
