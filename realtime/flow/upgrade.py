"""A faster engine is built beside the one that runs, and takes its place between two batches.

Enters: an engine that is ready and knows of a better one. Leaves: an ``Engine`` that is used as any other; the pipeline
behind it neither waits nor loses a frame, and a better one that fails or answers otherwise never runs.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.engine import Embeddings_ND, Engine, Faces_NHWC
from engines.errors import EngineError, GateFailed
from engines.manifest import Manifest
from engines.parity import drawn_faces
from engines.runtimes import Choice
from realtime.flow.worker import Worker

log = logging.getLogger(__name__)

# N faces; H, W pixels; C = 3 channels; D embedding
FACES: Final = 8
"""Real faces on which the two are compared before the better one takes over."""

KEPT: Final = 32
"""Of the faces that went through the running engine, the newest so many are compared."""

MEAN_SHARE: Final = 0.1
WORST_SHARE: Final = 0.4
"""Of the model's threshold: by so much, in squared distance, faces may move on average, and a single one. On 500 faces
of LFW dlib's embeddings move by 0.002 and 0.064 in int8, by 0.0003 and 0.0006 in bf16."""

JOIN_S: Final = 2.0
"""A build cannot be interrupted; one that goes on for longer after ``close`` is left behind."""

TICK_S: Final = 0.1


class Upgradable(Engine, Protocol):
    """What ``engines.engine.open_engine(wait=False)`` gives."""

    @property
    def better(self) -> Choice | None:
        """The faster runtime that has to be built first."""

    def build_better(self) -> Engine:
        """Build it; this engine stays as it is, and may run meanwhile."""

    def reject_better(self, reason: str) -> None:
        """Remember that it answers otherwise."""


class UpgradingEngine:
    """An engine, and the thread that builds its successor. Any thread may call it; batches run one at a time.

    Args:
        engine: ready; belongs to this one from now on.
        enrolled: aligned faces (N, S, S, 3) uint8 RGB of the gallery, to compare the two on; may be none.
        tell: is given the sentences for people, from the building thread.
    """

    def __init__(
        self, engine: Upgradable, enrolled: Callable[[], Faces_NHWC], tell: Callable[[str], object] = log.info
    ) -> None:
        assert engine.better is not None
        self._engine: Engine = engine
        self._first = engine
        self._wanted = engine.better.short
        self._enrolled = enrolled
        self._tell = tell
        self._in_use = threading.Lock()
        """Held while the engine computes, and while it is exchanged."""
        self._changed = threading.Condition()
        self._seen: deque[tuple[NDArray[np.uint8], NDArray[np.float32]]] = deque(maxlen=KEPT)
        self._watching = False
        """Whether faces that go through are kept for the comparison."""
        self._waits_for_faces = True
        self._closed = False
        self._done = threading.Event()
        """Waited for instead of the thread: Ctrl-C in ``Thread.join`` makes Python 3.11 take it for ended."""
        self._started = False
        self._worker = Worker("build engine", self._work, self._failed)

    @property
    def manifest(self) -> Manifest:
        return self._engine.manifest

    @property
    def runtime(self) -> str:
        return self._engine.runtime

    @property
    def choice(self) -> str:
        return self._engine.choice

    @property
    def building(self) -> bool:
        """Whether the thread is still at work; after ``close`` that means it was left behind."""
        return self._started and not self._done.is_set()

    def start(self) -> None:
        """Build in the background, and change over when both agree on faces that were seen or are enrolled."""
        self._tell(f"{self._wanted} is being built; using {self.runtime} meanwhile")
        self._watching = True
        self._begin()

    def finish(self, tick: Callable[[], object]) -> None:
        """Build, and come back on the better engine, or with a warning on the first one.

        Args:
            tick: called ten times a second meanwhile; what it raises leaves the build behind.
        """
        self._tell(f"{self._wanted} is being built first, so that a file gives the same every time; it is kept")
        self._waits_for_faces = False
        self._begin()
        while not self._done.wait(TICK_S):
            tick()

    def _begin(self) -> None:
        self._started = True
        self._worker.start()

    def run(self, faces_NHWC: NDArray[Any]) -> Embeddings_ND:
        with self._in_use:
            embeddings_ND = self._engine.run(faces_NHWC)
        if self._watching and len(embeddings_ND):
            with self._changed:
                self._seen.extend(zip(np.array(faces_NHWC), embeddings_ND.copy(), strict=True))
                self._changed.notify_all()
        return embeddings_ND

    def close(self) -> None:
        """End the comparison, wait a moment for a build, free the engine that is in use. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._started:
            self._done.wait(JOIN_S)
        with self._in_use:
            self._engine.close()

    # -- the building thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._upgrade()
        self._done.set()

    def _upgrade(self) -> None:
        better = self._first.build_better()
        try:
            if better.runtime == self._first.runtime:
                raise EngineError(better.choice)
            self._compare(better)
            taken = self._exchange(better)
        except BaseException as err:
            better.close()
            if isinstance(err, GateFailed):
                self._first.reject_better(str(err))
            raise
        if taken:
            self._first.close()
            self._tell(f"now on {self.runtime}")
        else:
            better.close()

    def _exchange(self, better: Engine) -> bool:
        """Whether the better one is in use now: not where everything has been closed meanwhile."""
        with self._in_use:
            if not self._closed:
                self._engine = better
            self._watching = False
        self._seen.clear()
        return self._engine is better

    def _compare(self, better: Engine) -> None:
        """Raises GateFailed: the two answer otherwise."""
        faces_NHWC, expected_ND = self._answers()
        if self._closed:
            return
        threshold = self.manifest.threshold
        if not len(faces_NHWC):  # a file, and nobody is enrolled: whether it computes at all shows on any picture
            faces_NHWC, threshold = drawn_faces(self.manifest.input_size), np.inf
            expected_ND = self._embed(faces_NHWC)
        _check(better.run(faces_NHWC), expected_ND, threshold)

    def _answers(self) -> tuple[Faces_NHWC, Embeddings_ND]:
        """Faces, and what the running engine says of them: those that it has seen, and enrolled ones."""
        enrolled_NHWC = self._enrolled()[:KEPT]
        embeddings_ND = self._embed(enrolled_NHWC)
        wanted = FACES - len(enrolled_NHWC)
        with self._changed:
            if self._waits_for_faces:
                self._changed.wait_for(lambda: len(self._seen) >= wanted or self._closed)
            seen = list(self._seen)
        if not seen:
            return enrolled_NHWC, embeddings_ND
        faces_NHWC, seen_ND = (np.stack(each) for each in zip(*seen, strict=True))
        if not len(enrolled_NHWC):
            return faces_NHWC, seen_ND
        return np.concatenate([faces_NHWC, enrolled_NHWC]), np.concatenate([seen_ND, embeddings_ND])

    def _embed(self, faces_NHWC: Faces_NHWC) -> Embeddings_ND:
        """On the running engine, one at a time, so that the pipeline waits for one face at most."""
        parts = [np.empty((0, self.manifest.dimensions), dtype=np.float32)]
        for face_HWC in faces_NHWC:
            with self._in_use:
                if self._closed:
                    break
                parts.append(self._engine.run(face_HWC[None]))
        return np.concatenate(parts)

    def _failed(self, error: BaseException) -> None:
        self._watching = False
        self._seen.clear()
        if not self._closed:
            reason = str(error) or type(error).__name__
            log.warning("%s is not taken: %s; staying on %s", self._wanted, reason, self.runtime)
        self._done.set()


def _check(found_ND: Embeddings_ND, expected_ND: Embeddings_ND, threshold: float) -> None:
    """Raises GateFailed: names would change where the one takes over from the other."""
    if found_ND.shape != expected_ND.shape:
        raise GateFailed(f"its embeddings are of shape {found_ND.shape}, and {expected_ND.shape} is needed")
    moved_N = np.square(found_ND - expected_ND).sum(axis=1)
    mean, worst = float(moved_N.mean()), float(moved_N.max())
    if not np.isfinite(worst) or mean > MEAN_SHARE * threshold or worst > WORST_SHARE * threshold:
        raise GateFailed(
            f"{len(found_ND)} faces move by {mean:.3g} on average and {worst:.3g} at most (squared), and "
            f"{MEAN_SHARE * threshold:.3g} and {WORST_SHARE * threshold:.3g} are allowed"
        )


def leave_at_exit(engine: UpgradingEngine, code: int) -> None:
    """End the process at once with ``code`` where a build is still going on when everything else is done.

    Native code that asks for the GIL of an interpreter that is being torn down aborts the process (Python before 3.14).
    """

    def leave() -> None:
        if engine.building:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    if engine.building:
        atexit.register(leave)
