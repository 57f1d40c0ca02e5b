"""The aligner that engines/ finds: real photos become the crops that the rest of the program would make of them."""

from __future__ import annotations

import io
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.errors import EngineError
from engines.verification.faces import read_faces
from realtime.calibration.crops import AlignedPhotos, align_photos
from realtime.calibration.embeddings import NO_FACE, choose_view
from realtime.faces.alignment import TEMPLATES
from realtime.faces.analysis import open_analyser
from realtime.settings import Settings
from tests.paths import SHARED, needs_shared
from tests.realtime.pictures import astronaut

CHIP = {"template": "dlib_chip_150", "size": 150}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "Eileen").mkdir(parents=True)
    Image.fromarray(astronaut()).save(folder / "Eileen" / "1.png")
    Image.fromarray(astronaut()[:, ::-1]).save(folder / "loose.png")
    Image.fromarray(np.zeros((80, 80, 3), dtype=np.uint8)).save(folder / "Eileen" / "black.png")
    (folder / "Eileen" / "broken.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALTIME_CACHE", str(tmp_path / "cache"))


def opened(path: Path, **options: str) -> AlignedPhotos:
    return align_photos(path, **CHIP, options={key.replace("__", "."): value for key, value in options.items()})


def test_every_photo_has_a_crop_or_a_reason(photos: Path) -> None:
    with closing(opened(photos, second_look="none")) as found:
        assert found.names == ("loose.png", "Eileen/1.png", "Eileen/black.png", "Eileen/broken.jpg")
        assert found.people == ("", "Eileen", "Eileen", "Eileen")
        crops = [found.crop(index) for index in range(4)]
    assert [crop.shape for crop in crops[:2] if not isinstance(crop, str)] == [(150, 150, 3)] * 2
    assert crops[2] == NO_FACE
    assert isinstance(crops[3], str)
    assert "broken.jpg" in crops[3]


def test_a_crop_is_what_the_rest_of_the_program_makes(photos: Path) -> None:
    rgb = astronaut()
    with closing(open_analyser(Settings())) as analyser:
        view = choose_view(analyser.views(rgb), rgb.shape[1], rgb.shape[0])
    assert view is not None
    with closing(opened(photos)) as found:
        assert (np.asarray(found.crop(1)) == view.crop_SS3).all()


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_every_template_has_its_size(photos: Path, template: str) -> None:
    size = TEMPLATES[template].size
    with closing(align_photos(photos, template=template, size=size, options={})) as found:
        assert np.asarray(found.crop(1)).shape == (size, size, 3)
    with pytest.raises(EngineError, match="pixels and the model takes 99"):
        align_photos(photos, template=template, size=99, options={})


def test_the_network_looks_where_hog_finds_nothing(tmp_path: Path) -> None:
    """A face turned on its side: HOG knows upright ones only."""
    folder = tmp_path / "turned"
    folder.mkdir()
    Image.fromarray(np.ascontiguousarray(np.rot90(astronaut()[:260, 90:350]))).save(folder / "1.png")
    with closing(opened(folder, second_look="none")) as alone, closing(opened(folder)) as both:
        assert alone.crop(0) == NO_FACE
        assert np.asarray(both.crop(0)).shape == (150, 150, 3)


def test_the_digest_follows_photos_and_options(photos: Path) -> None:
    def digest(**options: str) -> str:
        with closing(opened(photos, **options)) as found:
            return found.digest

    known = {digest(), digest(align__landmarks="68"), digest(detect__kind="cnn"), digest(second_look="none")}
    assert len(known) == 4
    assert digest() == digest(second_look="cnn") == digest(chip_padding="0.25")
    assert digest(chip_padding="0.3") not in known
    (photos / "Eileen" / "black.png").unlink()
    assert digest() not in known


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"second_look": "yes"}, "known are cnn, none"),
        ({"embed.model": "x"}, "does not decide a crop"),
        ({"detect.kind": "eyes"}, "--align detect.kind=eyes"),
        ({"detect.knd": "hog"}, "did you mean"),
        ({"nothing": ""}, "does not decide a crop"),
        ({"chip_padding": "wide"}, "takes 0 to 1"),
        ({"chip_padding": "1.5"}, "takes 0 to 1"),
    ],
)
def test_wrong_options_are_one_sentence(photos: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        align_photos(photos, **CHIP, options=options)


def test_no_photos_and_no_template_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EngineError, match="no photos in it"):
        align_photos(tmp_path / "empty", **CHIP, options={})
    with pytest.raises(EngineError, match="template 'mine' is not known"):
        align_photos(tmp_path, template="mine", size=150, options={})


def test_engines_finds_the_aligner_by_itself(photos: Path) -> None:
    found = read_faces(photos, **CHIP, options={"second_look": "none"})
    assert found.names == ("loose.png", "Eileen/1.png")
    assert set(found.failures) == {"Eileen/black.png", "Eileen/broken.jpg"}
    assert "2 of 4 photos aligned to dlib_chip_150" in found.source


def test_a_tar_is_read_in_place(tmp_path: Path, photos: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        data = (photos / "Eileen" / "1.png").read_bytes()
        for name in ("Eileen/1.png", "../escape.png"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert read_faces(tmp_path / "set.tar", **CHIP).names == ("Eileen/1.png",)


class TestRealFaces:
    pytestmark = needs_shared

    def test_photos_of_five_people(self) -> None:
        found = read_faces(SHARED / "johns", **CHIP, form="photos", limit=10)
        assert (len(found), found.failures) == (10, {})
        assert found.labelled
