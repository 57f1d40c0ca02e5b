"""Batches keep the order, whatever their size; a mean over views is weighted and of unit length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from engines.engine import Engine
from engines.export import with_manifest
from engines.quantise import MIN_FACES
from engines.store import default_model
from realtime.errors import EngineError, RealtimeError
from realtime.faces.embedding import CALIBRATION_FACES, calibration_faces, embed_in_batches, fuse, open_embedder
from realtime.settings import EmbedSettings


def noise(count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_no_crops_give_no_embeddings_of_the_right_width(engine: Engine) -> None:
    assert embed_in_batches(engine, [], 8).shape == (0, engine.manifest.dimensions)


@pytest.mark.parametrize("as_list", [True, False])
def test_embeddings_come_in_the_order_of_the_crops(engine: Engine, as_list: bool) -> None:
    crops = noise(5, engine.manifest.input_size)
    alone = np.concatenate([engine.run(crop[None]) for crop in crops])
    together = embed_in_batches(engine, list(crops) if as_list else crops, 2)
    assert together.shape == (5, engine.manifest.dimensions)
    assert together.dtype == np.float32
    assert np.abs(together - alone).max() < 0.02  # bf16 rounds otherwise in another batch


@pytest.mark.parametrize(("template", "said"), [("arcface_112", "at 150 pixels"), ("vgg_160", "'vgg_160'")])
def test_a_model_for_faces_that_are_aligned_otherwise_is_refused(tmp_path: Path, template: str, said: str) -> None:
    embedded = default_model()
    model = onnx.load_from_string(embedded.content)
    file = tmp_path / "model.onnx"
    file.write_bytes(with_manifest(model, replace(embedded.manifest, template=template)))
    with pytest.raises(RealtimeError, match=f"{file}.*{said}.*dlib_chip_150"):
        open_embedder(EmbedSettings(model=str(file)))


@pytest.mark.parametrize("count", [0, MIN_FACES - 1])
def test_too_few_faces_for_int8_are_one_sentence(engine: Engine, count: int) -> None:
    with pytest.raises(EngineError, match=f"{MIN_FACES} faces or more, and the gallery holds {count}; enrol more"):
        calibration_faces(EmbedSettings(), engine.manifest, lambda template, limit: noise(count, 150))
    with pytest.raises(EngineError, match=r"the gallery holds 0; .*embed\.calibration"):
        calibration_faces(EmbedSettings(), engine.manifest, None)


def test_enrolled_faces_for_int8_are_asked_for_in_the_models_template(engine: Engine) -> None:
    asked = []

    def enrolled(template: str, limit: int) -> NDArray[np.uint8]:
        asked.append((template, limit))
        return noise(40, 150)[::-1]

    faces = calibration_faces(EmbedSettings(), engine.manifest, enrolled)
    assert asked == [("dlib_chip_150", CALIBRATION_FACES)]
    assert faces.flags.c_contiguous
    np.testing.assert_array_equal(faces, noise(40, 150)[::-1])


def test_a_folder_of_crops_comes_before_those_enrolled(engine: Engine, tmp_path: Path) -> None:
    crops = noise(40, 150)
    for number, crop in enumerate(crops):
        cv2.imwrite(str(tmp_path / f"{number:03d}.png"), crop[..., ::-1])
    settings = EmbedSettings(calibration=str(tmp_path))

    def enrolled(template: str, limit: int) -> NDArray[np.uint8]:
        raise AssertionError("not asked")

    faces = calibration_faces(settings, engine.manifest, enrolled)
    np.testing.assert_array_equal(faces, crops)
    for number in range(30):
        (tmp_path / f"{number:03d}.png").unlink()
    with pytest.raises(EngineError, match=f"{tmp_path} holds 10; point it at more"):
        calibration_faces(settings, engine.manifest, enrolled)


def test_the_settings_reach_the_engine(engine: Engine) -> None:
    opened = open_embedder(EmbedSettings(runtime="onnxruntime", precision="fp32", threads=2))
    assert opened.runtime == "onnxruntime fp32, 2 threads"
    opened.close()
    with pytest.raises(EngineError, match="dlib-resnet-v2"):
        open_embedder(EmbedSettings(model="dlib-resnet-v2"))
    by_name = open_embedder(EmbedSettings(model="dlib-resnet-v1"))
    assert by_name.manifest == engine.manifest
    by_name.close()


def test_no_batch_is_larger_than_asked(engine: Engine) -> None:
    seen = []

    class Counting:
        manifest = engine.manifest

        def run(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
            seen.append(len(faces))
            return np.zeros((len(faces), 128), np.float32)

    embed_in_batches(Counting(), noise(7, 8), 3)  # type: ignore[arg-type]
    assert seen == [3, 3, 1]


views = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=st.floats(-2, 2, width=32))


@given(views, st.integers(0, 1000))
def test_fused_is_the_weighted_mean(embeddings_ND: NDArray[np.float32], seed: int) -> None:
    weights_N = np.random.default_rng(seed).uniform(0.01, 1, len(embeddings_ND)).astype(np.float32)
    expected = np.average(embeddings_ND.astype(np.float64), axis=0, weights=weights_N)
    assert fuse(embeddings_ND, weights_N, unit_length=False) == pytest.approx(expected, abs=1e-5)
    fused = fuse(embeddings_ND, weights_N, unit_length=True)
    assert fused.dtype == np.float32
    if np.linalg.norm(expected) > 1e-3:
        assert float(np.linalg.norm(fused)) == pytest.approx(1, abs=1e-5)
        assert fused == pytest.approx(expected / np.linalg.norm(expected), abs=1e-3)


@pytest.mark.parametrize("unit_length", [True, False])
def test_views_that_cancel_out_or_weigh_nothing_stay_finite(unit_length: bool) -> None:
    opposite = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert np.isfinite(fuse(opposite, np.ones(2, np.float32), unit_length=unit_length)).all()
    assert np.isfinite(fuse(opposite, np.zeros(2, np.float32), unit_length=unit_length)).all()
