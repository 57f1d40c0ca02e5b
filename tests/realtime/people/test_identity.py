"""Who a track is: won with evidence, lost with it. Embeddings are made to lie at known distances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.faces.analysis import View
from realtime.faces.quality import Quality
from realtime.faces.tracking import Followed, TrackedFace
from realtime.people.identity import FORGET_S, Identities, Revision
from realtime.people.matching import References
from realtime.records import Sighting
from realtime.settings import IdentitySettings
from tests.realtime.pictures import frame_of

THRESHOLD = 0.1
D = 16
PICTURE = np.zeros((4, 4, 3), np.uint8)
Embedding = NDArray[np.float32]


def axis(number: int) -> Embedding:
    """A person's own direction: any two persons are 2.0 apart."""
    return np.eye(D, dtype=np.float32)[number]


def away(person: int, squared: float, towards: int = 15) -> Embedding:
    """Unit length, at this squared distance from a person, leaning ``towards`` another direction."""
    cosine = 1 - squared / 2
    return (cosine * axis(person) + math.sqrt(max(0.0, 1 - cosine**2)) * axis(towards)).astype(np.float32)


ANA, BEN = 0, 1


def gallery(*people: str, photos: int = 1, version: int = 1) -> References:
    """Each person along the axis of their number; more photos lie .01 from the first."""
    embeddings = [
        axis(number) if photo == 0 else away(number, 0.01, 14)
        for number in range(len(people))
        for photo in range(photos)
    ]
    return References(
        embeddings_MD=np.array(embeddings, dtype=np.float32).reshape(-1, D),
        persons_M=np.repeat(np.arange(len(people)), photos),
        names=people,
        model_id="test",
        version=version,
    )


def view(weight: float = 0.5) -> View:
    quality = Quality(size_px=90, sharpness=100, yaw_deg=0, weight=weight)
    return View(box=(0, 0, 1, 1), detector_score=1.0, points_P2=np.zeros((5, 2)), crop_SS3=PICTURE, quality=quality)


def face(track: int = 1, *, doubt: int = 0, detected: bool = True, tentative: bool = False) -> TrackedFace:
    box_4 = np.array([track, 0, track + 1, 2], dtype=np.float32)
    looks = (0.1,) if tentative else None
    return TrackedFace(track=track, box_4=box_4, score=1.0, detected=detected, doubt=doubt, looks=looks)


Shows = Callable[[TrackedFace], Embedding]


@dataclass
class Scene:
    """Runs frames as the pipeline does: candidates are embedded, then the frame is shown."""

    known: References = field(default_factory=lambda: gallery("Ana", "Ben"))
    settings: IdentitySettings = field(default_factory=IdentitySettings)
    fps: float = 30.0
    fuse_views: bool = True
    index: int = 0
    looked: list[tuple[int, int]] = field(default_factory=list)
    """Frame and track of every embedding."""
    revisions: list[Revision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.people = Identities(self.settings, threshold=THRESHOLD, unit_length=True, fuse_views=self.fuse_views)

    def step(
        self, shows: Embedding | dict[int, Embedding], faces: Sequence[TrackedFace] | None = None, weight: float = 0.5
    ) -> tuple[Sighting, ...]:
        """One frame; ``shows`` is what an embedding of each track would be."""
        faces = [face()] if faces is None else faces
        followed = Followed(frame=frame_of(PICTURE, self.index, fps=self.fps), faces=tuple(faces))
        for candidate in self.people.candidates(followed):
            track = candidate.face.track
            embedding = shows[track] if isinstance(shows, dict) else shows
            self.looked.append((self.index, track))
            self.people.observe(followed, candidate.face, view(weight), embedding, self.known)
        self.revisions += self.people.revisions()
        self.index += 1
        return self.people.sightings(followed, self.known)

    def run(self, shows: Any, frames: int, faces: Sequence[TrackedFace] | None = None) -> list[Sighting]:
        """The first face of each of the next frames."""
        return [self.step(shows, faces)[0] for _ in range(frames)]


def states(seen: Iterable[Sighting]) -> list[str]:
    return [sighting.state for sighting in seen]


class TestWinning:
    def test_a_name_needs_as_many_views_as_set(self) -> None:
        for views in (1, 2, 4):
            scene = Scene(settings=IdentitySettings(min_views=views))
            seen = scene.run(axis(ANA), 40)
            named_at = states(seen).index("named")
            assert len([index for index, _ in scene.looked if index <= named_at]) == views
            assert seen[named_at].name == "Ana"
            assert set(states(seen[:named_at])) <= {"pending"}
            assert all(sighting.name == "Ana" for sighting in seen[named_at:])

    def test_distances_are_told(self) -> None:
        seen = Scene().run(away(ANA, 0.06, BEN), 20)[-1]
        assert seen.distance == pytest.approx(0.06, abs=1e-5)
        assert seen.second_distance == pytest.approx(float(((away(ANA, 0.06, BEN) - axis(BEN)) ** 2).sum()), abs=1e-5)

    @pytest.mark.parametrize(("distance", "state"), [(0.09, "named"), (0.11, "unknown"), (1.5, "unknown")])
    def test_needs_a_distance_below_the_threshold(self, distance: float, state: str) -> None:
        assert Scene().run(away(ANA, distance), 40)[-1].state == state

    def test_needs_a_margin_to_the_second_person(self) -> None:
        near_both = (axis(ANA) + 0.98 * axis(BEN)) / np.linalg.norm(axis(ANA) + 0.98 * axis(BEN))
        people = References(
            embeddings_MD=np.stack([away(ANA, 0.03, 5), away(ANA, 0.04, 6)]),
            persons_M=np.array([0, 1]),
            names=("Ana", "Ben"),
            model_id="test",
        )
        assert near_both.shape == (D,)
        assert Scene(known=people, settings=IdentitySettings(margin=0.04)).run(axis(ANA), 30)[-1].state == "unknown"
        assert Scene(known=people, settings=IdentitySettings(margin=0.005)).run(axis(ANA), 30)[-1].name == "Ana"

    def test_the_margin_is_to_the_second_person_not_to_the_second_photo(self) -> None:
        twice = gallery("Ana", "Ben", photos=2)
        last = Scene(known=twice).run(axis(ANA), 30)[-1]
        assert (last.name, last.second_distance) == ("Ana", pytest.approx(2, abs=0.05))

    def test_one_person_alone_needs_no_margin(self) -> None:
        last = Scene(known=gallery("Ana")).run(axis(ANA), 30)[-1]
        assert (last.name, last.second_distance) == ("Ana", None)

    def test_an_empty_gallery_makes_everybody_unknown(self) -> None:
        last = Scene(known=gallery()).run(axis(ANA), 30)[-1]
        assert (last.state, last.name, last.distance, last.second_distance) == ("unknown", None, None, None)

    def test_views_that_are_far_alone_are_near_together(self) -> None:
        """What a track is for: each view .15 off to another side, their mean is nearer than the threshold."""
        scene = Scene()
        seen = [scene.step(away(ANA, 0.15, 4 + number % 8))[0] for number in range(60)]
        assert seen[-1].name == "Ana"
        assert seen[-1].distance is not None
        assert seen[-1].distance < THRESHOLD < 0.15

    def test_good_views_count_more(self) -> None:
        scene = Scene(settings=IdentitySettings(min_views=2))
        for number in range(40):
            scene.step(away(ANA, 0.0) if number % 2 else away(ANA, 0.16), weight=0.9 if number % 2 else 0.05)
        people = scene.people.best_view(1)
        assert people is not None
        best, fused_D = people
        assert best.quality.weight == 0.9
        assert float(((fused_D - axis(ANA)) ** 2).sum()) < 0.04
        assert float(np.linalg.norm(fused_D)) == pytest.approx(1, abs=1e-5)


class TestLosing:
    def named(self, **settings: Any) -> Scene:
        scene = Scene(settings=IdentitySettings(**settings))
        assert scene.run(axis(ANA), 60)[-1].name == "Ana"
        return scene

    def test_one_view_that_contradicts_hides_the_name_and_two_take_it(self) -> None:
        """Not far enough to be somebody else for sure, too far to be Ana."""
        scene = self.named()
        odd = away(ANA, 0.26)
        seen = scene.run(odd, 90)
        shown = states(seen)
        assert "pending" in shown
        first = shown.index("pending")
        assert set(shown[:first]) == {"named"}  # until the face was looked at again
        lost = next(index for index in range(first, 90) if shown[index] == "unknown")
        assert "named" not in shown[first:lost]
        assert any(revision.name is None for revision in scene.revisions)

    def test_a_name_that_fell_does_not_come_back_with_the_views_that_felled_it(self) -> None:
        """The mean over the track still leans to Ana for a while; what is seen now does not."""
        scene = self.named()
        shown = states(scene.run(away(ANA, 0.26), 300))
        assert "named" not in shown[shown.index("pending") :]

    def test_a_supporting_view_gives_it_back(self) -> None:
        scene = self.named()
        odd = scene.run(away(ANA, 0.26), 60)
        assert odd[-1].name is None or "pending" in states(odd)
        assert scene.run(axis(ANA), 90)[-1].name == "Ana"

    def test_a_name_stands_a_little_beyond_the_threshold_once_it_is_given(self) -> None:
        """Hysteresis: 1.1 thresholds keep a name and do not win one."""
        at = away(ANA, 0.11)
        assert self.named(keep=1.15).run(at, 600)[-1].name == "Ana"
        assert self.named(keep=1.0).run(at, 600)[-1].name is None
        assert Scene().run(at, 600)[-1].name is None

    def test_a_view_far_off_is_somebody_else(self) -> None:
        """Even without any doubt of the tracker: the box slid onto another face."""
        scene = self.named()
        seen = scene.run(axis(BEN), 90)
        numbers = [sighting.track for sighting in seen]
        assert numbers[0] == 1
        assert numbers[-1] == 2
        assert seen[-1].name == "Ben"
        change = numbers.index(2)
        assert seen[change].state == "pending"
        assert all(sighting.name != "Ana" for sighting in seen[change:])
        back = next(revision for revision in scene.revisions if revision.name is None)
        last_good = max(index for index, _ in scene.looked if index < 60)
        assert (back.track, back.since_s) == (1, pytest.approx(last_good / 30))

    def test_a_doubtful_track_needs_less_to_be_somebody_else(self) -> None:
        for doubt, number in ((0, 1), (1, 2)):
            scene = self.named()
            assert scene.step(away(ANA, 0.22), [face(doubt=doubt)])[0].track == number or doubt == 0
            assert scene.run(away(ANA, 0.22), 3, [face(doubt=doubt)])[-1].track == number

    def test_a_number_is_never_used_again(self) -> None:
        scene = self.named()
        scene.run(axis(BEN), 60)
        scene.run(axis(ANA), 60)
        seen = scene.step({1: axis(ANA), 2: axis(BEN)}, [face(1), face(2)])
        assert [sighting.track for sighting in seen] == [3, 4]


class TestDoubt:
    def test_hides_the_name_at_once_and_until_a_view_supports_it(self) -> None:
        scene = Scene()
        scene.run(axis(ANA), 60)
        followed = Followed(frame=frame_of(PICTURE, 60), faces=(face(doubt=1),))
        (seen,) = scene.people.sightings(followed, scene.known)  # before anybody has looked
        assert (seen.state, seen.name, seen.track) == ("pending", None, 1)
        assert scene.step(axis(ANA), [face(doubt=1)])[0].name == "Ana"

    def test_makes_the_face_the_most_urgent(self) -> None:
        scene = Scene()
        embeddings = {1: axis(ANA), 2: axis(BEN), 3: axis(7)}
        for _ in range(60):
            scene.step(embeddings, [face(1), face(2), face(3)])
        faces = (face(1), face(2, doubt=1), face(3), face(4))
        candidates = scene.people.candidates(Followed(frame=frame_of(PICTURE, 60), faces=faces))
        assert candidates[0].face.track == 2
        assert 4 in [candidate.face.track for candidate in candidates]
        urgencies = [candidate.urgency for candidate in candidates]
        assert urgencies == sorted(urgencies)

    def test_grows_again_hides_again(self) -> None:
        scene = Scene()
        scene.run(axis(ANA), 60)
        for doubt in (1, 2, 3):
            followed = Followed(frame=frame_of(PICTURE, scene.index), faces=(face(doubt=doubt),))
            assert scene.people.sightings(followed, scene.known)[0].state == "pending"
            assert scene.step(axis(ANA), [face(doubt=doubt)])[0].name == "Ana"

    def test_of_an_unknown_face_changes_nothing(self) -> None:
        scene = Scene()
        scene.run(axis(7), 60)
        assert scene.step(axis(7), [face(doubt=1)])[0].state == "unknown"


class TestGallery:
    def test_a_new_person_is_seen_at_once(self) -> None:
        scene = Scene(known=gallery("Ana"))
        assert scene.run(axis(BEN), 30)[-1].state == "unknown"
        scene.known = gallery("Ana", "Ben", version=2)
        followed = Followed(frame=frame_of(PICTURE, 30), faces=(face(),))
        assert scene.people.sightings(followed, scene.known)[0].name == "Ben"

    def test_a_renamed_person_has_the_new_name_and_keeps_it(self) -> None:
        scene = Scene()
        scene.run(axis(ANA), 60)
        scene.known = gallery("Anna", "Ben", version=2)
        assert {sighting.name for sighting in scene.run(axis(ANA), 90)} == {"Anna"}

    def test_a_name_changed_just_before_a_view_is_no_doubt(self) -> None:
        """The recogniser may see the change before the screen does."""
        scene = Scene()
        scene.run(axis(ANA), 60)
        scene.known = gallery("Anna", "Ben", version=2)
        assert scene.step(axis(ANA), [face(doubt=1)])[0].name == "Anna"

    def test_a_removed_person_is_nobody_at_once(self) -> None:
        scene = Scene()
        scene.run(axis(ANA), 60)
        for left in (gallery(version=2), gallery("Nobody here", version=3)):
            known = References(
                embeddings_MD=left.embeddings_MD[:0],
                persons_M=left.persons_M[:0],
                names=left.names,
                model_id="test",
                version=left.version,
            )
            followed = Followed(frame=frame_of(PICTURE, scene.index), faces=(face(),))
            (seen,) = scene.people.sightings(followed, known)
            assert (seen.state, seen.name) == ("unknown", None)


class TestOneNameOneFace:
    def test_the_nearer_of_two_faces_bears_the_name(self) -> None:
        scene = Scene()
        for _ in range(40):
            seen = scene.step({1: away(ANA, 0.05, 4), 2: away(ANA, 0.01, 5)}, [face(1), face(2)])
        assert [sighting.name for sighting in seen] == [None, "Ana"]
        assert [sighting.state for sighting in seen] == ["pending", "named"]

    @given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 0.3)), min_size=1, max_size=6), st.integers(0, 99))
    def test_no_frame_has_a_name_twice(self, people: list[tuple[int, float]], seed: int) -> None:
        random = np.random.default_rng(seed)
        scene = Scene(known=gallery("Ana", "Ben", "Cleo"))
        faces = [face(track + 1) for track in range(len(people))]
        for _ in range(12):
            shows = {
                track + 1: away(person, distance * random.uniform(0, 1), 3 + track)
                for track, (person, distance) in enumerate(people)
            }
            names = [sighting.name for sighting in scene.step(shows, faces) if sighting.name]
            assert len(set(names)) == len(names)


class TestWork:
    def test_a_named_face_is_embedded_about_once_a_second(self) -> None:
        scene = Scene(settings=IdentitySettings(verify_every_s=1.0))
        scene.run(axis(ANA), 300)
        assert 9 <= len(scene.looked) <= 9 + scene.settings.eager_views
        late = [index for index, _ in scene.looked if index > 60]
        assert all(after - before >= 30 for before, after in itertools.pairwise(late))

    def test_one_that_the_detector_does_not_see_waits_a_little_longer(self) -> None:
        scene = Scene(settings=IdentitySettings(verify_every_s=1.0))
        scene.run(axis(ANA), 300, [face(detected=False)])
        late = [index for index, _ in scene.looked if index > 60]
        assert {after - before for before, after in itertools.pairwise(late)} <= {45, 46}

    def test_an_unknown_face_is_looked_at_often_at_first_and_then_seldom(self) -> None:
        scene = Scene(settings=IdentitySettings(eager_views=6, retry_every_s=0.5))
        scene.run(axis(7), 300)
        gaps = np.diff([index for index, _ in scene.looked])
        assert (gaps[:5] <= 4).all()
        assert (gaps[:5] >= 2).all()
        assert (gaps[5:] >= 15).all()
        assert len(scene.looked) >= 20

    def test_never_every_frame_whoever_it_is(self) -> None:
        for embedding in (axis(ANA), axis(7), away(ANA, 0.12)):
            scene = Scene()
            scene.run(embedding, 300)
            assert len(scene.looked) < 30

    def test_a_standing_doubt_does_not_stay_urgent_for_ever(self) -> None:
        """Once a view has shown who it is, the same doubt asks for no more."""
        scene = Scene()
        scene.run(axis(ANA), 60)
        before = len(scene.looked)
        scene.run(axis(ANA), 90, [face(doubt=3)])
        assert len(scene.looked) - before <= 4

    def test_without_tracking_every_face_of_every_frame_is_embedded(self) -> None:
        scene = Scene(fuse_views=False)
        for index in range(5):
            (seen,) = scene.step(axis(ANA), [face(index + 1)])
            assert seen.name == "Ana"
        assert len(scene.looked) == 5


class TestForgetting:
    def test_a_track_is_forgotten_some_time_after_it_left(self) -> None:
        scene = Scene()
        scene.run(axis(ANA), 30)
        for _ in range(int(FORGET_S * 30) - 2):
            scene.step({}, [])
        assert scene.people.best_view(1) is not None
        for _ in range(4):
            scene.step({}, [])
        assert scene.people.best_view(1) is None

    def test_many_tracks_do_not_pile_up(self) -> None:
        scene = Scene()
        for track in range(1, 400):
            scene.step(axis(7), [face(track)])
        assert len(scene.people._tracks) <= FORGET_S * 30 + 2

    def test_a_late_answer_for_a_forgotten_track_is_dropped(self) -> None:
        scene = Scene()
        followed = Followed(frame=frame_of(PICTURE, 0), faces=(face(9),))
        scene.people.observe(followed, face(9), view(), axis(ANA), scene.known)
        assert scene.people.best_view(1) is None
        assert scene.people.revisions() == []

    def test_no_more_views_are_kept_than_needed(self) -> None:
        scene = Scene(settings=IdentitySettings(retry_every_s=0.01))
        scene.run(axis(7), 300)
        (identity,) = scene.people._tracks.values()
        assert len(identity.views_ND) == len(identity.weights_N) <= 12


class TestTentative:
    FACES = (face(5), face(8, tentative=True))

    def test_takes_no_name_from_a_sure_face(self) -> None:
        scene = Scene()
        near, nearer = away(ANA, 0.05), axis(ANA)
        for _ in range(20):
            sure, tentative = scene.step({5: near, 8: nearer}, self.FACES)
        assert (sure.name, tentative.name) == ("Ana", None)

    def test_is_shown_when_it_is_somebodys_who_is_enrolled(self) -> None:
        scene = Scene()
        for _ in range(20):
            scene.step({5: axis(7), 8: axis(ANA)}, self.FACES)
        followed = Followed(frame=frame_of(PICTURE, 20), faces=self.FACES)
        assert scene.people.tentative(followed) == frozenset()

    def test_of_two_on_one_person_only_one_bears_the_name(self) -> None:
        scene = Scene()
        faces = (face(5, tentative=True), face(8, tentative=True))
        for _ in range(20):
            seen = scene.step({5: axis(ANA), 8: away(ANA, 0.05)}, faces)
        assert [each.name for each in seen] == ["Ana", None]


class TestRevisions:
    def test_a_name_won_reaches_back_to_the_tracks_birth(self) -> None:
        scene = Scene()
        scene.run(axis(ANA), 20)
        (revision,) = scene.revisions
        assert (revision.name, revision.track, revision.since_s) == ("Ana", 1, 0.0)
        assert scene.people.revisions() == []

    def test_a_name_won_again_does_not_reach_back_over_the_time_it_was_lost(self) -> None:
        scene = Scene()
        scene.run(axis(ANA), 60)
        scene.run(away(ANA, 0.26), 90)
        fell_s = scene.index / 30
        scene.run(axis(ANA), 90)
        again = [revision for revision in scene.revisions if revision.name == "Ana"][1:]
        lost = [revision.since_s for revision in scene.revisions if revision.name is None]
        assert again
        assert lost
        assert all(revision.since_s > min(lost) for revision in again)
        assert again[-1].since_s <= fell_s + 1.0

    def test_tentative_faces_are_told_by_their_public_number(self) -> None:
        scene = Scene()
        faces = [face(5), face(8, tentative=True)]
        scene.step({5: axis(ANA), 8: axis(7)}, faces)
        followed = Followed(frame=frame_of(PICTURE, 1), faces=tuple(faces))
        assert scene.people.tentative(followed) == {2}


def test_boxes_are_cut_at_the_frames_edge() -> None:
    scene = Scene()
    wide = TrackedFace(track=1, box_4=np.array([-3, -3, 9, 9], np.float32), score=0.8, detected=True)
    (seen,) = scene.step(axis(ANA), [wide])
    assert seen.box == (0, 0, 4, 4)
    assert seen.detector_score == pytest.approx(0.8)
