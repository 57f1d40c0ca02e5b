"""The picture that a reference keeps holds what was embedded, and what another template needs."""

from __future__ import annotations

import numpy as np
import pytest

from realtime.capture.photo import load_photo
from realtime.faces.alignment import TEMPLATES, align
from realtime.people.reference_crop import ReferenceCrop
from tests.realtime.people.helpers import analyser, astronaut, crop


@pytest.mark.parametrize("made_for", TEMPLATES)
@pytest.mark.parametrize("wanted", TEMPLATES)
def test_a_kept_crop_gives_every_template(made_for: str, wanted: str) -> None:
    photo = load_photo(astronaut())
    points = analyser().views(photo)[0].points_P2
    direct = align(photo, points, wanted).astype(int)
    kept = ReferenceCrop.of(photo, points, made_for).aligned_to(wanted).astype(int)
    assert kept.shape == direct.shape
    # black corners would differ by a hundred; a second interpolation by a few
    assert np.abs(kept - direct).mean() < (0.5 if made_for == wanted else 4)
    assert np.abs(kept[:10] - direct[:10]).mean() < 8


def test_an_aligned_crop_alone_is_kept_as_it_is() -> None:
    view = analyser().views(load_photo(astronaut()))[0]
    kept = ReferenceCrop.of_aligned(view.crop_SS3, view.points_P2, "dlib_chip_150")
    np.testing.assert_array_equal(kept.aligned_to("dlib_chip_150"), view.crop_SS3)
    assert kept.aligned_to("arcface_112").shape == (112, 112, 3)


@pytest.mark.parametrize("png", [b"", b"not a png", crop().png[:500], b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_png_is_a_value_error(png: bytes) -> None:
    made = crop()
    damaged = ReferenceCrop(png=png, points_P2=made.points_P2, template=made.template, margin_px=made.margin_px)
    with pytest.raises(ValueError, match="crop"):
        damaged.pixels()


def test_points_and_margin_are_checked() -> None:
    made = crop()
    with pytest.raises(ValueError, match="points must be finite"):
        ReferenceCrop(png=made.png, points_P2=np.full((5, 2), np.nan, np.float32), template="arcface_112", margin_px=0)
    with pytest.raises(ValueError, match="points must be finite"):
        ReferenceCrop(png=made.png, points_P2=np.zeros((4, 2), np.float32), template="arcface_112", margin_px=0)
    with pytest.raises(ValueError, match="margin"):
        ReferenceCrop(png=made.png, points_P2=made.points_P2, template="arcface_112", margin_px=-1)
    with pytest.raises(ValueError, match="no crop"):
        ReferenceCrop(png=made.png, points_P2=made.points_P2, template="arcface_112", margin_px=100).pixels()
