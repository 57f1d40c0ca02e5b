"""Annotation texts: the rule of each camera, every way of writing them, and every way of being wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.kface_faces import SIZES, Person, landmarks
from tests.train.kface_tree import HIDDEN, annotation, five_points
from train.kface.annotation import PARTS, RESCALED, fitted, parse_annotation, visible_parts
from train.kface.codes import CAMERAS
from train.kface.failures import Unusable

ID = "19062531"
PLAIN = (" ", "\n", "")

TUTORIALS_EXAMPLE = (
    b"176 116\n186 97\n190 96\n189 137\n191 139\n246 110\n250 110\n"
    b"156 51 111 111\n183 88 18 13\n172 97 18 29\n179 130 16 16\n233 88 35 45\n"
)


def test_the_tutorials_example_is_a_profile_camera() -> None:
    found = parse_annotation(TUTORIALS_EXAMPLE, 2)
    assert found.boxes["face"] == (156, 51, 111, 111)
    assert found.boxes["left eye"] == (183, 88, 18, 13)
    assert list(found.boxes) == ["face", "left eye", "nose", "mouth", "left ear"]
    assert found.five_52.tolist() == [[186, 97], [190, 96], [176, 116], [189, 137], [191, 139]]
    assert fitted(found, 346, 230) is found


@pytest.mark.parametrize("camera", list(CAMERAS))
def test_every_camera_has_the_lines_of_what_it_sees(camera: int) -> None:
    assert set(PARTS) - set(visible_parts(camera)) == set(HIDDEN[camera])
    found = parse_annotation(annotation(Person(int(ID)), camera, "Middle", PLAIN), camera)
    assert set(found.boxes) == set(PARTS) - set(HIDDEN[camera])
    np.testing.assert_allclose(found.five_52, five_points(ID, camera), atol=0.51)
    np.testing.assert_allclose(found.points_72, landmarks(Person(int(ID)), camera), atol=0.51)


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", ", ", "  \t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_way_of_writing_gives_the_same(separator: str, ending: str, mark: str) -> None:
    person = Person(int(ID))
    plain = parse_annotation(annotation(person, 7, "Middle", PLAIN), 7)
    other = parse_annotation(annotation(person, 7, "Middle", (separator, ending, mark)), 7)
    assert np.array_equal(plain.points_72, other.points_72)
    assert plain.boxes == other.boxes


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("short_txt", "lacks a line \\(13 lines, camera C7 has 14\\)"),
        ("no_face_box", "lacks a line"),
        ("no_point", "lacks a point \\(line 7 has 4 numbers, 2 belong there\\)"),
        ("long_txt", "a line too many"),
        ("words_txt", "something else than numbers \\(line 4"),
        ("big_txt", "too large"),
    ],
)
def test_a_damaged_text_is_refused_with_its_reason(kind: str, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        parse_annotation(annotation(Person(int(ID)), 7, "Middle", PLAIN, kind), 7)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (b"156 51 111 111", b"156 51 9 9", "no face box"),
        (b"156 51 111 111", b"156 51 0 111", "no face box"),
        (b"156 51 111 111", b"156 51 111", "another form"),
        (b"156 51 111 111", b"12 151 111 111", "contradicts itself"),
        (b"176 116", b"176 999999", "no pixel"),
        (b"176 116", b"176 nan", "something else than numbers"),
        (b"176 116", b"176 1e3", "something else than numbers"),
        (b"176 116", b"\xff\xfe", "no text"),
    ],
)
def test_numbers_that_cannot_be_are_refused(before: bytes, after: bytes, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        parse_annotation(TUTORIALS_EXAMPLE.replace(before, after, 1), 2)
    with pytest.raises(Unusable, match="empty"):
        parse_annotation(b"\r\n", 2)


@pytest.mark.parametrize("camera", [1, 4, 7, 13, 16, 20])
@pytest.mark.parametrize("image", list(SIZES))
@pytest.mark.parametrize("coordinates", list(SIZES))
def test_coordinates_of_another_resolution_are_rescaled(camera: int, image: str, coordinates: str) -> None:
    found = parse_annotation(annotation(Person(int(ID)), camera, coordinates, PLAIN), camera)
    own = fitted(found, *SIZES[image])
    slack = 0.51 * max(1.0, SIZES[image][0] / SIZES[coordinates][0])
    np.testing.assert_allclose(own.five_52, five_points(ID, camera, image), atol=slack, rtol=0.004)
    assert (own is found) == (image == coordinates)
    assert own.note.startswith(RESCALED) == (image != coordinates)


def test_coordinates_that_fit_no_resolution_are_refused() -> None:
    found = parse_annotation(annotation(Person(int(ID)), 7, "Middle", PLAIN, "wild_coordinates"), 7)
    with pytest.raises(Unusable, match="of another image \\(face box of"):
        fitted(found, *SIZES["Middle"])


@given(
    st.binary(max_size=300) | st.text("0123456789 ,;\t\r\n-.", max_size=300).map(str.encode),
    st.sampled_from(list(CAMERAS)),
)
def test_no_bytes_do_more_than_being_refused(content: bytes, camera: int) -> None:
    try:
        found = parse_annotation(content, camera)
    except Unusable:
        return
    assert found.points_72.shape == (7, 2)
