"""A few real frames of the demo, and a gallery that knows whom they show."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from realtime.bench import make_gallery
from realtime.benchmark.clips import frames_of, render
from realtime.benchmark.loops import Job
from realtime.benchmark.measure import Measurement, measure
from realtime.capture.demo import DEMO_NAME, DemoSource, demo_photo
from realtime.settings import CaptureSettings, Settings

FIRST = 86
"""Where the demo's camera is nearest: the recipe, which looks at a quarter of the frame, needs a large face."""

FRAMES = 4


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some frames of the demo as a file; its first timestamp is not 0."""
    path = tmp_path_factory.mktemp("clips") / "few.mp4"
    assert render(islice(frames_of(DemoSource(CaptureSettings())), FIRST, FIRST + FRAMES), path) == FRAMES
    return path


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("galleries") / "people.sqlite"
    make_gallery([(DEMO_NAME, demo_photo())], Settings(), path)
    return path


@pytest.fixture
def job(clip: Path, gallery: Path) -> Job:
    return Job(loop="pipeline", clip=str(clip), photos=((DEMO_NAME, str(demo_photo())),), gallery=str(gallery))


@pytest.fixture(scope="session")
def measured(clip: Path, gallery: Path) -> Callable[[str], Measurement]:
    """Each loop on the clip, run once for all tests."""
    photos = ((DEMO_NAME, str(demo_photo())),)

    @cache
    def of(loop: str) -> Measurement:
        return measure(Job(loop=loop, clip=str(clip), photos=photos, gallery=str(gallery)))

    return of
