"""What the tests of engines/ share: a cache of their own, the installed weights, and real faces."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.dlib.networks import Detector, Network, read_mmod, read_resnet
from engines.models import CNN_DETECTOR, DEFAULT, find_weights, known_model
from engines.store import CACHE_VARIABLE, DATA_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tests neither read nor fill the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        patch.setenv(DATA_VARIABLE, str(folder / "data"))
        yield folder


@pytest.fixture(scope="session")
def resnet_path() -> Path:
    return known_model(DEFAULT).weights_path()


@pytest.fixture(scope="session")
def mmod_path() -> Path:
    return find_weights(*CNN_DETECTOR)


@pytest.fixture(scope="session")
def resnet(resnet_path: Path) -> Network:
    return read_resnet(resnet_path)


@pytest.fixture(scope="session")
def mmod(mmod_path: Path) -> Detector:
    return read_mmod(mmod_path)


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """(512, 512, 3) RGB, one face about 95 pixels wide around (216, 117)."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.submodule_search_locations
    image = cv2.imread(str(Path(spec.submodule_search_locations[0]) / "data" / "astronaut.png"))
    return np.ascontiguousarray(image[:, :, ::-1])


@pytest.fixture(scope="session")
def chips(astronaut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(24, 150, 150, 3): the face turned, moved, scaled, relit and blurred, each time otherwise."""
    random = np.random.default_rng(7)
    made = []
    for _ in range(24):
        turn, scale = random.uniform(-25, 25), random.uniform(0.8, 1.5)
        matrix = cv2.getRotationMatrix2D((216.0, 117.0), turn, scale)
        matrix[:, 2] += np.array([75.0, 75.0]) - (216.0, 117.0) + random.uniform(-8, 8, 2)
        chip = cv2.warpAffine(astronaut, matrix, (150, 150), flags=cv2.INTER_LINEAR).astype(np.float64)
        chip = cv2.GaussianBlur(chip, (0, 0), random.uniform(0.1, 1.5))
        chip = chip * random.uniform(0.5, 1.4, 3) + random.uniform(-20, 20)
        made.append(np.clip(chip, 0, 255).astype(np.uint8))
    return np.stack(made)
