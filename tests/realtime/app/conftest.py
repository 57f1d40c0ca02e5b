"""What the tests of the command line share: folders of their own, a film with a real face, and who is in it."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.engine import Engine
from engines.store import CACHE_VARIABLE, DATA_VARIABLE
from realtime.app import main
from realtime.people.gallery import Gallery
from realtime.people.matching import References
from realtime.people.reference import Reference
from tests.realtime.app.commands import Ran, Realtime, make_portrait_film


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tests neither read nor fill the user's cache; the model is converted once for all of them."""
    folder = tmp_path_factory.mktemp("app-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder of this test, which is not there yet."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    return tmp_path / "data"


@pytest.fixture
def realtime(data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Realtime:
    """``realtime ARGS`` in this process, logging as it does in one of its own."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["realtime", *map(str, arguments)])
        capfd.readouterr()
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        root.handlers[:] = []
        try:
            with pytest.raises(SystemExit) as stopped:
                main()
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
        captured = capfd.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.6 seconds of the astronaut, 640 x 360, with sound."""
    return make_portrait_film(tmp_path_factory.mktemp("film") / "clip.mp4", sound=True)


@pytest.fixture(scope="session")
def empty_gallery(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Path:
    path = tmp_path_factory.mktemp("gallery") / "empty.sqlite"
    with Gallery.open(path, engine.manifest):
        return path


@pytest.fixture(scope="session")
def enrolled(tmp_path_factory: pytest.TempPathFactory, engine: Engine, eileen: References) -> Path:
    path = tmp_path_factory.mktemp("gallery") / "people.sqlite"
    with Gallery.open(path, engine.manifest) as opened:
        for row, name in enumerate(eileen.names):
            reference = Reference(
                embedding_D=eileen.embeddings_MD[row], photo_sha256=f"{row:064d}", source=f"{name}.jpg", quality=0.9
            )
            opened.add(name, [reference])
    return path


@pytest.fixture
def people(tmp_path: Path, enrolled: Path) -> Path:
    """A gallery of this test alone that knows Eileen, and somebody who never comes."""
    return Path(shutil.copy(enrolled, tmp_path / "people.sqlite"))


@pytest.fixture
def nobody(tmp_path: Path, empty_gallery: Path) -> Path:
    """A gallery of this test alone with nobody in it."""
    return Path(shutil.copy(empty_gallery, tmp_path / "nobody.sqlite"))
