"""Cameras played by a clock, and what the device sees beside the processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.errors import OutOfDeviceMemory
from engines.proofs.record import Proof
from realtime.benchmark import streams, streams_parity
from realtime.benchmark.streams_load import play
from realtime.benchmark.streams_material import clip_frames, resized, spread, tiny_frames
from realtime.benchmark.streams_parity import compare
from realtime.device.analyser import Seen
from realtime.device.stages import Stages
from realtime.errors import RealtimeError
from realtime.people.matching import Matches, References

FRAMES = [torch.zeros(2, 2, 3, dtype=torch.uint8)] * 3


class Clock:
    """Seconds that pass only where somebody lets them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + 1e-9


class SlowAnalyser:
    """Takes a fixed time for a batch and some for each frame, of a clock that is not real."""

    def __init__(self, clock: Clock, batch_s: float, frame_s: float) -> None:
        self.stages = Stages(torch.device("cpu"))
        self._clock, self._batch_s, self._frame_s = clock, batch_s, frame_s
        self.batches: list[int] = []

    def analyse(self, pictures: Sequence[torch.Tensor]) -> list[None]:
        self.batches.append(len(pictures))
        self._clock.now += self._batch_s + len(pictures) * self._frame_s
        return [None] * len(pictures)


@pytest.mark.parametrize("cameras", [1, 3, 16])
def test_what_is_fast_enough_holds_every_stream(cameras: int) -> None:
    clock = Clock()
    analyser = SlowAnalyser(clock, 0.001, 0.0005)
    load = play(analyser, FRAMES, cameras, 2.0, clock=clock, sleep=clock.sleep)  # type: ignore[arg-type]
    assert load.drops == 0
    assert load.held
    assert load.seen == pytest.approx(2.0 * 25 * cameras, abs=cameras)
    # a frame that comes while a batch is under way waits for it
    assert 1.5 <= load.latencies.p50_ms <= 2 * (1 + 0.5 * cameras)


def test_a_late_stream_finds_only_the_newest_frame_and_the_rest_is_counted() -> None:
    clock = Clock()
    load = play(SlowAnalyser(clock, 0.1, 0.0), FRAMES, 1, 4.0, clock=clock, sleep=clock.sleep)  # type: ignore[arg-type]
    assert load.seen == pytest.approx(40, abs=2)
    assert load.seen + load.drops == pytest.approx(100, abs=3)
    assert not load.held
    assert load.dropped == pytest.approx(0.6, abs=0.03)
    assert load.busy > 0.95
    # the newest is at most a frame's time old when its turn comes
    assert load.latencies.percentile_ms(100) <= 100 + 40 + 1


def test_more_streams_than_a_batch_holds_take_turns() -> None:
    clock = Clock()
    analyser = SlowAnalyser(clock, 0.02, 0.0)
    load = play(
        analyser,
        FRAMES,
        6,
        4.0,
        batches=(1, 2, 4),
        clock=clock,
        sleep=clock.sleep,  # type: ignore[arg-type]
    )
    assert set(analyser.batches) <= {1, 2, 4}
    assert load.held


def faces(boxes: list[list[float]], persons: list[int], distance: float = 0.1) -> Seen:
    count = len(boxes)
    return Seen(
        boxes_N4=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        scores_N=np.ones(count, dtype=np.float32),
        points_NP2=np.zeros((count, 5, 2)),
        embeddings_ND=np.ones((count, 4), dtype=np.float32),
        matches=Matches(
            persons_N=np.array(persons, dtype=np.int64),
            distances_N=np.full(count, distance, dtype=np.float32),
            second_persons_N=np.full(count, -1),
            second_distances_N=np.full(count, np.inf, dtype=np.float32),
        ),
    )


KNOWN = References(
    embeddings_MD=np.eye(2, 4, dtype=np.float32), persons_M=np.arange(2), names=("Ana", "Ben"), model_id="m"
)
LEFT, RIGHT = [0.0, 0, 10, 10], [50.0, 0, 60, 10]


def test_the_same_sight_is_the_same() -> None:
    seen = [faces([LEFT, RIGHT], [0, 1]), faces([], [])]
    found = compare(seen, seen, KNOWN, 0.3)
    assert (found.frames, found.same_boxes, found.faces, found.found, found.extra) == (2, 2, 2, 2, 0)
    assert (found.same_points, found.worst_cosine, found.same_names, found.named) == (1.0, pytest.approx(1), 2, 2)


def test_every_difference_is_told() -> None:
    host = [faces([LEFT, RIGHT], [0, 1])]

    def beside(theirs: Seen) -> tuple[int, int, int, int]:
        found = compare(host, [theirs], KNOWN, 0.3)
        return found.same_boxes, found.found, found.extra, found.same_names

    assert beside(faces([RIGHT, LEFT], [1, 0])) == (0, 2, 0, 1)  # another order is no other name
    assert beside(faces([LEFT, RIGHT], [0, 0])) == (1, 2, 0, 0)
    assert beside(faces([LEFT], [0])) == (0, 1, 0, 0)
    assert beside(faces([LEFT, RIGHT, [90, 0, 99, 9]], [0, 1, 0])) == (0, 2, 1, 0)
    assert beside(faces([LEFT, RIGHT], [0, 1], distance=0.4)) == (1, 2, 0, 0)
    moved = replace(host[0], points_NP2=np.ones((2, 5, 2)) * [0, 1])
    found = compare(host, [moved], KNOWN, 0.3)
    assert (found.same_points, found.farthest_px) == (0.5, 1.0)
    turned = replace(host[0], embeddings_ND=np.array([[1, 1, 1, 1], [1, 1, 1, -1]], dtype=np.float32))
    assert compare(host, [turned], KNOWN, 0.3).worst_cosine == pytest.approx(0.5)


def test_a_folder_of_pictures_is_a_clip(tmp_path: Path) -> None:
    with pytest.raises(RealtimeError, match="no frame could be read"):
        clip_frames(tmp_path)
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 6, 3), (number, 0, 9), dtype=np.uint8))
    found = clip_frames(tmp_path, every=2)
    assert [frame[0, 0].tolist() for frame in found] == [[9, 0, 0], [9, 0, 2]]


def test_what_is_no_clip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no film")
    with pytest.raises(RealtimeError, match="cannot be decoded"):
        clip_frames(path)


def test_frames_are_spread_and_resized() -> None:
    frames: list[NDArray[np.uint8]] = [np.full((4, 6, 3), number, dtype=np.uint8) for number in range(9)]
    assert [int(frame[0, 0, 0]) for frame in spread(frames, 3)] == [0, 4, 8]
    assert len(spread(frames, 99)) == 9
    assert resized(frames[:1], (12, 8))[0].shape == (8, 12, 3)
    assert resized(frames[:1], (6, 4))[0] is frames[0]


def test_a_dry_runs_frames_are_small_and_of_one_size() -> None:
    assert {frame.shape for frame in tiny_frames()} == {(192, 256, 3)}


# what a device refuses


def tiny_proof(monkeypatch: pytest.MonkeyPatch, **changes: object) -> Proof:
    """A dry run on two frames, with parts of the proof replaced."""
    for name, part in changes.items():
        for module in (streams, streams_parity):
            monkeypatch.setattr(module, name, part, raising=False)
    proof = Proof("streams", streams.TITLE, dry_run=True)
    wishes = streams.Wishes(frames=tiny_frames(2), people=[], counts=[1, 2], seconds=0.05, threads=1)
    streams.prove(proof, torch.device("cpu"), wishes)
    return proof


def refuses(*args: object, **options: object) -> None:
    raise OutOfDeviceMemory("the GPU's memory does not suffice; use smaller frames")


def test_a_device_that_runs_nothing_fails_the_proof_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    proof = tiny_proof(monkeypatch, open_device_analyser=refuses)
    assert not proof.passed
    assert [one.what for one in proof.untried] == ["parity in fp32", "parity in fp16", "streams"]
    assert all("smaller frames" in one.why for one in proof.untried)


def test_what_does_not_fit_is_noted_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_are_too_many(*args: object, **options: object) -> object:
        if args[2] == 2:
            refuses()
        return play(*args, **options)  # type: ignore[arg-type]

    proof = tiny_proof(monkeypatch, play=two_are_too_many)
    assert proof.passed
    untried = [one.what for one in proof.untried]
    assert untried == ["2 streams of 256x192 from the device", "2 streams of 256x192 from the host"]
    tables = {table.name: table.rows for table in proof.tables}
    assert [row[0] for row in tables["streams_256_192_device"]] == [1]
    assert len(tables["held"]) == 2
    assert len(tables["floors"]) == 2
    (fp32, fp16) = tables["parity"]
    assert fp32[1] == fp32[2] == fp16[1] == 2
