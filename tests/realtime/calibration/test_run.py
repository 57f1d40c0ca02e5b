"""From photos to thresholds: the cache, a stop half-way, the report, the manifest."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engines.export import load_model, write_atomically
from engines.manifest import Manifest
from engines.store import default_model
from realtime.calibration.embeddings import CHUNK, NO_FACE, Embedded, choose_view, embed_set, join, load, save
from realtime.calibration.images import open_set
from realtime.calibration.report import models_yaml_lines, report
from realtime.calibration.run import calibrate, embed_cached, measure, write_threshold
from realtime.errors import RealtimeError
from realtime.records import RGB_HW3
from realtime.settings import Settings
from tests.paths import SHARED, needs_shared


@dataclass
class FakeQuality:
    weight: float = 0.5


@dataclass
class FakeView:
    box: tuple[float, float, float, float]
    crop_SS3: RGB_HW3
    quality: FakeQuality


class FakeAnalyser:
    """Finds one face in every photo that is not black; its embedding is the photo's colour."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.photos = 0
        self._stop_after = stop_after

    def views(self, rgb_HW3: RGB_HW3) -> Sequence[FakeView]:
        if self._stop_after is not None and self.photos >= self._stop_after:
            raise KeyboardInterrupt
        self.photos += 1
        if not rgb_HW3.any():
            return []
        return [FakeView((0, 0, 1, 1), rgb_HW3[:1, :1], FakeQuality())]

    def embed(self, crops_NSS3: list[RGB_HW3]) -> NDArray[np.float32]:
        return np.array([crop[0, 0] / 255 for crop in crops_NSS3], dtype=np.float32).reshape(-1, 3)


def photos(folder: Path, people: int, each: int) -> Path:
    generator = np.random.default_rng(2)
    for person in range(people):
        centre = generator.integers(30, 220, 3)
        for number in range(1, each + 1):
            colour = np.clip(centre + generator.integers(-4, 5, 3), 1, 255).astype(np.uint8)
            path = folder / f"p{person:02d}" / f"p{person:02d}_{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), colour)).save(path)
    return folder


@pytest.fixture(scope="module")
def people_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = photos(tmp_path_factory.mktemp("set") / "people", 24, 5)
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(folder / "p00" / "black.png")
    (folder / "p01" / "broken.png").write_bytes(b"not an image")
    return folder


def manifest() -> Manifest:
    return Manifest(
        name="fake",
        network="fake",
        weights_sha256="0" * 64,
        template="dlib_chip_150",
        input_size=150,
        dimensions=3,
        unit_length=False,
        mirrored=False,
        threshold=0.1,
        threshold_fmr=None,
        threshold_source="none",
        licence="none",
    )


@pytest.fixture(scope="module")
def embedded(people_folder: Path) -> Embedded:
    found = join(embed_set(open_set(people_folder), FakeAnalyser()))
    assert found is not None
    return found


def test_every_photo_is_embedded_or_named_with_its_reason(embedded: Embedded) -> None:
    assert len(embedded) == 24 * 5
    assert embedded.failures["p00/black.png"] == NO_FACE
    assert "broken.png" in embedded.failures["p01/broken.png"]
    assert len(embedded.failures) == 2
    assert [embedded.people[k] == f"p{embedded.persons_N[k]:02d}" for k in range(len(embedded))] == [True] * 120


def test_the_face_over_the_centre_is_whom_the_photo_is_of() -> None:
    crop = np.zeros((1, 1, 3), dtype=np.uint8)
    beside, centre, large = (
        FakeView(box, crop, FakeQuality()) for box in ((0, 0, 30, 30), (40, 40, 60, 60), (60, 0, 100, 40))
    )
    assert choose_view([large, beside, centre], 100, 100) is centre
    assert choose_view([large, beside], 100, 100) is large
    assert choose_view([], 100, 100) is None


def test_a_second_call_embeds_nothing(people_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "made" / "cache.npz"
    first = embed_cached(open_set(people_folder), FakeAnalyser(), cache, lambda done, total: None)
    again = FakeAnalyser()
    second = embed_cached(open_set(people_folder), again, cache, lambda done, total: None)
    assert again.photos == 0
    assert second.names == first.names
    assert (second.embeddings_ND == first.embeddings_ND).all()
    assert second.failures == first.failures
    assert [path.name for path in cache.parent.iterdir()] == ["cache.npz"]


def test_a_stopped_call_goes_on_where_it_was(people_folder: Path, tmp_path: Path, embedded: Embedded) -> None:
    cache = tmp_path / "cache.npz"
    with pytest.raises(KeyboardInterrupt):
        embed_cached(open_set(people_folder), FakeAnalyser(stop_after=50), cache, lambda done, total: None)
    kept = load(cache)
    assert kept is not None
    assert len(kept) + len(kept.failures) == 50 // CHUNK * CHUNK
    told: list[tuple[int, int]] = []
    rest = FakeAnalyser()
    found = embed_cached(open_set(people_folder), rest, cache, lambda done, total: told.append((done, total)))
    assert rest.photos == 121 - len({*kept.names, *kept.failures} - {"p01/broken.png"})
    assert set(found.names) == set(embedded.names)
    assert told[-1] == (122, 122)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04rubbish", b"\x93NUMPY"])
def test_a_damaged_cache_is_made_again(people_folder: Path, tmp_path: Path, damage: bytes) -> None:
    cache = tmp_path / "cache.npz"
    cache.write_bytes(damage)
    analyser = FakeAnalyser()
    embed_cached(open_set(people_folder), analyser, cache, lambda done, total: None)
    assert analyser.photos == 121
    assert load(cache) is not None


def test_a_cache_with_objects_in_it_is_not_opened(tmp_path: Path, embedded: Embedded) -> None:
    cache = tmp_path / "cache.npz"
    save(embedded, cache)
    with np.load(cache) as arrays:
        values = dict(arrays)
    out = io.BytesIO()
    np.savez(out, **{**values, "names": np.array([object()], dtype=object)})
    cache.write_bytes(out.getvalue())
    assert load(cache) is None


def test_arrays_that_do_not_go_together_are_no_cache(tmp_path: Path, embedded: Embedded) -> None:
    cache = tmp_path / "cache.npz"
    save(replace(embedded, people=embedded.people[:-1]), cache)
    assert load(cache) is None


def test_a_set_without_a_face_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "set" / "ana").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "set" / "ana" / "1.png")
    with pytest.raises(RealtimeError, match="no face was found"):
        embed_cached(open_set(tmp_path / "set"), FakeAnalyser(), tmp_path / "c.npz", lambda done, total: None)


def test_one_person_cannot_be_told_from_anybody(embedded: Embedded) -> None:
    alone = Embedded(
        names=("a/1.png",), people=("a",), embeddings_ND=embedded.embeddings_ND[:1], weights_N=embedded.weights_N[:1]
    )
    with pytest.raises(RealtimeError, match="at least two"):
        measure(alone, manifest(), "test", set_name="set")


def test_listed_pairs_count_failures_as_not_matched(tmp_path: Path, embedded: Embedded) -> None:
    failed = replace(embedded, failures={"p00/p00_0099.png": NO_FACE})
    path = tmp_path / "pairs.txt"
    path.write_text("p00\t1\t2\np01\t1\t5\np00\t1\t99\np00\t1\tp01\t2\nabsent\t1\t2\n")
    found = measure(failed, manifest(), "test", set_name="people", pairs_file=path, rates=[1e-2])
    assert found.listed is not None
    assert (len(found.listed.mated), int(np.isinf(found.listed.mated).sum()), found.listed.absent) == (3, 1, 1)
    assert found.listed.share_below(10.0) == pytest.approx(2 / 3)
    assert found.to_json()["points"][0]["listed_tar"] == found.listed.share_below(found.point(1e-2).threshold)
    assert "listed mated pairs with a photo without embedding: 1" in report(found, rate=1e-2, margin=0.04)


def test_the_report_and_the_json_say_the_same(embedded: Embedded) -> None:
    found = measure(embedded, manifest(), "test runtime", set_name="people", rates=[5e-2, 1e-2, 1e-6])
    text = report(found, rate=1e-2, margin=0.04)
    values = json.loads(json.dumps(found.to_json()))
    assert [point["wanted_fmr"] for point in values["points"]] == [5e-2, 1e-2]
    for point in found.points:
        assert f"{point.threshold:.4f}" in text
    assert "120 faces of 24 people" in text
    assert "p00/black.png: no face found" in text
    assert values["failures"].keys() == embedded.failures.keys()
    assert values["trials"]
    assert f"threshold: {found.point(1e-2).threshold:g}" in models_yaml_lines(found, 1e-2)
    with pytest.raises(RealtimeError, match="too few for a rate of 1e-06"):
        found.point(1e-6)


def test_the_threshold_is_written_into_the_model_that_was_measured(tmp_path: Path, embedded: Embedded) -> None:
    model = default_model()
    path = tmp_path / "model.onnx"
    write_atomically(path, model.content)
    found = measure(embedded, model.manifest, "test", set_name="people", rates=[1e-2])
    written = write_threshold(path, found, 1e-2)
    stored = load_model(path).manifest
    assert stored == written
    assert (stored.threshold, stored.threshold_fmr) == (found.point(1e-2).threshold, 1e-2)
    assert "people: 120 photos of 24 people" in stored.threshold_source
    assert stored.model_id == model.manifest.model_id
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_another_model_is_not_written_to(tmp_path: Path, embedded: Embedded) -> None:
    path = tmp_path / "model.onnx"
    content = default_model().content
    write_atomically(path, content)
    found = measure(embedded, manifest(), "test", set_name="people", rates=[1e-2])
    with pytest.raises(RealtimeError, match="is not the model that was measured"):
        write_threshold(path, found, 1e-2)
    assert path.read_bytes() == content


class TestRealFaces:
    pytestmark = needs_shared

    def test_five_people_are_told_apart(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REALTIME_CACHE", str(tmp_path / "cache"))
        found = calibrate(SHARED / "johns", Settings(), rates=[1e-2])
        assert (found.photos, found.people, found.failures) == (55, 5, {})
        point = found.point(1e-2)
        assert 0.08 < point.threshold < 0.4
        assert (point.mated_below or 0) > 0.9
        assert list((tmp_path / "cache" / "calibration").iterdir())
