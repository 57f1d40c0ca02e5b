"""Lists of pairs, read and refused, and the distances of what they name."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import EngineError
from engines.verification.pairs import compare, read_pairs

LFW = "2\t1\nAna\t1\t2\nAna\t1\tBen\t1\nBen\t1\t2\nBen\t2\tAna\t2\n"
NAMES = ["Ana/Ana_0001.jpg", "Ana/Ana_0002.jpg", "Ben/Ben_0001.jpg", "Ben/Ben_0002.jpg"]


def listed(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_form_of_lfw(tmp_path: Path) -> None:
    pairs = read_pairs(listed(tmp_path, LFW))
    assert pairs.photos[:2] == (("Ana_0001", "Ana_0002"), ("Ana_0001", "Ben_0001"))
    assert pairs.folds_T.tolist() == [0, 0, 1, 1]
    assert pairs.stems == {"Ana_0001", "Ana_0002", "Ben_0001", "Ben_0002"}
    assert pairs.owners == {"Ana_0001": "Ana", "Ana_0002": "Ana", "Ben_0001": "Ben", "Ben_0002": "Ben"}


@pytest.mark.parametrize(
    "text", ["Ana 1 2\nAna 1 Ben 1\n", "1\nAna 1 2\nAna 1 Ben 1\n", "\nAna\t1\t2\n\nAna\t1\tBen\t1\n"]
)
def test_a_list_without_folds_is_one(tmp_path: Path, text: str) -> None:
    assert read_pairs(listed(tmp_path, text)).folds_T.tolist() == [0, 0]


def test_names_may_have_spaces_where_tabs_part_them(tmp_path: Path) -> None:
    assert read_pairs(listed(tmp_path, "Ana Lu\t1\t2\n")).photos == (("Ana Lu_0001", "Ana Lu_0002"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no pairs"),
        ("10\t300\n", "holds no pairs"),
        ("Ana one two\n", "is no pair"),
        ("Ana 1 2\nAna 1\n", "'Ana 1' is no pair"),
        ("2\t2\n" + LFW.partition("\n")[2], "is the list cut short"),
        ("\x89PNG\r\n", "is no pair"),
    ],
)
def test_what_is_no_list_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        read_pairs(listed(tmp_path, text))


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        read_pairs(tmp_path / "none.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineError, match="cannot be read"):
        read_pairs(tmp_path / "bytes")


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_list_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("list") / "pairs.txt"
    path.write_bytes(content)
    with contextlib.suppress(EngineError):
        assert read_pairs(path).photos


def test_distances_folds_and_people(tmp_path: Path) -> None:
    embeddings = np.array([[0, 0], [1, 0], [0, 3], [0, 4]], dtype=np.float32)
    found = compare(read_pairs(listed(tmp_path, LFW)), NAMES, [], embeddings)
    assert found.distances_T.tolist() == [1, 9, 1, 17]
    assert found.mated_T.tolist() == [True, False, True, False]
    assert [[found.people[end] for end in ends] for ends in found.people_T2] == [
        ["Ana", "Ana"],
        ["Ana", "Ben"],
        ["Ben", "Ben"],
        ["Ben", "Ana"],
    ]
    assert found.share_below(2) == 1
    assert found.absent == 0


def test_two_engines_are_compared_both_ways_round(tmp_path: Path) -> None:
    ours = np.array([[0, 0], [1, 0], [0, 3], [0, 4]], dtype=np.float32)
    found = compare(read_pairs(listed(tmp_path, "Ana 1 2\n")), NAMES, [], ours, ours + np.float32([1, 0]))
    assert sorted(found.distances_T.tolist()) == [0, 4]
    assert found.pairs_T.tolist() == [0, 0]


def test_a_photo_without_a_face_never_matches_and_stays_in_the_list(tmp_path: Path) -> None:
    pairs = read_pairs(listed(tmp_path, LFW))
    found = compare(pairs, NAMES[:1] + NAMES[2:], ["Ana/Ana_0002.jpg"], np.zeros((3, 2), dtype=np.float32))
    assert found.failed_T.tolist() == [True, False, False, True]
    assert found.share_below(4) == 0.5
    assert len(found.without_failed().distances_T) == 2
    assert found.without_failed().share_below(4) == 1


def test_pairs_of_photos_that_are_not_there_are_counted_as_absent(tmp_path: Path) -> None:
    found = compare(read_pairs(listed(tmp_path, LFW)), NAMES[:2], [], np.zeros((2, 2), dtype=np.float32))
    assert (len(found.distances_T), found.absent) == (1, 3)
    with pytest.raises(EngineError, match="none of its pairs"):
        compare(read_pairs(listed(tmp_path, LFW)), ["x.jpg"], [], np.zeros((1, 2), dtype=np.float32))


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="two photos 'Ana_0001'"):
        compare(read_pairs(listed(tmp_path, LFW)), [*NAMES, "b/Ana_0001.png"], [], np.zeros((5, 2), dtype=np.float32))
