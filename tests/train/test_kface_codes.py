"""Codes, selections and splits of K-FACE, against the counts that were published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.paths import SHARED
from tests.train.kface_faces import LUX, POSES
from train.errors import ConfigError
from train.kface.codes import (
    ACCESSORIES,
    CAMERAS,
    EXPRESSIONS,
    LIGHTS,
    RESOLUTIONS,
    Condition,
    name_of,
    parse_name,
    parse_stem,
    subject_id,
    subject_of,
)
from train.kface.selection import TUTORIAL, Selection, parse_selection
from train.kface.splits import MIXFACE_TEST, by_seed, split_subjects

conditions = st.builds(
    Condition,
    st.sampled_from(list(ACCESSORIES)),
    st.sampled_from(list(LIGHTS)),
    st.sampled_from(list(EXPRESSIONS)),
    st.sampled_from(list(CAMERAS)),
)


def some(known: dict[int, object]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.sampled_from(list(known)), min_size=1).map(lambda numbers: tuple(sorted(numbers)))


selections = st.builds(Selection, some(ACCESSORIES), some(LIGHTS), some(EXPRESSIONS), some(CAMERAS))


def test_the_whole_release_has_the_published_size() -> None:
    assert 400 * len(parse_selection("")) == 4_320_000
    assert 390 * len(parse_selection(TUTORIAL)) == 9_360
    assert sum(condition.annotated for condition in parse_selection("*").conditions()) == 240


def test_mixfaces_image_counts_come_out_of_the_table_of_lights() -> None:
    lights = {lux: sum(light.lux >= lux for light in LIGHTS.values()) for lux in (40, 200, 400, 1000)}
    assert 370 * lights[1000] * 7 == 2_590
    assert 370 * 2 * lights[400] * 7 == 46_620
    assert 370 * 4 * lights[200] * 2 * 13 == 654_160
    assert 370 * 6 * lights[40] * 3 * 20 == 3_862_800


def test_tables_agree_with_those_that_the_trees_are_drawn_by() -> None:
    assert {number: light.lux for number, light in LIGHTS.items()} == LUX
    assert {number: (pose.yaw_deg, pose.pitch_deg) for number, pose in CAMERAS.items()} == POSES
    assert (CAMERAS[7].yaw_deg, LIGHTS[8].direction, LIGHTS[28].direction) == (0, "vertical +30", "horizontal -90")
    assert RESOLUTIONS["middle"] == (346, 230)


@given(st.from_regex(r"[0-9]{8}", fullmatch=True), conditions)
def test_a_name_is_read_back(subject: str, condition: Condition) -> None:
    name = name_of(subject, condition)
    assert parse_name(name) == (subject, condition)
    assert parse_name(f"Middle_Resolution/{name}") == (subject, condition)
    assert parse_stem(condition.stem) == condition


@pytest.mark.parametrize(
    "name", ["", "19062531/S001/L1/E01/C21.jpg", "19062531/S007/L1/E01/C1.jpg", "1906253/S001/L1/E01/C1.jpg", "a/b.jpg"]
)
def test_what_is_no_image_of_kface_is_none(name: str) -> None:
    assert parse_name(name) is None


def test_conditions_sort_by_number_and_know_how_they_were_taken() -> None:
    assert Condition(1, 2, 1, 1) < Condition(1, 10, 1, 1)
    condition = Condition(4, 18, 2, 14)
    assert (condition.lux, condition.pose.yaw_deg, condition.pose.pitch_deg) == (100, 45, 30)
    assert condition.stem == "S004/L18/E02/C14"


def test_a_subjects_digits() -> None:
    found = subject_id("19062531")
    assert (found.date, found.rig, found.order) == ("190625", 3, 1)
    with pytest.raises(ValueError, match="eight digits"):
        subject_id("1906253")
    assert subject_of("19062531 (1).zip") == "19062531"
    assert subject_of("190625311.zip") is None
    assert subject_of("readme.zip") is None


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="measurement data (../shared/data) is not here")
def test_published_pair_lists_are_understood() -> None:
    lines = (SHARED / "kface" / "kface.Q1.txt").read_text().split("\n")
    parsed = [parse_name(name) for line in lines if line for name in line.split()[:2]]
    assert len(parsed) == 2000
    assert {entry[0] for entry in parsed if entry} == MIXFACE_TEST
    listed = (SHARED / "kface" / "kface-test-identity30.txt").read_text().split()
    assert set(listed) == MIXFACE_TEST


# --- selections ---------------------------------------------------------------------------------------------------


@given(selections)
def test_a_selections_text_selects_the_same(selection: Selection) -> None:
    assert parse_selection(str(selection)) == selection
    conditions = selection.conditions()
    assert len(conditions) == len(set(conditions)) == len(selection)
    assert list(conditions) == sorted(conditions)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("S001/L1,3/E1-3/C6-9", "S1/L1,3/E*/C6-9"),
        ("c06 - c09/l01,L3,1/s1", "S1/L1,3/E*/C6-9"),
        ("", "S*/L*/E*/C*"),
        ("*", "S*/L*/E*/C*"),
        ("S*/L1-30/E1,2,3", "S*/L*/E*/C*"),
        ("C5,7,6,1", "S*/L*/E*/C1,5-7"),
    ],
)
def test_a_selection_is_read_as_people_write_it(text: str, canonical: str) -> None:
    assert str(parse_selection(text)) == canonical


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("S7", "S7; accessories are S1 to S6"),
        ("L0", "L0; lights are L1 to L30"),
        ("S1/S2", "S is given twice"),
        ("X3", "begins with none of"),
        ("C9-6", "runs backwards; write C6-9"),
        ("C", "no number"),
        ("C1,,2", "no number"),
        ("L1-L", "no number"),
        ("E1-3-2", "no number"),
        ("C²", "no number"),
        ("C1," * 999, "characters"),
    ],
)
def test_a_mistake_in_a_selection_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_selection(text)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="SLECslec0123456789,-/* x", max_size=30))
def test_no_text_does_more_than_being_refused(text: str) -> None:
    try:
        selection = parse_selection(text)
    except ConfigError:
        return
    assert len(selection) >= 1


# --- splits -------------------------------------------------------------------------------------------------------

PEOPLE = tuple(f"{19062411 + number * 10}" for number in range(400))


def test_the_tutorial_keeps_the_last_ten_back() -> None:
    train, val = split_subjects(PEOPLE[::-1], "tutorial")
    assert (len(train), len(val)) == (390, 10)
    assert max(train) < min(val)
    with pytest.raises(ConfigError, match="there are 11; add --split 1"):
        split_subjects(PEOPLE[:11], "tutorial")
    assert split_subjects(PEOPLE[:11], "tutorial", val_people=2)[1] == PEOPLE[9:11]


def test_mixface_keeps_its_thirty_back() -> None:
    assert len(MIXFACE_TEST) == 30
    train, val = split_subjects((*PEOPLE[:5], *MIXFACE_TEST), "mixface")
    assert set(val) == MIXFACE_TEST
    assert set(train) == set(PEOPLE[:5]) - MIXFACE_TEST
    with pytest.raises(ConfigError, match="none of MixFace's"):
        split_subjects(("19062412", "19062413"), "mixface")
    with pytest.raises(ConfigError, match="0 left to train on"):
        split_subjects(tuple(MIXFACE_TEST), "mixface")


@given(st.sets(st.text(min_size=1, max_size=8), min_size=3, max_size=40), st.data(), st.integers(0, 99))
def test_no_split_by_chance_shares_anybody(people: set[str], data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(1, len(people) - 2))
    train, val = split_subjects(tuple(people), "people", val_people=count, seed=seed)
    assert not set(train) & set(val)
    assert set(train) | set(val) == people
    assert len(val) == count
    assert split_subjects(tuple(sorted(people)), "people", val_people=count, seed=seed) == (train, val)


def test_a_newcomer_takes_at_most_one_place_and_the_seed_matters() -> None:
    before = set(by_seed(PEOPLE[:100], 10)[1])
    after = set(by_seed(PEOPLE[:101], 10)[1])
    assert len(before - after) <= 1
    assert set(by_seed(PEOPLE[:100], 10, seed=2)[1]) != before


@pytest.mark.parametrize(
    ("how", "count", "words"), [("people", 0, "at least 1"), ("people", 4, "1 left"), ("x", 1, "known are")]
)
def test_a_split_that_cannot_be_is_refused(how: str, count: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        split_subjects(PEOPLE[:5], how, val_people=count)
    assert split_subjects(PEOPLE[:5], "none") == (PEOPLE[:5], ())
