"""Which crops stay: every image is accounted for, no label is in two splits, no file under two names."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.drawn_source import DrawnSource
from train.preparing.plan import Wishes, planned
from train.preparing.settling import SHARED, TOO_FEW, TWICE, Fates, by_kind, planned_items, reason_kind, settle


def fates_of(source: DrawnSource, wishes: Wishes, contents: list[int | None]) -> Fates:
    """``contents``: number of each image's file; None where it gave no crop."""
    items = list(planned_items(planned(source, wishes)))
    rows = [item for item in items if contents[item] is not None]
    digests = [np.full(32, contents[item], dtype=np.uint8) for item in rows]
    return Fates(
        items_R=np.array(rows, dtype=np.int64),
        sha256_R32=np.array(digests, dtype=np.uint8).reshape(len(rows), 32),
        reasons={item: "no face found" for item in items if contents[item] is None},
    )


@given(
    contents=st.lists(st.none() | st.integers(0, 30), min_size=30, max_size=30),
    fewest=st.integers(1, 4),
    val=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_everything_is_accounted_for(contents: list[int | None], fewest: int, val: int) -> None:
    source = DrawnSource(people=6, images=5)
    wishes = Wishes(split="people" if val else "none", val_people=val, min_images=fewest)
    plan = planned(source, wishes)
    fates = fates_of(source, wishes, contents)
    settled = settle(source, plan, fates)
    kept = [source.items[item] for item in fates.items_R[settled.rows_K].tolist()]

    assert settled.left_out == sum(why.startswith(TOO_FEW) for why in settled.refused.values())
    assert sorted([item.name for item in kept] + list(settled.refused)) == sorted(item.name for item in source.items)
    assert list(settled.rows_K) == sorted(settled.rows_K)
    assert not set(settled.train) & set(settled.val)
    splits = [settled.train] * settled.train_rows + [settled.val] * (len(kept) - settled.train_rows)
    for item, label, subjects in zip(kept, settled.labels_K.tolist(), splits, strict=True):
        assert subjects[label] == item.subject
    counts = Counter(item.subject for item in kept)
    assert set(counts) == {*settled.train, *settled.val}
    assert min(counts.values(), default=fewest) >= fewest
    assert set(settled.too_few) == {item.subject for item in source.items} - set(counts)
    content_of = {item.name: content for item, content in zip(source.items, contents, strict=True)}
    assert max(Counter(content_of[item.name] for item in kept).values(), default=1) == 1
    people = defaultdict(set)
    for item, content in zip(source.items, contents, strict=True):
        people[content].add(item.subject)
    assert all(len(people[content_of[item.name]]) == 1 for item in kept)


def test_one_file_under_two_people_is_nobodys_and_both_are_named() -> None:
    source, wishes = DrawnSource(people=3, images=3), Wishes()
    settled = settle(source, planned(source, wishes), fates_of(source, wishes, [0, 1, 2, 3, 1, 5, 6, 6, 8]))
    assert settled.refused == {
        "p000/001.jpg": f"{SHARED} (p001/001.jpg)",
        "p001/001.jpg": f"{SHARED} (p000/001.jpg)",
        "p002/001.jpg": f"{TWICE} (p002/000.jpg)",
    }
    assert settled.shared == (("p000/001.jpg", "p001/001.jpg"),)
    assert settled.duplicates == 1


def test_digests_that_begin_alike_are_not_the_same_file() -> None:
    source, wishes = DrawnSource(people=2, images=2), Wishes()
    fates = fates_of(source, wishes, [7, 7, 7, 7])
    fates.sha256_R32[:, 31] = range(4)
    assert len(settle(source, planned(source, wishes), fates).rows_K) == 4


def test_losses_make_others_too_few() -> None:
    source, wishes = DrawnSource(people=3, images=3), Wishes(min_images=3)
    settled = settle(source, planned(source, wishes), fates_of(source, wishes, [0, 1, 2, 3, 4, 5, 6, None, 8]))
    assert settled.too_few == {"p002": 2}
    assert settled.refused["p002/000.jpg"] == f"{TOO_FEW} (2 of 3)"
    assert settled.refused["p002/001.jpg"] == "no face found"


def test_reasons_are_counted_by_kind() -> None:
    reasons = {"a": "is empty (0 bytes)", "b": "is empty (3 bytes)", "c": "no face found", "d": "is empty: really"}
    assert by_kind(reasons) == [("is empty", 3, ("a", "b", "d")), ("no face found", 1, ("c",))]
    assert reason_kind("no face found") == "no face found"
