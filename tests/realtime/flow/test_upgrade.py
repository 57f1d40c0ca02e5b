"""A better engine takes over in mid-run: no frame is lost, no embedding is wrong, and what fails never runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.engine import Engine, open_engine
from engines.errors import EngineError
from engines.manifest import Manifest
from engines.runtimes import Choice, Row
from realtime.faces.analysis import FaceAnalyser
from realtime.flow import upgrade
from realtime.flow.pipeline import Pipeline
from realtime.flow.upgrade import UpgradingEngine
from realtime.people.matching import References
from realtime.records import Result
from realtime.settings import load_settings
from tests.realtime.app.commands import eventually, start
from tests.realtime.flow.sources import ArraySource
from tests.realtime.pictures import astronaut_at, stranger_at

LONG_S = 30.0
Faces = NDArray[np.uint8]


class Ready:
    """A real engine whose better one, another real engine, is built when the test says so. Counts what happens."""

    def __init__(self, engine: Engine, build: Callable[[], Engine]) -> None:
        self._engine, self._build = engine, build
        self.better = Choice(row=Row("openvino", "bf16"), threads=1)
        self.may_build, self.asked = threading.Event(), threading.Event()
        self.closed = 0
        self.ran = 0
        self.rejected: list[str] = []

    @property
    def manifest(self) -> Manifest:
        return self._engine.manifest

    @property
    def runtime(self) -> str:
        return self._engine.runtime

    @property
    def choice(self) -> str:
        return self._engine.choice

    def build_better(self) -> Engine:
        self.asked.set()
        assert self.may_build.wait(LONG_S)
        return self._build()

    def reject_better(self, reason: str) -> None:
        self.rejected.append(reason)

    def run(self, faces_NHWC: NDArray[Any]) -> NDArray[np.float32]:
        assert not self.closed
        self.ran += 1
        return self._engine.run(faces_NHWC)

    def close(self) -> None:
        self.closed += 1


class Better:
    """A real engine that counts, and may answer wrongly."""

    def __init__(
        self, engine: Engine, wrong: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda e: e
    ) -> None:
        self._engine, self._wrong = engine, wrong
        self.manifest, self.runtime, self.choice = engine.manifest, engine.runtime, engine.choice
        self.closed = 0
        self.ran = 0

    def run(self, faces_NHWC: NDArray[Any]) -> NDArray[np.float32]:
        assert not self.closed
        self.ran += 1
        return self._wrong(self._engine.run(faces_NHWC))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def slow() -> Iterator[Engine]:
    opened = open_engine(runtime="onnxruntime", precision="fp32")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def quick() -> Iterator[Engine]:
    opened = open_engine(runtime="openvino")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def faces(photo_analyser: FaceAnalyser) -> Faces:
    """(10, 150, 150, 3): the astronaut and two others, at several places of a picture."""
    crops = [
        photo_analyser.views(make((300 + 3 * move, 180), 0.9))[0].crop_SS3
        for make in (astronaut_at, stranger_at)
        for move in range(5)
    ]
    return np.stack(crops)


@pytest.fixture
def ready(slow: Engine, quick: Engine) -> Ready:
    return Ready(slow, lambda: Better(quick))


class Told(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def upgrading(ready: Ready, enrolled: Faces | None = None) -> tuple[UpgradingEngine, Told]:
    told = Told()
    size = ready.manifest.input_size
    some = np.empty((0, size, size, 3), np.uint8) if enrolled is None else enrolled
    return UpgradingEngine(ready, lambda: some, told), told


def test_it_is_the_first_engine_until_the_better_one_has_proved_itself(
    ready: Ready, slow: Engine, quick: Engine, faces: Faces
) -> None:
    engine, told = upgrading(ready, faces)
    assert (engine.manifest, engine.runtime, engine.choice) == (slow.manifest, slow.runtime, slow.choice)
    engine.start()
    assert told == [f"openvino bf16, 1 thread is being built; using {slow.runtime} meanwhile"]
    np.testing.assert_array_equal(engine.run(faces[:3]), slow.run(faces[:3]))
    ready.may_build.set()
    eventually(lambda: not engine.building)
    assert told[1:] == [f"now on {quick.runtime}"]
    assert (engine.runtime, engine.choice, engine.manifest.model_id) == (
        quick.runtime,
        quick.choice,
        slow.manifest.model_id,
    )
    np.testing.assert_array_equal(engine.run(faces[:3]), quick.run(faces[:3]))
    assert ready.closed == 1
    engine.close()
    engine.close()
    assert ready.closed == 1


def test_without_enrolled_faces_it_waits_until_enough_were_seen(ready: Ready, quick: Engine, faces: Faces) -> None:
    ready.may_build.set()
    engine, _ = upgrading(ready)
    engine.start()
    for face in faces[: upgrade.FACES - 1]:
        engine.run(face[None])
    assert ready.asked.wait(LONG_S)
    time.sleep(0.1)  # not a matter of time: nothing may happen however long
    assert engine.building
    engine.run(faces[-1:])
    eventually(lambda: not engine.building)
    assert engine.runtime == quick.runtime
    engine.close()


def test_batches_of_many_threads_go_through_the_change(ready: Ready, slow: Engine, quick: Engine, faces: Faces) -> None:
    """Each answer is one engine's or the other's, whole, and the first one is never asked after it was closed."""
    expected = {name: each.run(faces[:2]) for name, each in (("slow", slow), ("quick", quick))}
    engine, _ = upgrading(ready, faces)
    engine.start()
    seen: list[str] = []
    failures: list[BaseException] = []

    def hammer() -> None:
        try:
            while seen.count("quick") < 12:
                found = engine.run(faces[:2])
                (name,) = [name for name, each in expected.items() if np.array_equal(found, each)]
                seen.append(name)
        except BaseException as err:  # noqa: BLE001 - told to the test
            failures.append(err)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(seen) >= 6)
    ready.may_build.set()
    for thread in threads:
        thread.join(LONG_S)
    assert not failures
    assert seen.count("slow") >= 6
    assert ready.closed == 1
    engine.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda e: np.roll(e, 1, axis=1), "are allowed"),
        (lambda e: e * np.float32(np.nan), "move by nan on average"),
        (lambda e: e[::-1], "are allowed"),
        (lambda e: e[:, :64], "shape (10, 64), and (10, 128) is needed"),
    ],
    ids=["other numbers", "no numbers", "other order", "other length"],
)
def test_a_better_engine_that_answers_otherwise_never_runs(
    slow: Engine,
    quick: Engine,
    faces: Faces,
    caplog: pytest.LogCaptureFixture,
    wrong: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    said: str,
) -> None:
    built = Better(quick, wrong)
    ready = Ready(slow, lambda: built)
    ready.may_build.set()
    engine, told = upgrading(ready, faces)
    engine.start()
    eventually(lambda: not engine.building)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("openvino bf16, 1 thread is not taken: ")
    assert said in record.message
    assert record.message.endswith(f"; staying on {slow.runtime}")
    assert [reason for reason in ready.rejected if said in reason] == ready.rejected != []
    assert len(told) == 1
    assert built.closed == 1
    np.testing.assert_array_equal(engine.run(faces), slow.run(faces))
    engine.close()
    assert ready.closed == 1


def failing() -> Engine:
    raise EngineError("model.onnx: the disk is full; free some space")


def test_a_build_that_fails_is_a_warning(slow: Engine, faces: Faces, caplog: pytest.LogCaptureFixture) -> None:
    ready = Ready(slow, failing)
    ready.may_build.set()
    engine, _ = upgrading(ready, faces)
    engine.start()
    eventually(lambda: not engine.building)
    assert [record.message for record in caplog.records] == [
        "openvino bf16, 1 thread is not taken: model.onnx: the disk is full; free some space; "
        f"staying on {slow.runtime}"
    ]
    np.testing.assert_array_equal(engine.run(faces), slow.run(faces))
    engine.close()
    assert ready.closed == 1


def test_a_build_that_ends_on_the_same_runtime_changes_nothing(
    slow: Engine, faces: Faces, caplog: pytest.LogCaptureFixture
) -> None:
    built = Better(slow)
    ready = Ready(slow, lambda: built)
    ready.may_build.set()
    engine, _ = upgrading(ready, faces)
    engine.finish(lambda: None)
    assert f"is not taken: {slow.choice}" in caplog.text
    assert (built.closed, ready.closed) == (1, 0)
    engine.close()


class TestClose:
    def test_in_the_middle_of_a_build_leaves_it_behind(
        self, ready: Ready, faces: Faces, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(upgrade, "JOIN_S", 0.05)
        built: list[Better] = []
        make = ready._build
        ready._build = lambda: built.append(make()) or built[0]  # type: ignore[func-returns-value, arg-type]
        engine, told = upgrading(ready, faces)
        engine.start()
        assert ready.asked.wait(LONG_S)
        engine.close()
        assert engine.building
        assert ready.closed == 1
        ready.may_build.set()  # and what it builds after all is closed, unused
        eventually(lambda: not engine.building)
        assert built[0].closed == 1
        assert (len(told), caplog.records) == (1, [])

    def test_while_it_waits_for_faces(self, ready: Ready, caplog: pytest.LogCaptureFixture) -> None:
        ready.may_build.set()
        engine, told = upgrading(ready)
        engine.start()
        assert ready.asked.wait(LONG_S)
        engine.close()
        assert not engine.building
        assert ready.closed == 1
        assert (len(told), caplog.records) == (1, [])

    def test_before_it_was_started(self, ready: Ready) -> None:
        engine, _ = upgrading(ready)
        engine.close()
        assert (engine.building, ready.closed) == (False, 1)


class TestFinish:
    """A file: the build comes first, and nothing changes in mid-run."""

    @pytest.mark.parametrize("count", [0, 2, 10])
    def test_waits_and_ticks(self, ready: Ready, quick: Engine, faces: Faces, count: int) -> None:
        engine, told = upgrading(ready, faces[:count])
        ticks = []

        def tick() -> None:
            ticks.append(engine.runtime)
            ready.may_build.set()

        engine.finish(tick)
        assert ticks
        assert engine.runtime == quick.runtime
        assert "is being built first" in told[0]
        assert told[1] == f"now on {quick.runtime}"
        engine.close()

    def test_nobody_is_enrolled_and_it_computes_nonsense(
        self, slow: Engine, quick: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        ready = Ready(slow, lambda: Better(quick, lambda e: e * np.float32(np.nan)))
        ready.may_build.set()
        engine, _ = upgrading(ready)
        engine.finish(lambda: None)
        assert "is not taken" in caplog.text
        assert engine.runtime == slow.runtime
        engine.close()

    def test_ctrl_c_leaves_the_build_behind(self, ready: Ready, faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upgrade, "JOIN_S", 0.05)

        def tick() -> None:
            raise KeyboardInterrupt

        engine, _ = upgrading(ready, faces)
        with pytest.raises(KeyboardInterrupt):
            engine.finish(tick)
        engine.close()
        assert engine.building
        ready.may_build.set()
        eventually(lambda: not engine.building)


class Recording:
    """The engine as the pipeline sees it, with everything that it was asked and that it answered."""

    def __init__(self, engine: UpgradingEngine) -> None:
        self._engine = engine
        self.answers: list[tuple[str, Faces, NDArray[np.float32]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, faces_NHWC: NDArray[Any]) -> NDArray[np.float32]:
        before = self._engine.runtime
        embeddings = self._engine.run(faces_NHWC)
        self.answers.append((before, np.array(faces_NHWC), embeddings.copy()))
        return embeddings


def run_camera(engine: Any, known: References, each: Callable[[list[Result]], bool]) -> tuple[list[Result], int, int]:
    """Results of a camera that looks at the astronaut until ``each`` has enough; frames given, and dropped."""
    source = ArraySource([astronaut_at((320, 180), 0.9)], live=True, endless=True)
    source._gate = source.at_its_pace
    shown: list[Result] = []
    deadline = time.monotonic() + LONG_S
    overrides = ["identity.verify_every_s=0.1"]
    with Pipeline([source], load_settings(None, overrides), engine, lambda: known) as pipeline:
        for result in pipeline.results():
            if result is not None:
                shown.append(result)
                if each(shown):
                    source.close()
            assert time.monotonic() < deadline
        (status,) = pipeline.statuses()
    return shown, source.given, status.drops


def test_a_camera_goes_through_the_change_without_losing_a_frame_or_a_name(
    ready: Ready, slow: Engine, quick: Engine, eileen: References, faces: Faces
) -> None:
    engine, told = upgrading(ready, faces)
    recording = Recording(engine)
    engine.start()
    after = 0

    def each(shown: list[Result]) -> bool:
        nonlocal after
        if any(seen.name for seen in shown[-1].sightings):
            ready.may_build.set()
        after += engine.runtime == quick.runtime
        return after > 20 and any(runtime == quick.runtime for runtime, _, _ in recording.answers)

    shown, given, drops = run_camera(recording, eileen, each)
    assert told[-1] == f"now on {quick.runtime}"
    assert len(shown) + drops == given
    indices = [result.frame.index for result in shown]
    assert indices == sorted(set(indices))
    names = [{seen.name for seen in result.sightings} for result in shown]
    first = names.index({"Eileen"})
    assert names[first:] == [{"Eileen"}] * len(names[first:])
    assert len({seen.track for result in shown for seen in result.sightings}) == 1
    assert {runtime for runtime, _, _ in recording.answers} == {slow.runtime, quick.runtime}
    for _, crops, embeddings in recording.answers:
        assert np.square(embeddings - slow.run(crops)).sum(axis=1).max() < 0.001
    engine.close()


def test_a_camera_goes_on_when_the_build_fails(
    slow: Engine, eileen: References, caplog: pytest.LogCaptureFixture
) -> None:
    ready = Ready(slow, failing)
    engine, _ = upgrading(ready)
    engine.start()
    ready.may_build.set()
    shown, given, drops = run_camera(
        engine, eileen, lambda shown: len(shown) > 10 and any(seen.name for seen in shown[-1].sightings)
    )
    assert len(shown) + drops == given
    assert caplog.text.count("is not taken") == 1
    engine.close()


LEAVES = """
import sys, threading, time
import numpy as np
from engines.engine import open_engine
from engines.parity import drawn_faces
from engines.runtimes import Choice, Row
from realtime.flow import upgrade
from realtime.flow.upgrade import UpgradingEngine, leave_at_exit

upgrade.JOIN_S = 0.2

class Ready:
    better = Choice(row=Row("openvino", "int8"), threads=1)
    def __init__(self): self.engine = open_engine(runtime="onnxruntime")
    def __getattr__(self, name): return getattr(self.engine, name)
    def build_better(self):
        while True:  # native code that holds and gives back the GIL, as a compiler's
            open_engine(runtime="onnxruntime").run(drawn_faces(150))
            started.set()

started = threading.Event()
engine = UpgradingEngine(Ready(), lambda: np.empty((0, 150, 150, 3), np.uint8))
engine.start()
started.wait()
engine.close()
leave_at_exit(engine, 7)
print("the end")
sys.exit(3)
"""


def test_a_build_that_was_left_behind_does_not_break_the_end_of_the_process(tmp_path: Path) -> None:
    """Without care Python aborts there: the native code of a daemon thread cannot be unwound."""
    with start(tmp_path, python=LEAVES) as running:
        ran = running.end()
    assert (ran.code, ran.out, ran.err) == (7, "the end\n", "")
