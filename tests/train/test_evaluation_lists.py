"""Lists of comparisons in the forms that people have them in."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import EngineError
from tests.paths import SHARED
from train.errors import DataError
from train.evaluation.lists import FOLDS, contiguous_folds, dealt_folds, draw_pairs, key_of, read_list


def _written(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_kface_lists_name_images_by_their_folders(tmp_path: Path) -> None:
    found = read_list(_written(tmp_path, "\ufeffa/S001/L1/E01/C4.jpg a/S001/L1/E01/C10.jpg 1\r\na/x.jpg b/x.jpg 0\r\n"))
    assert found.by_path
    assert found.known
    assert found.dealt
    assert found.pairs.photos == (("a|S001|L1|E01|C4", "a|S001|L1|E01|C10"), ("a|x", "b|x"))
    assert found.pairs.people == (("a", "a"), ("a", "b"))
    assert found.forms == {"a/S001/L1/E01/C4", "a/S001/L1/E01/C10", "a/x", "b/x"}
    assert found.key("deep/er/a/S001/L1/E01/C4.jpg") == "a|S001|L1|E01|C4"


def test_lfw_lists_name_images_by_their_file(tmp_path: Path) -> None:
    found = read_list(_written(tmp_path, "2\t1\nann\t1\t2\nann\t1\tbob\t1\nbob\t1\t2\nann\t2\tbob\t2\n"))
    assert not found.by_path
    assert not found.dealt
    assert found.pairs.folds_T.tolist() == [0, 0, 1, 1]
    assert found.key("faces/ann/ann_0001.jpg") == "ann_0001"


def test_a_list_without_folds_is_dealt_to_ten(tmp_path: Path) -> None:
    mated = "".join(f"ann {k} {k + 1}\n" for k in range(1, 21))
    others = "".join(f"ann {k} bob {k}\n" for k in range(1, 21))
    found = read_list(_written(tmp_path, mated + others))
    assert found.dealt
    kinds = np.array([one == other for one, other in found.pairs.people])
    for fold in range(FOLDS):
        assert kinds[found.pairs.folds_T == fold].tolist() == [True, True, False, False]


def test_images_without_a_folder_are_of_nobody_known(tmp_path: Path) -> None:
    found = read_list(_written(tmp_path, "1.jpg 2.jpg 1\n1.jpg 3.jpg 0\n"))
    assert not found.known
    assert [one == other for one, other in found.pairs.people] == [True, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/1.jpg a/2.jpg 1\na/1.jpg a/2.jpg\n", "line 2: 'a/1.jpg a/2.jpg' is no pair"),
        ("a/1.jpg a/2.jpg 1\n\na/1.jpg b/2.jpg 1\n", "line 3: .* contradicts the folders"),
        ("a/1.jpg / 1\n", "line 1: .* is no pair"),
        (". a/1.jpg 1\n", "line 1: .* is no pair"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_list(_written(tmp_path, text))


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\xfe\x00", b"a b c d e\n"])
def test_what_is_no_list_is_said_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"list\.txt"):
        read_list(path)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    path.write_text(text, encoding="utf-8", errors="replace")
    with contextlib.suppress(DataError, EngineError):
        assert len(read_list(path).pairs.photos) > 0


@given(st.lists(st.booleans(), max_size=200))
def test_each_fold_has_as_many_of_each_kind_as_any_other(mated: list[bool]) -> None:
    folds_T, mated_T = dealt_folds(mated), np.array(mated, dtype=bool)
    for kind in (True, False):
        counts = np.bincount(folds_T[mated_T == kind], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1


@given(st.integers(0, 5000))
def test_contiguous_folds_are_those_of_kfold(pairs: int) -> None:
    parts = [len(part) for part in np.array_split(np.arange(pairs), FOLDS)]
    assert contiguous_folds(pairs).tolist() == np.repeat(np.arange(FOLDS), parts).tolist()


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=40), st.integers(2, 100))
def test_a_drawn_list_is_balanced_and_always_the_same(people: list[str], count: int) -> None:
    drawn, again = (draw_pairs(people, where="here", count=count) for _ in range(2))
    assert drawn.photos == again.photos
    assert len(set(drawn.photos)) == len(drawn.photos) <= count
    mated = [one == other for one, other in drawn.people]
    assert sum(mated) * 2 == len(mated)
    for (one, two), owners in zip(drawn.photos, drawn.people, strict=True):
        assert one != two
        assert (people[int(one)], people[int(two)]) == owners


def test_keys_keep_dots_in_folders() -> None:
    assert key_of("a.b/c.d.jpg") == "a.b|c.d"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="measurement data (../shared/data) is not here")
def test_the_real_list_of_kface() -> None:
    found = read_list(SHARED / "kface" / "kface.Q1.txt")
    assert len(found.pairs.photos) == 1000
    people = {person for pair in found.pairs.people for person in pair}
    assert len(people) <= 30
    assert all(len(person) == 8 and person.isdigit() for person in people)
    assert found.dealt
    assert found.known
