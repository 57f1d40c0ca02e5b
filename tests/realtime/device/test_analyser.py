"""Frames of several cameras on a device, beside the processor's own path, part by part."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.store import default_model
from realtime.benchmark.streams_material import HostPath, open_host_path, references_of, tiny_frames
from realtime.capture.demo import DEMO_NAME, demo_photo
from realtime.device.analyser import STAGES, Boxes, DeviceAnalyser, Seen
from realtime.device.matching import DeviceReferences
from realtime.device.opening import open_device_analyser
from realtime.faces.alignment import align
from realtime.people.matching import References, match
from tests.pretended_gpu import pretended_gpu

CPU = torch.device("cpu")
DIMENSIONS = 128


@lru_cache(maxsize=1)
def host() -> HostPath:
    return open_host_path(threads=1)


@lru_cache(maxsize=1)
def references() -> References:
    return references_of([(DEMO_NAME, demo_photo())], host())


@lru_cache(maxsize=1)
def frames() -> list[NDArray[np.uint8]]:
    """Two of the portrait, one of nobody between them."""
    first, second = tiny_frames(2)
    return [first, np.zeros_like(first), second]


@lru_cache(maxsize=1)
def analyser() -> DeviceAnalyser:
    return open_device_analyser(default_model(), references(), CPU, precision="fp32")


def same(seen: list[Seen]) -> None:
    for one, frame in zip(seen, frames(), strict=True):
        other = host().look(frame, references())
        assert np.array_equal(one.boxes_N4, other.boxes_N4)
        assert np.allclose(one.scores_N, other.scores_N, atol=1e-4)
        assert np.array_equal(one.points_NP2, other.points_NP2)
        assert np.allclose(one.embeddings_ND, other.embeddings_ND, atol=2e-4)
        assert one.names(references(), 0.3) == other.names(references(), 0.3)
        assert np.allclose(one.matches.distances_N, other.matches.distances_N, atol=1e-3)
        assert np.allclose(one.matches.second_distances_N, other.matches.second_distances_N, atol=1e-3)


def test_frames_of_any_home_show_what_the_processor_sees() -> None:
    same(analyser().analyse(frames()))
    same(analyser().analyse(np.stack(frames())))
    same(analyser().analyse([torch.from_numpy(frame) for frame in frames()]))
    same(analyser().analyse(torch.from_numpy(np.stack(frames()))))
    assert analyser().analyse(frames()[:1])[0].names(references(), 0.3) == [DEMO_NAME]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU and torch for it")
def test_a_gpu_sees_what_the_processor_sees() -> None:
    there = open_device_analyser(default_model(), references(), torch.device("cuda"), precision="fp32")
    for _ in range(2):  # recorded, then replayed
        same(there.analyse(frames()))
        same(there.analyse([torch.from_numpy(frame).pin_memory() for frame in frames()]))
        same(there.analyse(torch.from_numpy(np.stack(frames())).cuda()))
    there.analyse(frames()[:1])
    assert set(there.stages.shares) == set(STAGES)


def test_a_batch_of_nobody_is_a_batch_of_nobody() -> None:
    seen = analyser().analyse([frames()[1]] * 2)
    assert [len(one.boxes_N4) for one in seen] == [0, 0]
    assert seen[0].points_NP2.shape == (0, 5, 2)
    assert seen[0].embeddings_ND.shape == (0, DIMENSIONS)
    assert seen[0].names(references(), 0.3) == []


def test_a_stage_has_its_share_of_the_time() -> None:
    analyser().stages.clear()
    analyser().analyse(frames())
    shares = analyser().stages.shares
    assert set(shares) == set(STAGES)
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


class Crowded:
    """Finds the same face so many times in the second frame: more than any detector gives a place to."""

    def __init__(self, count: int) -> None:
        self._count = count

    def detect(self, frames_BHWC: Tensor, *, min_score: float = 0.0) -> Crowded:
        return self

    def on_host(self) -> list[Boxes]:
        boxes_N4, scores_N = (np.array([[62, 50, 158, 146]], dtype=np.float32), np.ones(1, dtype=np.float32))
        return [(boxes_N4, scores_N), (boxes_N4.repeat(self._count, axis=0), scores_N.repeat(self._count))]


def test_no_face_is_dropped_however_many_there_are() -> None:
    crowded = open_device_analyser(default_model(), references(), CPU, precision="fp32", detector=Crowded(70))
    first, second = crowded.analyse([frames()[0]] * 2)
    assert len(second.names(references(), 0.3)) == 70
    assert set(second.names(references(), 0.3)) == {DEMO_NAME}
    assert np.allclose(second.embeddings_ND, first.embeddings_ND, atol=1e-5)


def test_more_references_than_one_product_takes_give_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.device.analyser.FEW", 10)
    same(open_device_analyser(default_model(), references(), CPU, precision="fp32").analyse(frames()))


@pytest.mark.parametrize(("people", "each"), [(0, 0), (1, 1), (1, 4), (2, 1), (7, 3)])
def test_the_nearest_people_are_those_of_the_processor(people: int, each: int) -> None:
    random = np.random.default_rng(people)
    persons_M = random.permutation(np.repeat(np.arange(people), each))
    known = References(
        embeddings_MD=random.normal(size=(people * each, 8)).astype(np.float32),
        persons_M=persons_M,
        names=tuple(map(str, range(people + 2))),
        model_id="m",
    )
    probes_ND = random.normal(size=(6, 8)).astype(np.float32)
    persons_N2, distances_N2 = DeviceReferences(known, device=CPU).match(torch.from_numpy(probes_ND))
    expected = match(probes_ND, known)
    assert np.array_equal(persons_N2[:, 0].numpy(), expected.persons_N)
    assert np.array_equal(persons_N2[:, 1].numpy(), expected.second_persons_N)
    assert np.allclose(distances_N2[:, 0].numpy(), expected.distances_N, atol=1e-4)
    assert np.allclose(distances_N2[:, 1].numpy(), expected.second_distances_N, atol=1e-4)


def test_names_need_a_near_person_and_nobody_else_as_near() -> None:
    seen = analyser().analyse(frames()[:1])[0]
    assert seen.names(references(), 0.0) == [None]
    assert seen.names(references(), 0.3, margin=9.0) == [None]


def test_matching_waits_for_nothing() -> None:
    with pretended_gpu() as device:
        made = DeviceReferences.__new__(DeviceReferences)
        made._references_MD = torch.empty(5, 8, device=device)
        made._squares_M = torch.empty(5, device=device)
        made._persons_P = torch.empty(3, dtype=torch.int64, device=device)
        made._rows_M = torch.empty(5, dtype=torch.int64, device=device)
        persons_N2, distances_N2 = made.match(torch.empty(4, 8, device=device))
    assert (persons_N2.device, distances_N2.device) == (device, device)


def test_crops_come_to_the_host_where_they_are_asked_for() -> None:
    assert analyser().analyse(frames())[0].crops_NSS3 is None
    first, nobody, _ = analyser().analyse(frames(), crops=True)
    assert first.crops_NSS3 is not None
    assert nobody.crops_NSS3 is not None
    assert nobody.crops_NSS3.shape == (0, 150, 150, 3)
    (alone,) = analyser().analyse(frames()[1:2], crops=True)
    assert alone.crops_NSS3 is not None
    assert alone.crops_NSS3.shape == (0, 150, 150, 3)
    expected = align(frames()[0], first.points_NP2[0], "dlib_chip_150")
    assert np.abs(first.crops_NSS3[0].astype(int) - expected).max() <= 1
