"""Names as people write them are kept; what cannot be shown is refused; file names become names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.errors import GalleryError
from realtime.people.names import MAX_NAME, clean_name, name_key, name_of_file, name_of_folder


@pytest.mark.parametrize(
    "name",
    [
        "Ana",
        "Ana/Silva",
        'Ana "the\' Great"',
        "김민준",
        "Zoë Müller",
        "👩‍💻 Ada",
        "محمد",
        "O'Brien; DROP TABLE people",
        "../../etc",
    ],
)
def test_names_of_every_kind_are_kept(name: str) -> None:
    assert clean_name(name) == name


def test_spaces_and_composition() -> None:
    assert clean_name("  Ana \u00a0 Silva ") == "Ana Silva"
    assert clean_name("Zoe\u0308") == "Zo\u00eb"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no visible character"),
        ("   ", "no visible character"),
        ("\u200b\u200d", "no visible character"),
        ("a" * 10_000, "has 10000 characters"),
        ("Ana\nSilva", "a control character (U+000A)"),
        ("Ana\0", "a control character (U+0000)"),
        ("\u202eanA", "turns the direction of writing"),
        ("Ana\u2028", "a line break"),
        ("\ud800", "half a character"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(name: str, words: str) -> None:
    with pytest.raises(GalleryError) as caught:
        clean_name(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.text(max_size=300))
def test_a_clean_name_is_clean_already_or_refused(text: str) -> None:
    try:
        name = clean_name(text)
    except GalleryError:
        return
    assert clean_name(name) == name
    assert 1 <= len(name) <= MAX_NAME
    assert unicodedata.is_normalized("NFC", name)
    assert name.encode()


@given(st.text(max_size=50))
def test_the_key_is_a_fixed_point_of_case(text: str) -> None:
    assert name_key(text.upper().lower()) == name_key(name_key(text.upper().lower()))


@pytest.mark.parametrize(
    ("one", "other"), [("Ana", "ana"), ("STRASSE", "straße"), ("Zo\u00eb", "ZOE\u0308"), ("ﬁona", "FIONA")]
)
def test_one_person(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Ana.jpg", "Ana"),
        ("Ana_Silva.jpg", "Ana Silva"),
        ("ana_2.png", "ana"),
        ("ana2.png", "ana"),
        ("Ana (2).jpg", "Ana"),
        ("Ana(12).jpg", "Ana"),
        ("ana-silva-03.jpg", "ana silva"),
        ("Jean-Luc Picard.jpg", "Jean-Luc Picard"),
        ("Jean-Luc_Picard_1.jpg", "Jean-Luc Picard"),
        ("Dr. No.jpeg", "Dr. No"),
        ("김민준_3.webp", "김민준"),
    ],
)
def test_name_of_a_file(file: str, name: str) -> None:
    assert name_of_file(Path("photos") / file) == name


@pytest.mark.parametrize(
    "file",
    [
        "IMG_2034.jpg",
        "DSC01234.JPG",
        "20240131_101112.jpg",
        "PXL_20240131_101112345.jpg",
        "photo (3).png",
        "1.jpg",
        "WhatsApp Image 2024-01-31 at 10.11.12.jpeg",
    ],
)
def test_a_camera_names_nobody(file: str) -> None:
    with pytest.raises(GalleryError, match="is a camera's name, not a person's; give --name"):
        name_of_file(Path(file))


def test_name_of_a_folder() -> None:
    assert name_of_folder(Path("people/Ana_Silva")) == "Ana Silva"
    assert name_of_folder(Path("people/Agent 007")) == "Agent 007"
