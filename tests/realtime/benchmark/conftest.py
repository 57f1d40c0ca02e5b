"""A few real frames of the demo, and a gallery that knows whom they show."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from realtime.bench import make_gallery
from realtime.benchmark.clips import frames_of, render
from realtime.benchmark.loops import Job
from realtime.capture.demo import DEMO_NAME, DemoSource, demo_photo
from realtime.settings import CaptureSettings, Settings

FIRST = 86
"""Where the demo's camera is nearest: the recipe, which looks at a quarter of the frame, needs a large face."""

FRAMES = 6


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
