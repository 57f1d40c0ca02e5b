from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.dlib.detector import round_half_away, suppress
from engines.dlib.pyramid import layout, to_frame


@pytest.mark.parametrize(
    ("width", "height", "canvas", "levels"),
    [(320, 240, (342, 921), 20), (640, 480, (662, 1782), 24), (1280, 720, (1302, 2644), 26)],
)
def test_canvases_are_those_that_dlib_makes(width: int, height: int, canvas: tuple[int, int], levels: int) -> None:
    pyramid = layout(width, height)
    assert (pyramid.width, pyramid.height) == canvas
    assert len(pyramid.tiles) == levels


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 2000), height=st.integers(1, 2000))
def test_tiles_lie_inside_and_those_of_a_column_apart(width: int, height: int) -> None:
    """Between the columns dlib lets the smallest level of some tall frames climb into the largest."""
    pyramid = layout(width, height)
    for index, tile in enumerate(pyramid.tiles):
        assert tile.x >= 11
        assert tile.y >= 11
        assert tile.x + tile.width <= pyramid.width - 11
        assert tile.y + tile.height <= pyramid.height - 11
        for other in pyramid.tiles[index + 1 : pyramid.left] if index < pyramid.left else pyramid.tiles[index + 1 :]:
            assert tile.y + tile.height + 10 <= other.y or other.y + other.height + 10 <= tile.y


def test_a_box_on_the_first_level_only_moves() -> None:
    pyramid = layout(640, 480)
    boxes = to_frame(pyramid, np.array([[111.0, 211.0]]), 39.5)
    assert boxes.tolist() == [[60.5, 160.5, 139.5, 239.5]]


def test_a_box_on_the_second_level_grows_by_a_fifth() -> None:
    pyramid = layout(640, 480)
    tile = pyramid.tiles[1]
    boxes = to_frame(pyramid, np.array([[tile.x + 100.0, tile.y + 50.0]]), 40.0)
    assert np.allclose(boxes, [[72.3, 12.3, 168.3, 108.3]])


def test_a_centre_between_tiles_belongs_to_the_nearest() -> None:
    pyramid = layout(640, 480)
    tile = pyramid.tiles[1]
    boxes = to_frame(pyramid, np.array([[100.0, tile.y - 9.0], [100.0, tile.y - 2.0]]), 40.0)
    assert boxes[0, 2] - boxes[0, 0] == pytest.approx(80)
    assert boxes[1, 2] - boxes[1, 0] == pytest.approx(96)


def test_halves_are_rounded_away_from_zero() -> None:
    assert round_half_away(np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, -0.49])).tolist() == [1, 2, 3, -1, -2, 0, 0]


def test_overlap_is_measured_against_the_enclosing_rectangle() -> None:
    """Intersection 50, union 150, enclosing rectangle 10x15: the three share of 1/3."""
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15]], dtype=np.float64)
    assert suppress(boxes, 0.33, 1.0) == [0]
    assert suppress(boxes, 0.34, 1.0) == [0, 1]
    diagonal = np.array([[0, 0, 10, 10], [5, 5, 15, 15]], dtype=np.float64)  # union 175, enclosing 225
    assert suppress(diagonal, 25 / 225 + 0.001, 1.0) == [0, 1]
    assert suppress(diagonal, 25 / 225 - 0.001, 1.0) == [0]


def test_a_box_inside_another_is_covered() -> None:
    boxes = np.array([[0, 0, 100, 100], [10, 10, 20, 20]], dtype=np.float64)
    assert suppress(boxes, 0.5, 1.0) == [0, 1]
    assert suppress(boxes, 0.5, 0.9) == [0]


def test_no_boxes_are_no_boxes() -> None:
    assert suppress(np.empty((0, 4)), 0.3, 1.0) == []
    assert to_frame(layout(100, 100), np.empty((0, 2)), 39.5).shape == (0, 4)
