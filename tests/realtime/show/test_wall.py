"""Every source has its place on the wall, and a point of the wall is a point of a source."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.settings import ShowSettings
from realtime.show.naming import Draft, nameless_at, nearest_nameless
from realtime.show.overlay import STYLES, Overlay
from realtime.show.wall import BACKGROUND, Place, Tile, arrange, compose, locate
from tests.realtime.show.samples import running, seen

OVERLAY = Overlay(ShowSettings())


def tile(source: str, width: int = 64, height: int = 36, value: int = 200, **more: object) -> Tile:
    return Tile(source=source, rgb=np.full((height, width, 3), value, np.uint8), **more)  # type: ignore[arg-type]


sizes = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=9)


@settings(deadline=None)
@given(sizes, st.integers(160, 900), st.integers(120, 700))
def test_places_lie_inside_apart_and_keep_their_form(frames: list[tuple[int, int]], width: int, height: int) -> None:
    places = arrange([tile(str(n), *size) for n, size in enumerate(frames)], width, height)
    assert [place.source for place in places] == [str(n) for n in range(len(frames))]
    taken = np.zeros((height, width), int)
    for place, (frame_width, frame_height) in zip(places, frames, strict=True):
        assert place.x >= 0
        assert place.y >= 0
        assert place.x + place.width <= width
        assert place.y + place.height <= height
        taken[place.y : place.y + place.height, place.x : place.x + place.width] += 1
        if min(place.width, place.height) > 1:  # one scale for both sides, but for rounding to whole pixels
            assert (place.width - 1) * frame_height <= (place.height + 1) * frame_width
            assert (place.height - 1) * frame_width <= (place.width + 1) * frame_height
    assert taken.max() == 1


@settings(deadline=None)
@given(sizes, st.data())
def test_a_point_of_the_wall_is_found_in_its_frame(frames: list[tuple[int, int]], data: st.DataObject) -> None:
    tiles = [tile(str(n), *size) for n, size in enumerate(frames)]
    places = arrange(tiles, 800, 600)
    place = data.draw(st.sampled_from(places))
    x = data.draw(st.floats(0, place.frame_width, exclude_max=True))
    y = data.draw(st.floats(0, place.frame_height, exclude_max=True))
    found = locate(places, place.x + x * place.scale[0], place.y + y * place.scale[1])
    if found is not None:  # rounding may step over the far edge by less than a pixel
        assert found[0] == place.source
        assert found[1] == pytest.approx((x, y), abs=1e-6 * max(place.frame_width, place.frame_height))


def test_between_the_pictures_there_is_no_source() -> None:
    places = arrange([tile("a", 90, 30)], 300, 300)
    assert locate(places, 150, 10) is None
    assert locate(places, 150, 150) == ("a", pytest.approx((45, 15)))


def test_one_source_of_the_windows_size_is_shown_as_it_is() -> None:
    given_tile = tile("a", 320, 180, value=77)
    wall, places = compose([given_tile], 320, 180, OVERLAY)
    assert (wall == 77).all()
    assert places == (Place(source="a", x=0, y=0, width=320, height=180, frame_width=320, frame_height=180),)


def test_four_sources_stand_in_two_rows_and_a_lone_one_in_the_middle() -> None:
    four = arrange([tile(str(n)) for n in range(4)], 640, 360)
    assert len({place.x for place in four}) == len({place.y for place in four}) == 2
    third = arrange([tile(str(n)) for n in range(3)], 640, 360)[2]
    assert abs(third.x + third.width / 2 - 320) <= 1


def test_the_wall_has_bars_names_at_its_own_scale_and_dark_tiles() -> None:
    face = seen(box=(20, 12, 30, 24), name="Ana")
    tiles = [tile("a", sightings=(face,)), tile("b", status=running(state="reconnecting", message="no frame for 5 s"))]
    wall, places = compose([*tiles, Tile(source="c", rgb=None)], 900, 700, OVERLAY)
    boxes = np.nonzero((wall == STYLES["named"].line).all(axis=2))
    left = places[0].x + 20 * places[0].scale[0]
    assert abs(boxes[1].min() - left) <= 4
    assert (wall[-1, 0] == BACKGROUND).all()
    assert wall[places[1].y + 3, places[1].x + 3].max() < 100
    assert (tiles[0].rgb == 200).all()


def test_no_source_is_an_empty_wall() -> None:
    wall, places = compose([], 40, 30, OVERLAY)
    assert wall.shape == (30, 40, 3)
    assert places == ()


def test_the_face_to_name_is_the_unknown_one_nearest_the_point() -> None:
    faces = (
        seen(1, (0, 0, 10, 10)),
        seen(2, (50, 20, 60, 30)),
        seen(3, (30, 16, 34, 20), name="Ana"),
        seen(4, (30, 16, 34, 20), state="pending"),
    )
    tiles = [tile("a", sightings=faces)]
    places = arrange(tiles, 640, 360)
    assert nearest_nameless(tiles, places, 320, 180) == ("a", 2)
    assert nearest_nameless(tiles, places, 0, 0) == ("a", 1)
    undecided = [tile("a", sightings=faces[2:])]
    assert nearest_nameless(undecided, places, 320, 180) == ("a", 4)
    assert nearest_nameless([tile("a", sightings=faces[2:3])], places, 320, 180) is None


def test_a_click_finds_the_smallest_face_without_a_name() -> None:
    tiles = [
        tile("a", sightings=(seen(1, (0, 0, 40, 30)), seen(2, (10, 10, 20, 20)), seen(3, (50, 0, 60, 9), name="A")))
    ]
    assert nameless_at(tiles, "a", (15, 15)) == ("a", 2)
    assert nameless_at(tiles, "a", (5, 5)) == ("a", 1)
    assert nameless_at(tiles, "a", (55, 5)) is None
    assert nameless_at(tiles, "b", (15, 15)) is None


def test_a_draft_is_typed_composed_and_erased() -> None:
    draft = Draft(source="a", track=1).typed("  Jose\u0301").composed("ㅎ")
    assert (draft.composing, draft.name) == ("ㅎ", "José")
    assert draft.typed("한글").text == "  Jose\u0301한글"
    assert draft.erased().text == "  Jos"
    assert draft.typed("a\nb\x00\x7f").text.endswith("a b")
    assert Draft(source="a", track=1).erased().text == ""
    assert len(draft.typed("x" * 10_000).text) == 200
