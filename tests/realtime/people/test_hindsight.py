"""Frames held back come out complete, in order, and as they look with what was found out since."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.faces.tracking import Followed
from realtime.people.hindsight import Hindsight, Seen, without
from realtime.people.identity import Revision
from realtime.records import Sighting
from tests.realtime.pictures import frame_of

FPS = 10.0
PICTURE = np.zeros((2, 2, 3), np.uint8)


def frame(index: int) -> Followed:
    return Followed(frame=frame_of(PICTURE, index, fps=FPS), faces=())


def face(track: int, name: str | None = None, state: str = "pending") -> Sighting:
    return Sighting(
        track=track,
        box=(0, 0, 1, 1),
        state="named" if name else state,  # type: ignore[arg-type]
        name=name,
        distance=0.2,
        second_distance=None,
        detector_score=1.0,
    )


def named(track: int, name: str, since_s: float) -> Revision:
    return Revision(track=track, name=name, since_s=since_s, distance=0.05, second_distance=0.4)


def taken_back(track: int, since_s: float) -> Revision:
    return Revision(track=track, name=None, since_s=since_s)


class Film:
    """Pushes frames one by one and keeps what comes out."""

    def __init__(self, seconds: float) -> None:
        self.hindsight = Hindsight(seconds)
        self.out: list[Seen] = []
        self.next = 0

    def push(self, *faces: Sighting, hidden: Iterable[int] = (), revisions: Iterable[Revision] = ()) -> Film:
        self.out += self.hindsight.push(frame(self.next), faces, frozenset(hidden), revisions)
        self.next += 1
        return self

    def end(self) -> Film:
        self.out += self.hindsight.flush()
        return self

    def names(self) -> list[list[str | None]]:
        return [[seen.name for seen in sightings] for _, sightings in self.out]

    def tracks(self) -> list[list[int]]:
        return [[seen.track for seen in sightings] for _, sightings in self.out]


class TestNames:
    def test_reach_back_to_where_the_track_began(self) -> None:
        film = Film(1.0).push().push(face(1)).push(face(1)).push(face(1, "Ana"), revisions=[named(1, "Ana", 0.1)]).end()
        assert film.names() == [[], ["Ana"], ["Ana"], ["Ana"]]
        assert film.out[1][1][0].distance == 0.05
        assert film.out[1][1][0].state == "named"

    def test_reach_back_no_further_than_the_window(self) -> None:
        film = Film(0.2)
        for _ in range(5):
            film.push(face(1))
        film.push(face(1, "Ana"), revisions=[named(1, "Ana", 0.0)]).end()
        assert film.names() == [[None], [None], [None], ["Ana"], ["Ana"], ["Ana"]]

    def test_reach_no_other_track_and_not_before_it_was_born(self) -> None:
        film = Film(5).push(face(1), face(2)).push(face(1), face(2))
        film.push(face(1, "Ana"), face(2), revisions=[named(1, "Ana", 0.1)]).end()
        assert film.names() == [[None, None], ["Ana", None], ["Ana", None]]

    def test_an_unknown_becomes_known(self) -> None:
        film = Film(5).push(face(1, state="unknown"))
        film.push(face(1, "Ana"), revisions=[named(1, "Ana", 0.0)]).end()
        assert film.out[0][1][0].state == "named"

    def test_a_name_is_not_given_to_a_second_face_of_a_frame(self) -> None:
        film = Film(5).push(face(1, "Ana"), face(2)).push(face(2))
        film.push(face(2, "Ana"), revisions=[named(2, "Ana", 0.0)]).end()
        assert film.names() == [["Ana", None], ["Ana"], ["Ana"]]

    def test_another_name_that_stands_there_is_left(self) -> None:
        film = Film(5).push(face(1, "Ben")).push(face(1, "Ana"), revisions=[named(1, "Ana", 0.0)]).end()
        assert film.names() == [["Ben"], ["Ana"]]

    def test_are_taken_back_after_the_last_view_that_supported_them(self) -> None:
        film = Film(5)
        for _ in range(4):
            film.push(face(1, "Ana"), face(2, "Ben"))
        film.push(face(3), face(2, "Ben"), revisions=[taken_back(1, 0.1)]).end()
        assert film.names() == [["Ana", "Ben"], ["Ana", "Ben"], [None, "Ben"], [None, "Ben"], [None, "Ben"]]
        assert film.out[2][1][0].state == "pending"

    def test_taken_back_and_given_to_the_track_that_follows(self) -> None:
        film = Film(5).push(face(1, "Ana")).push(face(1, "Ana")).push(face(2), revisions=[taken_back(1, 0.0)])
        film.push(face(2, "Ben"), revisions=[named(2, "Ben", 0.2)]).end()
        assert film.names() == [["Ana"], [None], ["Ben"], ["Ben"]]

    def test_without_a_window_frames_go_as_they_come(self) -> None:
        film = Film(0.0).push(face(1))
        assert len(film.out) == 1
        film.push(face(1, "Ana"), revisions=[named(1, "Ana", 0.0)])
        assert film.names() == [[None], ["Ana"]]
        assert film.hindsight.flush() == []


class TestHidden:
    def test_a_face_that_is_proved_was_one_all_along(self) -> None:
        film = Film(1.0)
        for _ in range(3):
            film.push(face(1), hidden=[1])
        film.push(face(1)).end()
        assert film.tracks() == [[1], [1], [1], [1]]

    def test_one_that_is_not_never_appears(self) -> None:
        film = Film(1.0)
        for _ in range(3):
            film.push(face(1), face(2), hidden=[1])
        film.push(face(2)).push(face(2)).end()
        assert film.tracks() == [[2]] * 5

    def test_one_still_open_at_the_end_does_not_appear(self) -> None:
        film = Film(1.0).push(face(1), hidden=[1]).push(face(1), hidden=[1]).end()
        assert film.tracks() == [[], []]

    def test_one_that_leaves_the_window_unproved_stays_out(self) -> None:
        film = Film(0.2)
        for _ in range(5):
            film.push(face(1), hidden=[1])
        film.push(face(1)).end()
        assert film.tracks() == [[], [], [], [1], [1], [1]]

    def test_a_proved_face_that_leaves_is_kept_where_it_was(self) -> None:
        film = Film(5.0).push(face(1), hidden=[1]).push(face(1)).push().push().end()
        assert film.tracks() == [[1], [1], [], []]

    def test_without(self) -> None:
        assert [seen.track for seen in without((face(1), face(2), face(3)), {2})] == [1, 3]


class TestFrames:
    @given(
        st.floats(0, 2),
        st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([None, "named", "back"])), max_size=70),
    )
    def test_all_come_out_once_and_in_order_whatever_happens(
        self, seconds: float, story: list[tuple[int, bool, str | None]]
    ) -> None:
        film = Film(seconds)
        for index, (count, hide, event) in enumerate(story):
            revision = {None: [], "named": [named(1, "Ana", 0.0)], "back": [taken_back(1, index / FPS / 2)]}[event]
            film.push(*[face(t + 1) for t in range(count)], hidden=[1] if hide and count else [], revisions=revision)
            assert len(film.hindsight._held) <= 1 + seconds * FPS
        film.end()
        assert [followed.frame.index for followed, _ in film.out] == list(range(len(story)))
        for (count, _, _), (_, sightings) in zip(story, film.out, strict=True):
            assert {seen.track for seen in sightings} >= set(range(2, count + 1))  # only a hidden one may be missing

    def test_they_wait_no_longer_than_the_window(self) -> None:
        film = Film(0.25)
        for index in range(20):
            film.push()
            assert len(film.out) == max(0, index - 2)

    def test_no_more_are_held_than_fit_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("realtime.people.hindsight.HELD_BYTES", 20 * PICTURE.shape[0] * PICTURE.shape[1] * 4.5)
        film = Film(10.0)
        for _ in range(27):
            film.push()
        assert len(film.out) == 7

    @pytest.mark.parametrize("seconds", [0.0, 1.0])
    def test_a_film_without_frames_gives_none(self, seconds: float) -> None:
        assert Film(seconds).end().out == []
