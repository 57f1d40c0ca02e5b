"""Scoring against hand-made truth, and laws that hold for any answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.benchmark.answers import Answer, Box, Shown
from realtime.benchmark.truth import STRANGER, Truth, TruthFace, load_truth, pair_names, score
from realtime.errors import RealtimeError

ANA: Box = (10, 10, 50, 60)
BEN: Box = (100, 10, 140, 60)
SOMEONE: Box = (200, 10, 240, 60)
NAMES = {"Ana Silva": "ana", "Ben": "ben"}


def truth_of(*frames: list[tuple[Box, str | None]], cuts: tuple[int, ...] = ()) -> Truth:
    faces = tuple(tuple(TruthFace(box=box, who=who) for box, who in frame) for frame in frames)
    return Truth(width=320, height=240, cuts=cuts, frames=faces)


def answer(frame: int, *shown: tuple[Box, str | None], scale: float = 1.0) -> Answer:
    faces = tuple(Shown(box=tuple(edge * scale for edge in box), name=name) for box, name in shown)  # type: ignore[arg-type]
    return Answer(frame=frame, time_s=frame / 10, width=round(320 * scale), height=round(240 * scale), faces=faces)


SCENE = truth_of(*[[(ANA, "ana"), (BEN, "ben"), (SOMEONE, STRANGER)]] * 4, cuts=(2,))


def test_a_name_on_the_persons_own_face_is_right() -> None:
    found = score([answer(0, (ANA, "Ana Silva"), (BEN, None))], SCENE, NAMES)
    ana, ben = found.people
    assert (ana.who, ana.right, ana.present) == ("ana", 1, 4)
    assert (ben.right, ben.present, ben.scenes[0].boxed) == (0, 4, 1)
    assert found.wrong == ()


def test_scenes_are_counted_apart() -> None:
    found = score([answer(frame, (ANA, "Ana Silva")) for frame in (1, 2, 3)], SCENE, NAMES)
    assert [(s.first, s.last, s.right, s.present) for s in found.people[0].scenes] == [(0, 1, 1, 2), (2, 3, 2, 2)]


@pytest.mark.parametrize(
    ("box", "kind"),
    [(BEN, "other person"), (SOMEONE, "stranger"), ((10, 100, 50, 150), "no face")],
)
def test_every_kind_of_wrong_name(box: Box, kind: str) -> None:
    found = score([answer(0, (box, "Ana Silva"))], SCENE, NAMES)
    assert [wrong.kind for wrong in found.wrong] == [kind]
    assert found.counts == {kind: 1}
    assert found.right == 0


def test_a_name_on_two_faces_is_one_right_one_wrong_and_twice() -> None:
    found = score([answer(0, (ANA, "Ana Silva"), (BEN, "Ana Silva"))], SCENE, NAMES)
    assert found.right == 1
    assert sorted(wrong.kind for wrong in found.wrong) == ["other person", "twice"]
    assert found.wrong_frames == 1


def test_an_enrolled_person_who_is_not_in_the_truth_is_wrong_on_anybody() -> None:
    assert score([answer(0, (ANA, "Zoe"))], SCENE, NAMES).counts == {"other person": 1}


def test_an_unsure_box_counts_neither_way() -> None:
    found = score([answer(0, (ANA, "Ben"))], truth_of([(ANA, None), (BEN, "ben")]), NAMES)
    assert (found.unsure, found.wrong, found.right) == (1, (), 0)


def test_boxes_are_compared_in_the_frames_own_pixels() -> None:
    assert score([answer(0, (ANA, "Ana Silva"), scale=2.0)], SCENE, NAMES).right == 1


def test_a_square_box_from_brow_to_chin_is_on_a_tall_box_from_hair_to_chin() -> None:
    assert score([answer(0, ((10, 22, 50, 62), "Ana Silva"))], SCENE, NAMES).right == 1


def test_a_box_that_drifted_off_the_face_is_on_no_face() -> None:
    assert score([answer(0, ((35, 30, 75, 80), "Ana Silva"))], SCENE, NAMES).counts == {"no face": 1}


def test_faces_that_overlap_are_matched_for_the_best_total() -> None:
    beside = (26, 10, 66, 60)
    truth = truth_of([(ANA, "ana"), (beside, "ben")])
    # the first box overlaps both; nearest-first would give it to ben and leave the second without a face
    found = score([answer(0, ((20, 10, 60, 60), "Ana Silva"), ((34, 10, 74, 60), "Ben"))], truth, NAMES)
    assert (found.right, found.wrong) == (2, ())


def test_seconds_to_name_count_from_the_first_frame_with_the_person() -> None:
    truth = truth_of([], [(ANA, "ana")], [(ANA, "ana")], [(ANA, "ana")])
    found = score(
        [answer(0), answer(1, (ANA, None)), answer(2, (ANA, None)), answer(3, (ANA, "Ana Silva"))], truth, NAMES
    )
    assert found.people[0].seconds_to_name == pytest.approx(0.2)
    assert score([answer(1)], truth, NAMES).people[0].seconds_to_name is None


def test_people_who_are_not_enrolled_are_not_scored() -> None:
    assert [person.who for person in score([], SCENE, {"Ben": "ben"}).people] == ["ben"]


boxes = st.tuples(*[st.floats(-50, 400, width=32)] * 4)
shown = st.tuples(boxes, st.sampled_from(["Ana Silva", "Ben", "Zoe", None]))


@given(st.lists(st.lists(shown, max_size=5), min_size=1, max_size=6))
def test_any_answers_have_consistent_counts(frames: list[list[tuple[Box, str | None]]]) -> None:
    found = score([answer(index, *faces) for index, faces in enumerate(frames)], SCENE, NAMES)
    names = sum(name is not None for faces in frames for _, name in faces)
    misplaced = sum(count for kind, count in found.counts.items() if kind != "twice")
    assert sum(found.counts.values()) == len(found.wrong)
    # without a name twice in a frame every name is right, wrong or unsure, once
    if "twice" not in found.counts:
        assert found.right + misplaced + found.unsure == names
    assert found.right + misplaced + found.unsure <= names
    for person in found.people:
        for scene in person.scenes:
            assert 0 <= scene.right <= scene.boxed <= scene.present <= scene.last - scene.first + 1


@given(st.lists(shown, max_size=4))
def test_answers_survive_json(faces: list[tuple[Box, str | None]]) -> None:
    before = answer(3, *faces)
    after = Answer.from_json(json.loads(json.dumps(before.to_json())))
    assert (after.frame, after.time_s, after.width, after.height) == (3, 0.3, 320, 240)
    assert [face.name for face in after.faces] == [name for _, name in faces]
    for old, new in zip(before.faces, after.faces, strict=True):
        assert new.box == pytest.approx(old.box, abs=0.01)


@pytest.mark.parametrize(
    ("people", "names", "pairs"),
    [
        (["miranda", "lacamoire"], ["Lin-Manuel Miranda", "Alex Lacamoire"], {"Lin-Manuel Miranda": "miranda"}),
        (["miranda"], ["MIRANDA"], {"MIRANDA": "miranda"}),
        (["miranda"], ["Mirandas", "Zoe"], {}),
    ],
)
def test_names_are_paired_by_word(people: list[str], names: list[str], pairs: dict[str, str]) -> None:
    found = pair_names(people, names)
    assert {name: found[name] for name in pairs} == pairs
    assert set(found.values()) <= set(people)
    assert len(found) == len(pairs) or names[1] == "Alex Lacamoire"


@pytest.mark.parametrize(("people", "names"), [(["ana", "ben"], ["Ana Ben"]), (["ana"], ["Ana One", "Ana Two"])])
def test_names_that_cannot_be_told_apart_are_refused(people: list[str], names: list[str]) -> None:
    with pytest.raises(RealtimeError, match="cannot tell which"):
        pair_names(people, names)


def test_a_truth_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    frames = [{"frame": 0, "faces": [{"box": [1, 2, 3, 4], "who": "ana"}]}, {"frame": 1, "faces": []}]
    path.write_text(json.dumps({"size": [64, 48], "cuts": [1], "frames": frames}))
    truth = load_truth(path)
    assert (truth.width, truth.height, truth.scenes, truth.people) == (64, 48, ((0, 0), (1, 1)), ("ana",))
    assert truth.frames[0][0].box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"size": [64], "frames": []}',
        '{"size": [64, 48], "frames": [{"frame": 5, "faces": []}]}',
        '{"size": [64, 48], "frames": [{"frame": 0, "faces": [{"box": [1, 2, 3], "who": null}]}]}',
        '{"size": [64, 48], "frames": [{"frame": 0, "faces": [{"box": [1, 2, 3, 4], "who": 7}]}]}',
        '{"size": [64, 48], "cuts": [9], "frames": [{"frame": 0, "faces": []}]}',
    ],
)
def test_a_broken_truth_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(RealtimeError, match=r"truth\.json: not a truth file"):
        load_truth(path)


def test_a_missing_truth_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RealtimeError, match="cannot be read"):
        load_truth(tmp_path / "none.json")
