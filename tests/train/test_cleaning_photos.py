"""Sub-centre cleaning on real photos whose labels were shuffled, with the embedded descriptor."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.engine import open_model
from engines.store import default_model
from tests.paths import SHARED, needs_shared
from train.cleaning.run import clean
from train.prepared import LABELS, PreparedSet, open_prepared
from train.preparing.folder import open_folder
from train.preparing.run import prepare

pytestmark = needs_shared

PEOPLE, IMAGES = 30, 12
"""A twelfth of what the documented figures rest on: enough to fail where cleaning does not work."""


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedSet, NDArray[np.bool_]]:
    """LFW's first people with enough images, a fifth of the labels exchanged among each other; which are wrong."""
    folder = tmp_path_factory.mktemp("lfw")
    with tarfile.open(SHARED / "lfw" / "lfw-deepfunneled.tar") as tar:
        photos: dict[str, list[tarfile.TarInfo]] = {}
        for member in tar.getmembers():
            if member.isreg() and member.name.endswith(".jpg"):
                photos.setdefault(Path(member.name).parent.name, []).append(member)
        for person in [person for person, own in sorted(photos.items()) if len(own) >= IMAGES][:PEOPLE]:
            (folder / "photos" / person).mkdir(parents=True)
            for member in photos[person][:IMAGES]:
                content = tar.extractfile(member)
                assert content is not None
                with (folder / "photos" / person / Path(member.name).name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    prepare(open_folder(folder / "photos", template="dlib_chip_150"), folder / "set")
    labels_N = np.load(folder / "set" / LABELS)
    random = np.random.default_rng(1)
    chosen = random.choice(len(labels_N), len(labels_N) // 5, replace=False)
    wrong_N = labels_N.copy()
    wrong_N[chosen] = labels_N[random.permutation(chosen)]
    np.save(folder / "set" / LABELS, wrong_N)
    return open_prepared(folder / "set"), wrong_N != labels_N


@pytest.mark.parametrize("angle_deg", [75.0, None], ids=["the paper's angle", "the set's own angle"])
def test_most_shuffled_images_are_found_and_few_others(
    shuffled: tuple[PreparedSet, NDArray[np.bool_]], angle_deg: float | None
) -> None:
    prepared, wrong_N = shuffled
    engine = open_model(default_model(), runtime="onnxruntime", precision="fp32", threads=2)
    try:
        found = clean(prepared, engine.run, angle_deg=angle_deg)
    finally:
        engine.close()
    named = {drop.name for drop in found.drops}
    dropped_N = np.array([name in named for name in prepared.train.names])
    hits = int((dropped_N & wrong_N).sum())
    assert hits >= 0.8 * wrong_N.sum()
    assert hits >= 0.9 * dropped_N.sum()
