"""A gallery keeps what it was given, says who is who by name, and every reader sees every change."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.errors import GalleryError
from realtime.people.gallery import Gallery, default_gallery_path
from realtime.people.matching import match
from realtime.people.names import clean_name
from tests.realtime.people.helpers import MODEL, OTHER_MODEL, crop, reference, sha, unit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.sqlite"


def test_what_was_added_comes_back(path: Path) -> None:
    kept = crop(3)
    with Gallery.open(path, MODEL) as gallery:
        assert gallery.add("Ana", [reference(1, crop=kept), reference(2)]) == 2
    with Gallery.open(path, MODEL, create=False) as gallery:
        first, second = gallery.references_of("ana")
        assert (first.source, first.photo_sha256, first.quality, first.size_px) == ("1.jpg", sha("1.jpg"), 0.5, 100.0)
        np.testing.assert_array_equal(first.embedding_D, unit(1))
        assert first.crop is not None
        np.testing.assert_array_equal(first.crop.pixels(), kept.pixels())
        np.testing.assert_array_equal(first.crop.points_P2, kept.points_P2)
        assert (first.crop.template, first.crop.margin_px) == (kept.template, kept.margin_px)
        assert second.crop is None
        assert first.created_at.endswith("+00:00")
        person = gallery.person("ANA")
        assert (person.name, person.references) == ("Ana", 2)
        assert gallery.manifest == MODEL


def test_the_same_photo_twice_is_one_reference(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        assert gallery.add("Ana", [reference(1), reference(1)]) == 1
        assert gallery.add("ana", [reference(1), reference(2)]) == 1
        assert [person.name for person in gallery.people()] == ["Ana"]
        assert gallery.has_photo(sha("1.jpg")) == ["Ana"]
        assert gallery.has_photo(sha("nobody")) == []


def test_the_snapshot_is_what_matching_needs(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ben", [reference(3)])
        gallery.add("Ana", [reference(1), reference(2)])
        references = gallery.references()
        assert references.model_id == MODEL.model_id
        found = match(np.stack([unit(2), unit(3)]), references)
        assert [references.names[person] for person in found.persons_N] == ["Ana", "Ben"]
        assert found.distances_N.max() < 1e-6


def test_an_empty_gallery_matches_nobody(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        found = match(unit(1)[None], gallery.references())
    assert found.persons_N.tolist() == [-1]


def test_a_person_of_several_references_has_their_mean_as_one_more(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ana", [reference(1), reference(2)])
        gallery.add("Ben", [reference(3)])
        references = gallery.references()
    assert references.persons_M.tolist() == [0, 0, 1, 0]
    mean = unit(1) + unit(2)
    np.testing.assert_allclose(references.embeddings_MD[3], mean / np.linalg.norm(mean), atol=1e-6)


def test_the_snapshot_is_the_same_object_until_something_changes(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery, Gallery.open(path, MODEL) as other:
        gallery.add("Ana", [reference(1)])
        before = gallery.references()
        assert gallery.references() is before
        other.add("Ben", [reference(2)])
        after = gallery.references()
        assert after is not before
        assert after.version > before.version
        assert set(after.names) == {"Ana", "Ben"}
        gallery.remove("Ana")
        assert gallery.references().names == ("Ben",)
        assert other.references().names == ("Ben",)
        assert before.names == ("Ana",)


def test_a_snapshot_of_an_undone_change_is_not_kept(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ana", [reference(1)])
        with suppress(KeyboardInterrupt), gallery.transaction():
            gallery.add("Ben", [reference(2)])
            assert set(gallery.references().names) == {"Ana", "Ben"}
            raise KeyboardInterrupt
        assert gallery.references().names == ("Ana",)
        assert [person.name for person in gallery.people()] == ["Ana"]


def test_threads_may_read_while_one_enrols(path: Path) -> None:
    wrong: list[str] = []
    with Gallery.open(path, MODEL) as gallery:
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                references = gallery.references()
                if len(references) % 3:  # two and their mean
                    wrong.append(f"{len(references)} references, of pairs added at once")

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(30):
            gallery.add(f"person {number}", [reference(2 * number), reference(2 * number + 1)])
        stop.set()
        for reader in readers:
            reader.join()
        assert len(gallery.references()) == 60 + 30  # and a mean for each person
    assert wrong == []


def test_rename(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ana", [reference(1), reference(2)])
        gallery.add("Ben", [reference(2), reference(3)])
        assert gallery.rename("ana", "ANA").name == "ANA"
        with pytest.raises(GalleryError, match="'Ben' is enrolled already; if both are one person, add --merge"):
            gallery.rename("ANA", "ben")
        assert gallery.rename("ANA", "Ben", merge=True).references == 3
        assert [(person.name, person.references) for person in gallery.people()] == [("Ben", 3)]
        assert gallery.rename("Ben", "Ben / Benjamin").name == "Ben / Benjamin"


def test_unknown_names_have_a_hint(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Katherine Johnson", [reference(1)])
        with pytest.raises(GalleryError, match="did you mean 'Katherine Johnson'"):
            gallery.person("Catherine Johnson")
        with pytest.raises(GalleryError, match="`realtime gallery list`"):
            gallery.remove("Bob")


def test_a_removed_face_is_gone_from_the_file(path: Path) -> None:
    kept = crop(7)
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ana", [reference(1, crop=kept)])
        gallery.add("Ben", [reference(2)])
        gallery.remove("Ana")
        files = [path, path.with_name(path.name + "-wal")]
        assert not any(kept.png[200:264] in file.read_bytes() for file in files if file.exists())
        assert not any(unit(1).tobytes() in file.read_bytes() for file in files if file.exists())
        assert [person.name for person in gallery.people()] == ["Ben"]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "realtime" / "gallery.sqlite"
    old = os.umask(0)
    try:
        with Gallery.open(path, MODEL) as gallery:
            gallery.add("Ana", [reference(1)])
            for file in path.parent.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
            assert path.with_name(path.name + "-wal").exists()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_default_path_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALTIME_DATA", str(tmp_path))
    assert default_gallery_path() == tmp_path / "gallery.sqlite"
    monkeypatch.delenv("REALTIME_DATA")
    assert default_gallery_path().name == "gallery.sqlite"
    assert "realtime" in default_gallery_path().parts[-2]


def test_wrong_embeddings_are_refused_and_nothing_is_added(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        with pytest.raises(ValueError, match=r"shape \(8,\)"):
            gallery.add("Ana", [reference(1), replace(reference(2), embedding_D=unit(1, 4))])
        with pytest.raises(ValueError, match="unit length"):
            gallery.add("Ana", [replace(reference(1), embedding_D=2 * unit(1))])
        with pytest.raises(ValueError, match="finite"):
            replace(reference(1), embedding_D=np.full(8, np.nan, np.float32))
        assert gallery.people() == []
    with Gallery.open(path) as gallery, pytest.raises(ValueError, match="opened with a manifest"):
        gallery.add("Ana", [reference(1)])


def test_an_empty_gallery_belongs_to_the_next_model(path: Path) -> None:
    Gallery.open(path, MODEL).close()
    with Gallery.open(path, OTHER_MODEL) as gallery:
        assert gallery.manifest == OTHER_MODEL


def test_names_stay_data(path: Path) -> None:
    names = ["Robert'); DROP TABLE people;--", 'a"b', "a/b\\c", "%", "👩‍👩‍👧", "김민준"]
    with Gallery.open(path, MODEL) as gallery:
        for number, name in enumerate(names):
            gallery.add(name, [reference(number)])
        assert {person.name for person in gallery.people()} == set(names)
        for name in names:
            gallery.remove(name)
        assert gallery.people() == []


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=8))
def test_every_name_that_is_accepted_is_found_again(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    with Gallery.open(tmp_path_factory.mktemp("g") / "g.sqlite", MODEL) as gallery:
        for number, name in enumerate(names):
            try:
                cleaned = clean_name(name)
            except GalleryError:
                continue
            gallery.add(name, [reference(number)])
            assert gallery.person(cleaned).references >= 1
        references = gallery.references()
        assert len(references.names) == len(gallery.people())
        several = [person for person in gallery.people() if person.references > 1]
        assert sum(person.references for person in gallery.people()) + len(several) == len(references)


def test_a_file_that_may_only_be_read(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ana", [reference(1)])
    with Gallery.open(path, MODEL, read_only=True) as gallery:
        assert gallery.references().names == ("Ana",)
        with pytest.raises(GalleryError, match="may not be written"):
            gallery.add("Ben", [reference(2)])
        assert gallery.references().names == ("Ana",)


def test_close_twice(path: Path) -> None:
    gallery = Gallery.open(path, MODEL)
    gallery.close()
    gallery.close()


def test_the_file_is_plain_sqlite_in_wal_mode(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ana", [reference(1)])
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    row = connection.execute("SELECT model_id, weights_sha256, template FROM refs").fetchone()
    assert row == (MODEL.model_id, MODEL.weights_sha256, MODEL.template)
    connection.close()
