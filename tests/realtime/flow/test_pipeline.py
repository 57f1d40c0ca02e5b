"""The whole flow with the real engine: complete and repeatable for files, newest first for cameras, and its ends."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.engine import Engine
from realtime.errors import GalleryError, SourceError
from realtime.faces.boxes import iou
from realtime.faces.scenes import Prepared
from realtime.faces.tracking import Followed, Tracker
from realtime.flow.pipeline import Pipeline
from realtime.people.matching import References
from realtime.records import RGB_HW3, Result
from realtime.settings import Settings, load_settings
from tests.realtime.flow.sources import ArraySource
from tests.realtime.pictures import astronaut_at, face_box, stranger_at, wall

LONG_S = 30.0
"""Only a deadlock takes so long."""


def way(index: int) -> tuple[float, float]:
    return 250 + 3.0 * index, 180 + 20 * float(np.sin(index / 9))


@functools.cache
def film(frames: int = 45) -> tuple[RGB_HW3, ...]:
    """The astronaut wanders through the picture; a stranger comes in beside her."""
    pictures = []
    for index in range(frames):
        scene = astronaut_at(way(index), 0.9)
        pictures.append(stranger_at((90, 200), 0.8, on=scene) if index > 10 else scene)
    return tuple(pictures)


def settings(*overrides: str) -> Settings:
    return load_settings(None, overrides)


def results(pipeline: Pipeline) -> list[Result]:
    return [result for result in pipeline.results() if result is not None]


def run(
    sources: Sequence[ArraySource], engine: Engine, known: References, *overrides: str
) -> tuple[list[Result], Pipeline]:
    with Pipeline(sources, settings(*overrides), engine, lambda: known) as pipeline:
        return results(pipeline), pipeline


def names(result: Result) -> set[str]:
    return {seen.name for seen in result.sightings if seen.name}


class Waiting:
    """The engine, behind a door: no face is embedded before it opens. Counts the faces."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.manifest, self.runtime, self.choice = engine.manifest, engine.runtime, engine.choice
        self.opened = threading.Event()
        self.waiting = threading.Event()
        self.faces = 0

    def run(self, faces_NHWC: NDArray[Any]) -> NDArray[np.float32]:
        self.waiting.set()
        self.opened.wait(LONG_S)
        self.faces += len(faces_NHWC)
        return self._engine.run(faces_NHWC)

    def close(self) -> None:
        self.opened.set()


class TestFile:
    def test_every_frame_comes_once_and_in_order(self, engine: Engine, eileen: References) -> None:
        source = ArraySource(film())
        found, pipeline = run([source], engine, eileen)
        assert [result.frame.index for result in found] == list(range(45))
        assert all(result.frame.source == "film" for result in found)
        assert all(result.latency_ms > 0 for result in found)
        (status,) = pipeline.statuses()
        assert (status.state, status.frames, status.drops, status.message) == ("ended", 45, 0, "")
        assert source.closed.is_set()

    def test_the_known_face_is_named_and_the_stranger_is_not(self, engine: Engine, eileen: References) -> None:
        found, _ = run([ArraySource(film())], engine, eileen)
        for result in found:
            named = [seen for seen in result.sightings if seen.name]
            assert [seen.name for seen in named] == ["Eileen"]
            truth = face_box(way(result.frame.index), 0.9)
            assert float(iou(np.array([named[0].box], np.float32), truth[None])[0, 0]) > 0.4
        last = found[-1].sightings
        assert sorted(seen.state for seen in last) == ["named", "unknown"]
        assert len({seen.track for result in found for seen in result.sightings}) == 2

    @pytest.mark.parametrize("overrides", [(), ("detect.threads=1",), ("detect.every=3",)])
    def test_gives_the_same_twice(self, engine: Engine, eileen: References, overrides: tuple[str, ...]) -> None:
        once, _ = run([ArraySource(film())], engine, eileen, *overrides)
        again, _ = run([ArraySource(film())], engine, eileen, *overrides)
        assert [result.sightings for result in once] == [result.sightings for result in again]

    def test_threads_of_the_detector_change_nothing(self, engine: Engine, eileen: References) -> None:
        one, _ = run([ArraySource(film())], engine, eileen, "detect.threads=1", "detect.every=2")
        four, _ = run([ArraySource(film())], engine, eileen, "detect.threads=4", "detect.every=2")
        assert [result.sightings for result in one] == [result.sightings for result in four]

    def test_hindsight_names_the_first_frames_too(self, engine: Engine, eileen: References) -> None:
        plain, _ = run([ArraySource(film())], engine, eileen, "identity.hindsight_s=0")
        later, _ = run([ArraySource(film())], engine, eileen, "identity.hindsight_s=0.5")
        assert len(plain) == len(later) == 45
        assert not names(plain[0])
        assert names(later[0]) == {"Eileen"}
        for early, late in zip(plain, later, strict=True):
            assert names(early) <= names(late)
            assert early.frame.index == late.frame.index

    @pytest.mark.parametrize("hindsight", ["0", "0.5"])
    @pytest.mark.parametrize("which", [0, 1])
    def test_a_name_does_not_stay_on_a_face_that_took_the_place(
        self, engine: Engine, eileen: References, hindsight: str, which: int
    ) -> None:
        """No cut, no move: from one frame to the next somebody else is there, and not one frame names them."""
        mine, theirs = (make((320, 180), 0.9) for make in (astronaut_at, functools.partial(stranger_at, which=which)))
        found, _ = run([ArraySource([mine] * 23 + [theirs] * 25)], engine, eileen, f"identity.hindsight_s={hindsight}")
        assert names(found[22]) == {"Eileen"}
        assert [result.frame.index for result in found[23:] if names(result)] == []
        (before,), (after,) = found[22].sightings, found[-1].sightings
        assert before.track != after.track

    def test_a_slow_reader_of_results_loses_nothing(self, engine: Engine, eileen: References) -> None:
        source = ArraySource(film())
        with Pipeline([source], settings(), engine, lambda: eileen) as pipeline:
            taken = []
            for result in pipeline.results():
                if result is not None:
                    taken.append(result.frame.index)
                    assert source.given <= len(taken) + 60  # reading does not run far ahead of the screen
                    time.sleep(0.005)
        assert taken == list(range(45))

    def test_frames_without_faces_and_tiny_ones_go_through(self, engine: Engine, eileen: References) -> None:
        for picture in (wall(), np.zeros((1, 1, 3), np.uint8), np.zeros((3, 500, 3), np.uint8)):
            found, _ = run([ArraySource([picture] * 15)], engine, eileen)
            assert [result.sightings for result in found] == [()] * 15

    def test_a_source_without_frames_ends_at_once(self, engine: Engine, eileen: References) -> None:
        found, pipeline = run([ArraySource([])], engine, eileen)
        assert found == []
        assert pipeline.statuses()[0].state == "ended"

    def test_an_empty_gallery_makes_everybody_unknown(self, engine: Engine) -> None:
        nobody = References(
            embeddings_MD=np.zeros((0, 128), np.float32), persons_M=np.zeros(0, np.int64), names=(), model_id=""
        )
        found, _ = run([ArraySource(film())], engine, nobody)
        assert {seen.state for seen in found[-1].sightings} == {"unknown"}
        assert {seen.distance for result in found for seen in result.sightings} == {None}

    def test_a_face_is_not_embedded_every_frame(self, engine: Engine, eileen: References) -> None:
        counting = Waiting(engine)
        counting.opened.set()
        run([ArraySource(film(), fps=15.0)], counting, eileen)  # 3 s with two faces at most
        assert 0 < counting.faces < 30

    def test_without_tracking_every_face_of_every_frame_is_embedded(self, engine: Engine, eileen: References) -> None:
        counting = Waiting(engine)
        counting.opened.set()
        found, _ = run([ArraySource(film()[:12])], counting, eileen, "track.enabled=false")
        assert counting.faces == sum(len(result.sightings) for result in found) >= 12
        assert all(names(result) == {"Eileen"} for result in found)
        tracks = [seen.track for result in found for seen in result.sightings]
        assert len(set(tracks)) == len(tracks)


class TestSeveral:
    def test_each_has_all_of_its_own_frames(self, engine: Engine, eileen: References) -> None:
        sources = [ArraySource(film(), name="door"), ArraySource(film()[::-1][:30], name="yard")]
        found, pipeline = run(sources, engine, eileen)
        for source, count in (("door", 45), ("yard", 30)):
            assert [r.frame.index for r in found if r.frame.source == source] == list(range(count))
        assert [status.source for status in pipeline.statuses()] == ["door", "yard"]
        assert {name for result in found for name in names(result)} == {"Eileen"}

    def test_best_view_is_of_the_source_that_was_asked_for(self, engine: Engine, eileen: References) -> None:
        sources = [ArraySource(film()[:11], name="door"), ArraySource([wall()] * 11, name="yard")]
        with Pipeline(sources, settings(), engine, lambda: eileen) as pipeline:
            found = results(pipeline)
            (seen,) = next(r for r in reversed(found) if r.frame.source == "door").sightings
            best = pipeline.best_view("door", seen.track)
            assert best is not None
            view, embedding_D = best
            assert view.crop_SS3.shape == (150, 150, 3)
            assert float(((embedding_D - eileen.embeddings_MD[0]) ** 2).sum()) < engine.manifest.threshold
            assert pipeline.best_view("yard", seen.track) is None
            assert pipeline.best_view("roof", seen.track) is None
            assert pipeline.best_view("door", 99) is None


class TestLive:
    def test_the_screen_does_not_wait_for_recognition(self, engine: Engine, eileen: References) -> None:
        """The engine stands still until the source has ended: every frame that was not dropped is shown before."""
        slow = Waiting(engine)
        source = ArraySource(film(), live=True)
        source._gate = source.at_its_pace
        with Pipeline([source], settings(), slow, lambda: eileen) as pipeline:
            shown = []
            for result in pipeline.results():
                if result is not None:
                    shown.append(result)
                    assert not names(result)
                if source.ended.is_set():
                    slow.opened.set()
            (status,) = pipeline.statuses()
        assert slow.waiting.is_set()
        assert shown[-1].frame.index == 44
        assert len(shown) + status.drops == 45
        assert any(result.sightings for result in shown)

    def test_only_the_newest_is_shown_and_drops_are_counted(self, engine: Engine, eileen: References) -> None:
        """Nobody takes results while the source runs: it does not wait, and what is left is its last frame."""
        source = ArraySource([wall()] * 60, live=True)
        source._gate = lambda index: time.sleep(0.002)
        with Pipeline([source], settings(), engine, lambda: eileen) as pipeline:
            assert source.ended.wait(LONG_S)
            shown = results(pipeline)
            (status,) = pipeline.statuses()
        assert shown[-1].frame.index == 59
        assert len(shown) < 10
        assert status.frames == len(shown)
        assert status.drops == 60 - len(shown)

    def test_a_face_is_named_while_it_is_on_screen(self, engine: Engine, eileen: References) -> None:
        def named(shown: list[Result]) -> bool:
            return names(shown[-1]) == {"Eileen"}

        self.until(engine, lambda: eileen, named)

    def test_a_change_of_the_gallery_is_seen_while_it_runs(self, engine: Engine, eileen: References) -> None:
        """Found within a second: the gallery is asked several times in it, and the name follows the answer."""
        current = [eileen]
        asked: list[float] = []

        def references() -> References:
            asked.append(time.monotonic())
            return current[0]

        renamed = replace(eileen, names=("Commander Collins", "Somebody else"), version=2)

        def followed(shown: list[Result]) -> bool:
            if names(shown[-1]) == {"Eileen"}:
                current[0] = renamed
            return names(shown[-1]) == {"Commander Collins"}

        shown = self.until(engine, references, followed)
        order = [next(iter(names(result))) for result in shown if names(result)]
        assert order == sorted(order, key=["Eileen", "Commander Collins"].index)  # and it never goes back
        gaps = np.diff(asked)
        assert np.median(gaps) < 0.5

    def test_refresh_asks_at_once(self, engine: Engine, eileen: References, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("realtime.flow.pipeline.REFRESH_S", 1e9)
        current = [eileen]
        pipelines: list[Pipeline] = []

        def followed(shown: list[Result]) -> bool:
            if names(shown[-1]) == {"Eileen"} and current[0] is eileen:
                current[0] = replace(eileen, names=("Commander Collins", "Somebody else"), version=2)
                pipelines[0].refresh()
            return names(shown[-1]) == {"Commander Collins"}

        self.until(engine, lambda: current[0], followed, pipelines)

    @staticmethod
    def until(
        engine: Engine,
        references: Callable[[], References],
        done: Callable[[list[Result]], bool],
        pipelines: list[Pipeline] | None = None,
    ) -> list[Result]:
        """Runs a camera that looks at the astronaut until what is shown is enough."""
        source = ArraySource([astronaut_at((320, 180), 0.9)], live=True, endless=True)
        source._gate = source.at_its_pace
        shown: list[Result] = []
        deadline = time.monotonic() + LONG_S
        with Pipeline([source], settings(), engine, references) as pipeline:
            if pipelines is not None:
                pipelines.append(pipeline)
            for result in pipeline.results():
                if result is not None:
                    shown.append(result)
                    if done(shown):
                        return shown
                assert time.monotonic() < deadline
        raise AssertionError("the camera ended")


class TestTrouble:
    LOST = SourceError("film: the cable was pulled; plug it in again")

    @pytest.mark.parametrize("live", [False, True])
    def test_a_source_that_fails_alone_is_raised_after_its_frames(
        self, engine: Engine, eileen: References, live: bool
    ) -> None:
        source = ArraySource(film()[:20], error=self.LOST, live=live)
        source._gate = source.at_its_pace
        seen: list[int] = []
        with Pipeline([source], settings(), engine, lambda: eileen) as pipeline:
            with pytest.raises(SourceError, match="the cable was pulled"):
                seen.extend(result.frame.index for result in pipeline.results() if result is not None)
            (status,) = pipeline.statuses()
        assert seen[-1] == 19
        assert live or seen == list(range(20))
        assert (status.state, status.message) == ("failed", str(self.LOST))

    def test_one_of_two_that_fails_leaves_the_other_running(self, engine: Engine, eileen: References) -> None:
        sources = [ArraySource(film()[:8], name="door", error=self.LOST), ArraySource(film(), name="yard")]
        found, pipeline = run(sources, engine, eileen)
        assert [r.frame.index for r in found if r.frame.source == "door"] == list(range(8))
        assert [r.frame.index for r in found if r.frame.source == "yard"] == list(range(45))
        door, yard = pipeline.statuses()
        assert (door.state, door.message, door.frames) == ("failed", str(self.LOST), 8)
        assert (yard.state, yard.message) == ("ended", "")

    def test_all_that_fail_raise_the_first(self, engine: Engine, eileen: References) -> None:
        sources = [ArraySource(film()[:3], name=name, error=SourceError(f"{name}: gone")) for name in ("door", "yard")]
        with pytest.raises(SourceError, match="door: gone"):
            run(sources, engine, eileen)

    def test_a_bug_in_the_only_source_stops_the_program_with_its_cause(
        self, engine: Engine, eileen: References
    ) -> None:
        with pytest.raises(ValueError, match="a bug"):
            run([ArraySource(film()[:5], name="door", error=ValueError("a bug"))], engine, eileen)

    @pytest.mark.parametrize("live", [False, True])
    def test_a_bug_in_one_of_two_leaves_the_other_running(self, engine: Engine, eileen: References, live: bool) -> None:
        broken = ArraySource(film()[:5], name="door", error=ValueError("a bug"), live=live)
        found, pipeline = run([broken, ArraySource(film(), name="yard")], engine, eileen)
        assert [r.frame.index for r in found if r.frame.source == "yard"] == list(range(45))
        door, yard = pipeline.statuses()
        assert (door.state, door.message) == ("failed", "a bug")
        assert yard.state == "ended"

    def test_a_bug_while_following_one_of_two_leaves_the_other_running(
        self, engine: Engine, eileen: References, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        step = Tracker.step

        def breaks(self: Tracker, prepared: Prepared) -> Followed:
            if prepared.frame.source == "door" and prepared.frame.index == 3:
                raise ValueError("a bug")
            return step(self, prepared)

        monkeypatch.setattr(Tracker, "step", breaks)
        sources = [ArraySource(film(), name="door"), ArraySource(film(), name="yard")]
        found, pipeline = run(sources, engine, eileen)
        assert [r.frame.index for r in found if r.frame.source == "yard"] == list(range(45))
        assert [status.state for status in pipeline.statuses()] == ["failed", "ended"]

    def test_an_engine_that_breaks_stops_the_program_with_its_cause(self, engine: Engine, eileen: References) -> None:
        class Broken(Waiting):
            def run(self, faces_NHWC: NDArray[Any]) -> NDArray[np.float32]:
                raise RuntimeError("no memory left on the device")

        for live in (False, True):
            with pytest.raises(RuntimeError, match="no memory left"):
                run([ArraySource(film(), live=live, endless=True)], Broken(engine), eileen)

    def test_a_gallery_that_breaks_stops_the_program_with_its_cause(
        self, engine: Engine, eileen: References, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("realtime.flow.pipeline.REFRESH_S", 0.0)
        asked = iter([eileen, eileen])

        def references() -> References:
            found = next(asked, None)
            if found is None:
                raise OSError("gallery.sqlite is gone")
            return found

        for live in (False, True):
            asked = iter([eileen, eileen])
            source = ArraySource(film(), live=live, endless=True)
            source._gate = source.at_its_pace
            with (
                pytest.raises(OSError, match="is gone"),
                Pipeline([source], settings(), engine, references) as pipeline,
            ):
                results(pipeline)

    def test_a_gallery_that_cannot_be_read_for_a_moment_leaves_the_people_of_before(
        self, engine: Engine, eileen: References, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("realtime.flow.pipeline.REFRESH_S", 0.0)
        asked: list[int] = []

        def gallery() -> References:
            asked.append(1)
            if len(asked) > 2:
                raise GalleryError("people.sqlite: is locked by another program")
            return eileen

        with Pipeline([ArraySource(film())], settings(), engine, gallery) as pipeline:
            found = results(pipeline)
        assert len(found) == 45
        assert names(found[-1]) == {"Eileen"}
        assert len(asked) == 3, "it is asked again only after some patience"

    def test_a_model_of_an_unknown_template_is_refused(self, engine: Engine, eileen: References) -> None:
        other = Waiting(engine)
        other.manifest = replace(engine.manifest, template="eyes_300")
        with pytest.raises(ValueError, match="'eyes_300' is not known"):
            Pipeline([], settings(), other, lambda: eileen)


class TestStop:
    @pytest.mark.parametrize("live", [False, True])
    def test_in_the_middle_ends_every_thread_and_may_be_called_twice(
        self, engine: Engine, eileen: References, live: bool
    ) -> None:
        before = set(threading.enumerate())
        source = ArraySource(film(), live=live, endless=True)
        pipeline = Pipeline([source], settings(), engine, lambda: eileen)
        pipeline.start()
        for result in pipeline.results():
            if result is not None and result.frame.index > 12:
                pipeline.stop()
                pipeline.stop()
        assert source.closed.is_set()
        left = [t.name for t in set(threading.enumerate()) - before if not t.name.startswith("detect")]
        assert left == []

    def test_from_another_thread_ends_the_results(self, engine: Engine, eileen: References) -> None:
        source = ArraySource(film(), live=True, endless=True)
        source._gate = source.at_its_pace
        pipeline = Pipeline([source], settings(), engine, lambda: eileen)
        pipeline.start()
        stopper = threading.Thread(target=pipeline.stop, daemon=True)
        for result in pipeline.results():
            if result is not None and result.frame.index == 5:
                stopper.start()
        stopper.join(LONG_S)
        assert not stopper.is_alive()

    def test_while_nobody_takes_results(self, engine: Engine, eileen: References) -> None:
        """Every thread waits in a full compartment by then."""
        source = ArraySource(film(), endless=True)
        pipeline = Pipeline([source], settings(), engine, lambda: eileen)
        pipeline.start()
        next(iter(pipeline.results()))
        given = -1
        while given != source.given:
            given = source.given
            time.sleep(0.2)
        pipeline.stop()
        assert all(worker.join(0.0) for worker in pipeline._workers)
        assert list(pipeline.results()) == []

    def test_before_the_start_closes_the_sources(self, engine: Engine, eileen: References) -> None:
        source = ArraySource(film())
        Pipeline([source], settings(), engine, lambda: eileen).stop()
        assert source.closed.is_set()

    def test_a_source_that_complains_about_being_closed_is_no_failure(self, engine: Engine, eileen: References) -> None:
        source = ArraySource(film(), live=True, endless=True)

        def gate(index: int) -> None:
            if source.closed.wait(1 / 30):
                raise SourceError("film: closed while reading")

        source._gate = gate
        pipeline = Pipeline([source], settings(), engine, lambda: eileen)
        pipeline.start()
        for result in pipeline.results():
            if result is not None and result.frame.index > 3:
                pipeline.stop()

    def test_no_sources_give_no_results(self, engine: Engine, eileen: References) -> None:
        assert run([], engine, eileen)[0] == []
