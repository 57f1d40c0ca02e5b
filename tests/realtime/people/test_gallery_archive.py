"""A gallery leaves in one file and comes back whole; a hostile file changes nothing."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime.errors import GalleryError
from realtime.people import gallery_archive
from realtime.people.gallery import Gallery
from realtime.people.gallery_archive import Imported, export_gallery, import_gallery
from tests.realtime.people.helpers import MODEL, OTHER_MODEL, crop, reference, unit


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    with Gallery.open(folder / "g.sqlite", MODEL) as gallery:
        gallery.add("Ana", [reference(1, crop=crop(1)), reference(2)])
        gallery.add("김민준", [reference(3, crop=crop(3))])
        export_gallery(gallery, folder / "people.zip")
    return folder / "people.zip"


def snapshot(gallery: Gallery) -> list[tuple[Any, ...]]:
    return gallery.query(
        "SELECT name, embedding, photo_sha256, source, quality, size_px, refs.created_at, crop, crop_points, "
        "crop_template, crop_margin_px, model_id FROM refs JOIN people ON people.id = person_id "
        "ORDER BY name, photo_sha256"
    )


def test_there_and_back(archive: Path, tmp_path: Path) -> None:
    with Gallery.open(archive.with_name("g.sqlite")) as before, Gallery.open(tmp_path / "g.sqlite") as after:
        assert import_gallery(after, archive) == Imported(people=2, references=3, new=3)
        assert snapshot(after) == snapshot(before)
        assert after.manifest == MODEL
        assert import_gallery(after, archive) == Imported(people=2, references=3, new=0)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


def test_people_meet_by_name(archive: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.sqlite", MODEL) as gallery:
        gallery.add("ana", [reference(1), reference(9)])
        assert import_gallery(gallery, archive).new == 2
        assert [(person.name, person.references) for person in gallery.people()] == [("ana", 3), ("김민준", 1)]


def test_of_another_model(archive: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.sqlite", OTHER_MODEL) as gallery:
        other = gallery_archive.Reference(embedding_D=unit(1, 4), photo_sha256="0" * 64, source="a", quality=1.0)
        gallery.add("Ben", [other])
        with pytest.raises(GalleryError, match="cannot be compared"):
            import_gallery(gallery, archive)
        assert [person.name for person in gallery.people()] == ["Ben"]


def test_export_replaces_only_when_whole(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.zip"
    target.write_text("old")
    with Gallery.open(tmp_path / "g.sqlite", MODEL) as gallery:
        with pytest.raises(GalleryError, match="nobody is enrolled"):
            export_gallery(gallery, target)
        gallery.add("Ana", [reference(1)])
        gallery.query("UPDATE refs SET embedding = x'0000'")
        with pytest.raises(GalleryError, match="damaged"):
            export_gallery(gallery, target)
        with pytest.raises(GalleryError, match="cannot be written"):
            export_gallery(gallery, tmp_path / "missing" / "out.zip")
    assert target.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"out.zip", "g.sqlite"}


def rebuilt(archive: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(archive) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return target


def with_json(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        contents = json.loads(members["gallery.json"])
        change(contents)
        members["gallery.json"] = json.dumps(contents).encode()

    return apply


def npy(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def huge_npy() -> bytes:
    """A header that promises 8 TB."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 2)})
    return buffer.getvalue()


HOSTILE: dict[str, Callable[[dict[str, bytes]], None]] = {
    "no gallery.json": lambda m: m.pop("gallery.json") and None,
    "no embeddings": lambda m: m.pop("embeddings.npy") and None,
    "no crop": lambda m: m.pop("crops/0.png") and None,
    "not json": lambda m: m.update({"gallery.json": b"{"}),
    "deep json": lambda m: m.update({"gallery.json": b"[" * 200_000}),
    "json list": lambda m: m.update({"gallery.json": b"[]"}),
    "pickle": lambda m: m.update({"embeddings.npy": npy(np.array([print], dtype=object), allow_pickle=True)}),
    "huge shape": lambda m: m.update({"embeddings.npy": huge_npy()}),
    "few rows": lambda m: m.update({"embeddings.npy": npy(np.zeros((1, 8), np.float32))}),
    "float64": lambda m: m.update({"embeddings.npy": npy(np.zeros((3, 8)))}),
    "cut rows": lambda m: m.update({"embeddings.npy": m["embeddings.npy"][:-4]}),
    "zero length": lambda m: m.update({"embeddings.npy": npy(np.zeros((3, 8), np.float32))}),
    "not finite": lambda m: m.update({"embeddings.npy": npy(np.full((3, 8), np.nan, np.float32))}),
    "crop is text": lambda m: m.update({"crops/0.png": b"hello"}),
    "unknown field": with_json(lambda c: c.update(extra=1)),
    "other format": with_json(lambda c: c.update(format="else")),
    "slip in crop": with_json(lambda c: c["people"][0]["references"][0]["crop"].update(file="../../etc/passwd")),
    "absolute crop": with_json(lambda c: c["people"][0]["references"][0]["crop"].update(file="/etc/passwd")),
    "points": with_json(lambda c: c["people"][0]["references"][0]["crop"].update(points=[[1e999, 0]] * 5)),
    "six points": with_json(lambda c: c["people"][0]["references"][0]["crop"].update(points=[[1.0, 0.0]] * 6)),
    "margin": with_json(lambda c: c["people"][0]["references"][0]["crop"].update(margin_px=1000)),
    "sha": with_json(lambda c: c["people"][0]["references"][0].update(photo_sha256="x")),
    "name": with_json(lambda c: c["people"][1].update(name="a\nb")),
    "long name": with_json(lambda c: c["people"][1].update(name="a" * 3000)),
    "manifest": with_json(lambda c: c["manifest"].update(dimensions=-1)),
    "manifest dimensions": with_json(lambda c: c["manifest"].update(dimensions=9)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_one_sentence_and_changes_nothing(archive: Path, tmp_path: Path, kind: str) -> None:
    path = rebuilt(archive, tmp_path / "bad.zip", HOSTILE[kind])
    with Gallery.open(tmp_path / "g.sqlite", MODEL) as gallery:
        gallery.add("Zoe", [reference(5)])
        before = snapshot(gallery)
        with pytest.raises(GalleryError) as caught:
            import_gallery(gallery, path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
        assert snapshot(gallery) == before
    assert {file.name for file in tmp_path.iterdir()} == {"bad.zip", "g.sqlite"}


def test_newer_and_foreign(archive: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.sqlite") as gallery:
        newer = rebuilt(archive, tmp_path / "newer.zip", with_json(lambda c: c.update(version=2)))
        with pytest.raises(GalleryError, match="of another version of realtime; update realtime"):
            import_gallery(gallery, newer)
        (tmp_path / "text.zip").write_text("hello")
        with pytest.raises(GalleryError, match="is not a whole gallery archive"):
            import_gallery(gallery, tmp_path / "text.zip")
        with pytest.raises(GalleryError, match="cannot be read"):
            import_gallery(gallery, tmp_path / "missing.zip")
        with pytest.raises(GalleryError, match="cannot be read"):
            import_gallery(gallery, tmp_path)


def test_a_bomb_is_not_unpacked(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_archive, "MAX_JSON_BYTES", 1 << 20)
    bomb = rebuilt(archive, tmp_path / "bomb.zip", lambda m: m.update({"gallery.json": b" " * (50 << 20)}))
    assert bomb.stat().st_size < 1 << 20
    with Gallery.open(tmp_path / "g.sqlite") as gallery, pytest.raises(GalleryError, match="larger than 1 MB"):
        import_gallery(gallery, bomb)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_a_gallery_error_or_the_same_people(
    archive: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.zip").write_bytes(bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))]))
    with Gallery.open(folder / "g.sqlite", MODEL) as gallery:
        try:
            import_gallery(gallery, folder / "a.zip")
        except GalleryError:
            expected = 0
        else:
            expected = 2
        assert len(gallery.people()) == expected
