"""The overlay shows what it should, where it should, and takes any box and name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.records import State
from realtime.settings import ShowSettings
from realtime.show.overlay import STYLES, Overlay, line_px, placed, text_px
from tests.realtime.show.samples import FACE, portrait, running, seen

OVERLAY = Overlay(ShowSettings())


def grey(height: int = 360, width: int = 640) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == colour).all(axis=2)


def test_the_picture_given_stays_as_it_is() -> None:
    picture = portrait()
    before = picture.copy()
    drawn = OVERLAY.draw(picture, [seen(name="Eileen Collins")], running())
    assert np.array_equal(picture, before)
    assert drawn.shape == picture.shape
    assert not np.array_equal(drawn, before)
    assert np.array_equal(drawn, OVERLAY.draw(picture, [seen(name="Eileen Collins")], running()))


@pytest.mark.parametrize("state", ["named", "unknown", "pending"])
def test_a_box_has_the_colour_of_its_state_around_the_face(state: State) -> None:
    face = seen(state=state, name="Ana" if state == "named" else None)
    drawn = OVERLAY.draw(portrait(), [face])
    rows, columns = np.nonzero(has(drawn, STYLES[state].line))
    assert columns.min() <= FACE[0] <= columns.min() + 3
    assert columns.max() >= FACE[2] >= columns.max() - 3
    assert rows.max() >= FACE[3] >= rows.max() - 3
    inside = (slice(int(FACE[1]) + 3, int(FACE[3]) - 3), slice(int(FACE[0]) + 3, int(FACE[2]) - 3))
    assert np.array_equal(drawn[inside], portrait()[inside]), "the face itself is not painted over"


def test_states_differ_in_form_and_not_in_hue_alone() -> None:
    box = (200.0, 150.0, 300.0, 250.0)
    whole = has(OVERLAY.draw(grey(), [seen(box=box)]), STYLES["unknown"].line)
    corners = has(OVERLAY.draw(grey(), [seen(box=box, state="pending")]), STYLES["pending"].line)
    assert whole[200].any(), "an unknown face has sides"
    assert not corners[200].any(), "an undecided one only corners"
    light = {
        state: 0.2126 * style.line[0] + 0.7152 * style.line[1] + 0.0722 * style.line[2]
        for state, style in STYLES.items()
    }
    assert len({round(value / 12) for value in light.values()}) == 3, "they differ in grey too"


def contrast(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """WCAG 2.1's contrast ratio."""
    levels = []
    for colour in (a, b):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


@pytest.mark.parametrize("state", ["named", "unknown", "pending"])
def test_names_can_be_read(state: State) -> None:
    assert contrast(STYLES[state].ink, STYLES[state].paper) >= 4.5


def plate(drawn: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(has(drawn, STYLES["named"].paper))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_a_name_stands_above_its_box_and_below_where_there_is_no_room() -> None:
    above = plate(OVERLAY.draw(grey(), [seen(box=(200, 150, 300, 250), name="Ana")]))
    below = plate(OVERLAY.draw(grey(), [seen(box=(200, 3, 300, 103), name="Ana")]))
    inside = plate(OVERLAY.draw(grey(), [seen(box=(200, -20, 300, 380), name="Ana")]))
    right = plate(OVERLAY.draw(grey(), [seen(box=(610, 150, 700, 250), name="Александра")]))
    assert above[3] <= 150
    assert below[1] >= 103
    assert 0 <= inside[1] < inside[3] <= 360
    assert right[2] <= 640


def test_names_of_neighbours_do_not_cover_each_other() -> None:
    names = ["Bartholomew Featherstonehaugh", "Александра Константинопольская"]
    faces = [seen(1, (20, 150, 120, 250), name=names[0]), seen(2, (150, 150, 250, 250), name=names[1])]
    alone = [has(OVERLAY.draw(grey(), [face]), STYLES["named"].paper).sum() for face in faces]
    both = has(OVERLAY.draw(grey(), faces), STYLES["named"].paper).sum()
    assert both >= 0.97 * sum(alone)


def test_sizes_follow_the_picture() -> None:
    assert (text_px(grey(720, 1280)), line_px(grey(720, 1280))) == (22, 2)
    assert text_px(grey(2160, 3840)) == 3 * text_px(grey(720, 1280))
    assert line_px(grey(2160, 3840)) == 6
    assert text_px(grey(1280, 720)) == 22, "a phone held upright has the same"
    assert text_px(grey(90, 160)) >= 10


def test_the_chosen_face_has_a_thick_box() -> None:
    faces = [seen(1, (100, 150, 200, 250)), seen(2, (400, 150, 500, 250))]
    thin = has(OVERLAY.draw(grey(), faces), STYLES["unknown"].line)
    thick = has(OVERLAY.draw(grey(), faces, chosen=2), STYLES["unknown"].line)
    assert thick[:, 320:].sum() > 2 * thin[:, 320:].sum()
    assert thick[:, :320].sum() == thin[:, :320].sum()


def test_the_small_line_tells_rate_latency_and_drops() -> None:
    pictures = [
        OVERLAY.draw(grey(), [], running(**values))
        for values in ({}, {"fps": 12.0}, {"latency_ms": 90.0}, {"drops": 4}, {"source": "garden"})
    ]
    assert len({picture.tobytes() for picture in pictures}) == 5
    changed = np.nonzero((pictures[0] != 128).any(axis=2))[0]
    assert changed.min() > 320, "it is small and at the lower edge"


@pytest.mark.parametrize("state", ["starting", "reconnecting", "ended", "failed"])
def test_a_source_without_pictures_is_dark_and_says_why(state: str) -> None:
    status = running(state=state, message="reconnecting in 4 s: no frame for 5 s")
    drawn = OVERLAY.draw(grey(), [seen(name="Ana")], status)
    assert drawn[10, 10].max() < 60
    assert not has(drawn, STYLES["named"].line).any(), "nobody is named in a picture of the past"
    middle = drawn[140:220]
    assert (middle > 200).any()
    assert not np.array_equal(middle, OVERLAY.draw(grey(), [], running(state=state, message="no route"))[140:220])


anything = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.5, 1e30, -1e30, float("nan"), float("inf"), float("-inf")])


@settings(max_examples=150, deadline=None)
@given(
    boxes=st.lists(st.tuples(anything, anything, anything, anything), max_size=4),
    name=st.none() | st.text(st.characters(), max_size=30),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
)
def test_any_box_and_name_on_any_picture(boxes: list, name: str | None, height: int, width: int) -> None:
    faces = [seen(number, box, name=name) for number, box in enumerate(boxes)]
    drawn = OVERLAY.draw(grey(height, width), faces, running(source=name or "door"), chosen=0)
    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8


near = st.floats(-200, 200)


@settings(deadline=None)
@given(near, near, st.floats(1, 150), st.floats(1, 150))
def test_a_box_outside_leaves_no_trace(x: float, y: float, wide: float, high: float) -> None:
    rect = placed((x, y, x + wide, y + high), (1, 1), 100, 80)
    drawn = OVERLAY.draw(grey(80, 100), [seen(box=(x, y, x + wide, y + high), name="Ana")])
    if rect is None:
        assert (drawn == 128).all()
    else:
        assert rect[0] < 100
        assert rect[1] < 80
        assert rect[2] > 0
        assert rect[3] > 0
        assert not (drawn == 128).all()
