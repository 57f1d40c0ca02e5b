"""Crops of a device beside OpenCV's."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.device.alignment import DeviceAligner
from realtime.device.frames import grey_of, on_device
from realtime.errors import RealtimeError
from realtime.faces.alignment import TEMPLATES, align, alignment_matrix
from tests.pretended_gpu import pretended_gpu
from tests.realtime.pictures import astronaut

CPU = torch.device("cpu")
HEIGHT, WIDTH = 300, 420
KINDS = ("dlib_chip_150", "arcface_112")


@lru_cache(maxsize=1)
def frames() -> NDArray[np.uint8]:
    """Two frames, one with detail everywhere, one smooth."""
    noise = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return np.stack([noise, np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), dtype=np.uint8)])


def face(kind: str, width: float, turn: float, x: float, y: float, seed: int = 0) -> NDArray[np.float64]:
    """Points of a face so many times as large as its crop, whole pixels."""
    template = TEMPLATES[kind]
    rotation = width * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    bent = np.random.default_rng(seed).normal(0, 1.5, (5, 2))
    points: NDArray[np.float64] = np.rint((template.from_5 - template.size / 2 + bent) @ rotation.T + (x, y))
    return points


def crops(kind: str, points_NP2: NDArray[np.float64], frames_N: list[int]) -> NDArray[np.uint8]:
    aligner = DeviceAligner(kind, points_NP2.shape[1], device=CPU)
    points = torch.from_numpy(points_NP2)
    matrices = aligner.matrices(points)
    expected = np.stack([alignment_matrix(points_P2, TEMPLATES[kind]) for points_P2 in points_NP2])
    assert np.allclose(matrices.numpy(), expected, rtol=0, atol=1e-9)
    steps_N = aligner.steps(matrices)
    made = aligner.crops(
        torch.from_numpy(frames()), points, torch.tensor(frames_N), matrices, steps_N, steps_N.tolist()
    )
    return made.numpy()


faces = st.builds(
    face,
    st.sampled_from(KINDS[:1]),
    st.floats(0.2, 9),
    st.floats(-0.7, 0.7),
    st.floats(-30, WIDTH + 30),
    st.floats(-30, HEIGHT + 30),
    st.integers(0, 99),
)


@given(st.lists(st.tuples(faces, st.integers(0, 1)), min_size=1, max_size=4), st.sampled_from(KINDS))
@settings(max_examples=40, deadline=None)
def test_pixels_are_opencvs(chosen: list[tuple[NDArray[np.float64], int]], kind: str) -> None:
    found = crops(kind, np.stack([points_P2 for points_P2, _ in chosen]), [frame for _, frame in chosen])
    for crop, (points_P2, frame) in zip(found, chosen, strict=True):
        off = np.abs(crop.astype(int) - align(frames()[frame], points_P2, kind))
        assert off.max() <= 1
        assert (off == 0).mean() > 0.98


def test_68_points_are_aligned_too() -> None:
    random = np.random.default_rng(5)
    points_NP2 = random.uniform(80, 220, (3, 68, 2)).round()
    for kind in KINDS:
        for crop, points_P2 in zip(crops(kind, points_NP2, [0, 1, 1]), points_NP2, strict=True):
            frame = frames()[0 if points_P2 is points_NP2[0] or (points_P2 == points_NP2[0]).all() else 1]
            assert np.abs(crop.astype(int) - align(frame, points_P2, kind)).max() <= 1


def test_points_that_are_one_point_give_a_crop_all_the_same() -> None:
    points_NP2 = np.full((1, 5, 2), 100.0)
    expected = align(frames()[0], points_NP2[0], "dlib_chip_150")
    assert np.abs(crops("dlib_chip_150", points_NP2, [0])[0].astype(int) - expected).max() <= 1


def test_a_cubic_template_is_refused_with_a_sentence() -> None:
    with pytest.raises(RealtimeError, match="sampled cubically"):
        DeviceAligner("eyes_112", 5, device=CPU)
    with pytest.raises(ValueError, match="5 or 68"):
        DeviceAligner("arcface_112", 6, device=CPU)


def test_grey_is_opencvs_to_the_bit() -> None:
    colours = np.concatenate([frames()[0], cv2.resize(astronaut(), (WIDTH, HEIGHT))])
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(grey_of(torch.from_numpy(colours)[None])[0].numpy(), expected)


def test_frames_of_two_sizes_or_another_type_are_refused() -> None:
    small = np.zeros((4, 6, 3), dtype=np.uint8)
    assert on_device([small, small], CPU).shape == (2, 4, 6, 3)
    with pytest.raises(ValueError, match="several sizes"):
        on_device([small, small[:3]], CPU)
    with pytest.raises(ValueError, match="must be uint8"):
        on_device(torch.zeros(1, 4, 6, 3), CPU)


def test_the_host_never_waits_and_nothing_lies_elsewhere() -> None:
    with pretended_gpu() as device:
        aligner = DeviceAligner("dlib_chip_150", 5, device=device)
        rgb_BHW3 = torch.empty(2, HEIGHT, WIDTH, 3, dtype=torch.uint8, device=device)
        points = torch.empty(4, 5, 2, dtype=torch.float64, device=device)
        owners = torch.empty(4, dtype=torch.int64, device=device)
        matrices = aligner.matrices(points)
        steps_N = aligner.steps(matrices)
        found = aligner.crops(rgb_BHW3, points, owners, matrices, steps_N, [0, 1, 0, 2])
        assert grey_of(rgb_BHW3).device == device
    assert found.device == device
    assert found.shape == (4, 150, 150, 3)
