"""The README's picture is what the script beside it draws."""

import runpy
from pathlib import Path

import numpy as np
from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_the_committed_picture_is_the_drawn_one(tmp_path: Path) -> None:
    runpy.run_path(str(DOCS / "draw_flow.py"))["main"](tmp_path / "flow.png")
    committed, drawn = (
        np.asarray(Image.open(path).convert("RGB"), dtype=int) for path in (DOCS / "flow.png", tmp_path / "flow.png")
    )
    assert committed.shape == drawn.shape
    assert np.abs(committed - drawn).mean() < 2, "docs/flow.png is old; run python docs/draw_flow.py"
