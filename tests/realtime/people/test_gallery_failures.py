"""Everything that can be wrong with a gallery's file is one sentence, and costs nobody a face."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from realtime.errors import GalleryError
from realtime.people.gallery import Gallery
from realtime.people.gallery_schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION, migrate, schema_version
from tests.realtime.people.helpers import MODEL, OTHER_MODEL, crop, reference

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.sqlite"


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(GalleryError) as caught:
        Gallery.open(path, **{"manifest": MODEL, **options})  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_missing(path: Path) -> None:
    assert "enrol somebody first, with `realtime enroll PHOTO`" in refusal(path, create=False)
    assert "enrol somebody first" in refusal(path, read_only=True)
    assert not path.exists()


def test_a_folder(tmp_path: Path) -> None:
    assert "--gallery takes a file" in refusal(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot be created" in refusal(tmp_path / "file" / "gallery.sqlite")
    assert "cannot be created" in refusal(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("data", [b"hello, I am text\n" * 100, bytes(range(256)) * 20])
def test_not_a_database(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert "is not a gallery" in refusal(path)
    assert path.read_bytes() == data


def test_empty(path: Path) -> None:
    path.touch()
    assert "is empty" in refusal(path, create=False)
    with Gallery.open(path, MODEL) as gallery:
        assert gallery.people() == []


def test_another_programs_database_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    assert "SQLite file of another program" in refusal(path)
    assert path.read_bytes() == before


def _filled(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        for number in range(40):
            gallery.add(f"person {number}", [reference(number, crop=crop(number % 2))])


def test_damaged(path: Path) -> None:
    _filled(path)
    data = bytearray(path.read_bytes())
    data[100 : len(data) // 2] = b"\xff" * (len(data) // 2 - 100)
    path.write_bytes(bytes(data))
    assert "is damaged; restore it from a backup" in refusal(path)


def test_cut_short(path: Path) -> None:
    _filled(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(GalleryError, match="is damaged"):
        Gallery.open(path, MODEL).references()


def test_a_damaged_embedding_is_named(path: Path) -> None:
    _filled(path)
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE refs SET embedding = x'00' WHERE person_id = (SELECT id FROM people WHERE name = 'person 7')"
    )
    connection.commit()
    connection.close()
    with (
        Gallery.open(path, MODEL) as gallery,
        pytest.raises(GalleryError, match="a reference of 'person 7' is damaged"),
    ):
        gallery.references()


def test_from_the_future(path: Path) -> None:
    Gallery.open(path, MODEL).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "written by a newer version of realtime (schema 99" in refusal(path)
    assert "update realtime" in refusal(path, read_only=True)


def test_of_another_model(path: Path) -> None:
    _filled(path)
    message = refusal(path, manifest=OTHER_MODEL)
    assert f"`realtime gallery reembed --gallery {path}`" in message
    assert "test-model" in message
    assert "other-model" in message
    with Gallery.open(path) as gallery:
        assert len(gallery.people()) == 40


def test_locked(path: Path) -> None:
    with Gallery.open(path, MODEL, busy_timeout_s=0.05) as gallery:
        gallery.add("Ana", [reference(1)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryError, match="is being written by another program"):
            gallery.add("Ben", [reference(2)])
        assert gallery.references().names == ("Ana",)
        other.execute("ROLLBACK")
        assert gallery.add("Ben", [reference(2)]) == 1
        other.close()


def test_locked_whole(path: Path) -> None:
    _filled(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    assert "is being written by another program" in refusal(path, busy_timeout_s=0.05)
    other.close()


def test_disk_full_changes_nothing(path: Path) -> None:
    _filled(path)
    with Gallery.open(path, MODEL) as gallery:
        pages = gallery.query("PRAGMA page_count")[0][0]
        gallery.query(f"PRAGMA max_page_count = {pages + 3}")
        before = [(person.name, person.references) for person in gallery.people()]
        with pytest.raises(GalleryError, match="no space left to write; nothing was changed"):
            gallery.add("Zoe", [reference(100 + number, crop=crop()) for number in range(20)])
        assert [(person.name, person.references) for person in gallery.people()] == before
        assert gallery.query("PRAGMA integrity_check") == [("ok",)]
        gallery.query("PRAGMA max_page_count = 100000")
        assert gallery.add("Zoe", [reference(100, crop=crop())]) == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
from realtime.errors import GalleryError
from realtime.people.gallery import Gallery
from tests.realtime.people.helpers import MODEL, crop, reference
path = Path(sys.argv[1])
with Gallery.open(path, MODEL) as gallery:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        gallery.add("Zoe", [reference(100 + number, crop=crop()) for number in range(40)])
    except GalleryError as err:
        print(err)
    else:
        print("was written")
"""


def test_a_process_that_may_not_write_more_leaves_the_gallery_whole(path: Path) -> None:
    _filled(path)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith(f"{path}: "), done
    assert "nothing was changed" in done.stdout
    with Gallery.open(path, MODEL) as gallery:
        assert len(gallery.references()) == 40
        assert gallery.query("PRAGMA integrity_check") == [("ok",)]


ENROL = """
import sys
from pathlib import Path
from realtime.people.gallery import Gallery
from tests.realtime.people.helpers import MODEL, reference
start = int(sys.argv[2])
with Gallery.open(Path(sys.argv[1]), MODEL, busy_timeout_s=30) as gallery:
    for number in range(start, start + 25):
        gallery.add(f"person {number}", [reference(number)])
        gallery.add("Everybody", [reference(number)])
"""


def test_two_processes_enrol_at_once(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ENROL, str(path), str(start)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for start in (0, 20)  # five people are in both
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with Gallery.open(path, MODEL, create=False) as gallery:
        counts = {person.name: person.references for person in gallery.people()}
    assert counts.pop("Everybody") == 45
    assert counts == {f"person {number}": 1 for number in range(45)}


def test_a_new_file_is_migrated_from_version_0(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    assert schema_version(connection) == 0
    migrate(connection, path)
    assert schema_version(connection) == SCHEMA_VERSION
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


NEXT = (*MIGRATIONS, ("ALTER TABLE people ADD COLUMN note TEXT NOT NULL DEFAULT ''", "UPDATE people SET note = name"))


def test_an_older_file_keeps_its_people(path: Path) -> None:
    _filled(path)
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, path, NEXT)
    migrate(connection, path, NEXT)
    assert schema_version(connection) == SCHEMA_VERSION + 1
    assert connection.execute("SELECT count(*) FROM people WHERE note = name").fetchone() == (40,)
    connection.close()
    assert "newer version" in refusal(path)


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    _filled(path)
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, path, (*MIGRATIONS, ("DELETE FROM people", "CREATE TABLE people (id INTEGER)")))
    assert schema_version(connection) == SCHEMA_VERSION
    assert connection.execute("SELECT count(*) FROM people").fetchone() == (40,)
    connection.close()
    assert len(Gallery.open(path, MODEL).people()) == 40


def test_another_process_moved_it_to_another_model(path: Path) -> None:
    with Gallery.open(path, MODEL) as gallery:
        gallery.add("Ana", [reference(1)])
        assert len(gallery.references()) == 1
        with Gallery.open(path) as other:
            other.move_to(OTHER_MODEL)
        with pytest.raises(GalleryError, match="realtime gallery reembed"):
            gallery.references()
        with pytest.raises(GalleryError, match="realtime gallery reembed"):
            gallery.add("Ben", [reference(2)])
