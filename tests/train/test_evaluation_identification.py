"""Identification against brute force, one gallery at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.train.evaluation_parts import points
from train.errors import DataError
from train.evaluation.identification import FPIR, RANKS, identify

PEOPLE = tuple(f"p{person:02d}" for person in range(40) for _ in range(5))


def by_hand(points_ND: NDArray[np.float32], *, size: int, references: int, seed: int, fpir: float) -> list[float]:
    """Rank-1, rank-5, FNIR of one gallery; the draw is repeated as the code makes it, the counting is not."""
    random = np.random.default_rng(seed)
    persons = np.unique(PEOPLE, return_inverse=True)[1]
    chosen = np.sort(random.choice(np.arange(40), size, replace=False))
    gallery = {
        int(person): random.choice(np.flatnonzero(persons == person), references, replace=False) for person in chosen
    }
    enrolled = {int(row) for rows in gallery.values() for row in rows}
    places, nearest, strangers = [], [], []
    for row, person in enumerate(persons):
        if row in enrolled:
            continue
        scores = {
            other: min(float(((points_ND[row] - points_ND[ref]) ** 2).sum()) for ref in rows)
            for other, rows in gallery.items()
        }
        if person in gallery:
            places.append(sorted(scores, key=scores.__getitem__).index(int(person)))
            nearest.append(scores[int(person)])
        else:
            strangers.append(min(scores.values()))
    threshold = sorted(strangers)[int(fpir * len(strangers))]
    misses = [place > 0 or score >= threshold for place, score in zip(places, nearest, strict=True)]
    return [*(float(np.mean(np.array(places) < rank)) for rank in RANKS), float(np.mean(misses))]


@pytest.mark.parametrize("references", [1, 3])
def test_every_figure_against_counting_by_hand(references: int) -> None:
    points_ND = points(40, 5, spread=0.2)
    found = identify(points_ND, PEOPLE, references=references, fpir=0.1, galleries=2, seed=5)
    hands = np.mean(
        [by_hand(points_ND, size=20, references=references, seed=seed, fpir=0.1) for seed in (5, 6)], axis=0
    )
    assert found.fnir is not None
    figures = [found.ranks[1], found.ranks[5], found.fnir]
    assert [figure.value for figure in figures] == pytest.approx(hands.tolist(), abs=1e-9)
    assert all(figure.low <= figure.value <= figure.high for figure in figures)
    assert (found.enrolled, found.strangers, found.stranger_probes) == (20, 20, 100)
    assert found.mated_probes == 20 * (5 - references)
    assert found.counted


def test_people_who_are_told_apart_are_all_found() -> None:
    found = identify(points(40, 5, spread=0.01), PEOPLE, fpir=0.02)
    assert found.fnir is not None
    assert (found.ranks[1].value, found.ranks[5].value, found.fnir.value) == (1, 1, 0)


def test_a_model_that_says_the_same_of_everybody_finds_nobody() -> None:
    same_ND = np.ones((len(PEOPLE), 4), dtype=np.float32) / 2
    found = identify(same_ND, PEOPLE, fpir=0.02)
    assert found.fnir is not None
    assert (found.ranks[1].value, found.fnir.value) == (0, 1)


def test_too_few_searches_of_strangers_are_said() -> None:
    found = identify(points(40, 5, spread=0.1)[:20], PEOPLE[:20])
    assert found.fnir is None
    assert found.fpir == FPIR
    assert not found.counted
    assert json.loads(json.dumps(found.to_json()))["ranks"]["1"]["value"] <= 1


def test_the_same_seed_gives_the_same_galleries() -> None:
    points_ND = points(40, 5, spread=0.2)
    assert identify(points_ND, PEOPLE, galleries=2) == identify(points_ND, PEOPLE, galleries=2)


@pytest.mark.parametrize(("references", "enrolled"), [(5, None), (1, 40), (0, None), (1, 0)])
def test_a_gallery_that_cannot_be_is_refused(references: int, enrolled: int | None) -> None:
    with pytest.raises(DataError, match="cannot be enrolled"):
        identify(points(40, 5, spread=0.2), PEOPLE, references=references, enrolled=enrolled)
