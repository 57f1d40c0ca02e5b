"""What the tests of faces/, people/ and flow/ share: the real engine, and a gallery that knows the astronaut."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

from engines.engine import Engine, open_engine
from realtime.faces.analysis import FaceAnalyser
from realtime.faces.detection import HogDetector
from realtime.faces.landmarks import Landmarker
from realtime.people.matching import References
from realtime.records import RGB_HW3
from realtime.settings import DetectSettings
from tests.realtime import pictures

settings.register_profile("realtime", deadline=None)  # a busy machine is no failure
settings.load_profile("realtime")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The embedded network on the fastest runtime."""
    opened = open_engine()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def photo_analyser(engine: Engine) -> FaceAnalyser:
    return FaceAnalyser(HogDetector(DetectSettings(), again=False), Landmarker(), engine)


@pytest.fixture(scope="session")
def astronaut() -> RGB_HW3:
    """(512, 512, 3) RGB, one face about 90 pixels wide; read only."""
    return pictures.astronaut()


@pytest.fixture(scope="session")
def eileen(photo_analyser: FaceAnalyser, astronaut: RGB_HW3) -> References:
    """Two people: the astronaut under her name, and somebody who never comes into the picture."""
    embeddings_ND = [
        photo_analyser.embed([photo_analyser.views(picture)[0].crop_SS3])
        for picture in (astronaut, pictures.stranger(2))
    ]
    return References(
        embeddings_MD=np.concatenate(embeddings_ND),
        persons_M=np.array([0, 1]),
        names=("Eileen", "Somebody else"),
        model_id=photo_analyser.manifest.model_id,
        version=1,
    )
