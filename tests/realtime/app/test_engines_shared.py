"""The sample clip through a network of another family: gallery moved, every frame named or not, nothing in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from engines.__main__ import app
from tests.paths import SHARED, needs_shared
from tests.realtime.app.commands import Realtime, whole_lines

pytest.importorskip("torch")
pytestmark = needs_shared

HAMILTON = SHARED / "hamilton"


@pytest.fixture(scope="module")
def iresnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: enough for speed and plumbing, worth nothing for names."""
    path = tmp_path_factory.mktemp("model") / "iresnet50.onnx"
    done = CliRunner().invoke(app, ["export", "iresnet50", "--random", "0", "--output", str(path)])
    assert done.exit_code == 0, done.output
    return path


def test_the_clip_runs_through_an_iresnet50(realtime: Realtime, iresnet50: Path, tmp_path: Path) -> None:
    gallery, lines = tmp_path / "people.sqlite", tmp_path / "named.jsonl"
    photos = [HAMILTON / "lin-manuel-miranda.png", HAMILTON / "alex-lacamoire.png"]
    assert realtime("enroll", *photos, "--gallery", gallery).code == 0
    with_it = ("--gallery", gallery, "--set", f"embed.model={iresnet50}")
    assert realtime("gallery", "reembed", *with_it).code == 0
    ran = realtime("--source", HAMILTON / "short_hamilton_clip.mp4", *with_it, "--no-window", "--output", lines)
    assert ran.code == 0
    assert ran.err.startswith("iresnet50-random-0 on ")
    frames = whole_lines(lines)
    assert [frame["frame"] for frame in frames] == list(range(275))
    assert sum(bool(frame["faces"]) for frame in frames) > 150
