"""Trial galleries on made-up people, where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.calibration.trial import LARGEST, MAX_PROBES, MODES, PHOTOS, _draws, _halves, trials


def people(
    enrolled: int, photos: int, strangers: int, spread: float, seed: int = 5
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    persons = np.concatenate([np.repeat(np.arange(enrolled), photos), enrolled + np.arange(strangers)])
    centres = generator.standard_normal((enrolled + strangers, 24))
    embeddings = centres[persons] + spread * generator.standard_normal((len(persons), 24))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32), persons


def test_clear_people_are_all_named_and_strangers_are_not() -> None:
    found = trials(*people(40, 6, 60, 0.05), unit_length=True, rates=[1e-3], margins=[0.0, 0.02])
    assert {trial.mode for trial in found} == set(MODES)
    for trial in found:
        assert trial.right_share > 0.99
        assert trial.wrong == 0
        assert trial.stranger_share < 0.1


def test_the_mean_of_noisy_photos_is_worth_more_than_the_nearest() -> None:
    found = trials(*people(60, 8, 60, 0.55), unit_length=True, rates=[1e-3], sizes=[LARGEST], margins=[0.0])
    share = {trial.mode: trial.right_share for trial in found}
    assert share["mean"] > share["nearest"]
    assert share["both"] >= share["nearest"]


def test_a_margin_names_fewer_of_everybody() -> None:
    found = trials(*people(60, 8, 60, 0.6), unit_length=True, rates=[1e-2], sizes=[LARGEST], margins=[0.0, 0.2])
    by_margin = {trial.margin: trial for trial in found if trial.mode == "nearest"}
    assert by_margin[0.2].right < by_margin[0.0].right
    assert by_margin[0.2].strangers_named <= by_margin[0.0].strangers_named
    assert by_margin[0.2].wrong <= by_margin[0.0].wrong


def test_halves_share_nobody_and_miss_nobody() -> None:
    persons = people(21, 3, 10, 0.1)[1]
    for tuned, tried in _halves(persons, 1):
        assert not set(persons[tuned]) & set(persons[tried])
        assert sorted([*tuned, *tried]) == list(range(len(persons)))


def test_a_gallerys_photos_are_never_its_probes() -> None:
    persons = people(12, 20, 9, 0.1)[1]
    draws = list(_draws(persons, np.arange(len(persons)), 5, np.random.default_rng(1)))
    assert len(draws) > 1
    for draw in draws:
        assert draw.enrolled_P3.shape == (5, PHOTOS)
        assert not set(draw.enrolled_P3.ravel()) & set(draw.probes_N)
        assert (persons[draw.probes_N] == persons[draw.enrolled_P3[draw.owners_N, 0]]).all()
        assert np.bincount(draw.owners_N).max() == MAX_PROBES
        assert set(persons[draw.strangers_N]) == set(range(12, 21))


def test_a_set_without_enough_photos_gives_no_trials() -> None:
    assert trials(*people(20, 3, 20, 0.1), unit_length=True, rates=[1e-2]) == []


@pytest.mark.parametrize("size", [1000, 25])
def test_galleries_larger_than_the_set_are_left_out(size: int) -> None:
    assert trials(*people(40, 5, 20, 0.1), unit_length=True, rates=[1e-2], sizes=[size]) == []


def test_the_same_seed_gives_the_same_trials() -> None:
    embeddings, persons = people(30, 6, 20, 0.4)
    first = trials(embeddings, persons, unit_length=True, rates=[1e-2], sizes=[10])
    assert first == trials(embeddings, persons, unit_length=True, rates=[1e-2], sizes=[10])
