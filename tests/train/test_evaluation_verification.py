"""Verification: the figures of the engines, and those that they do not have, against brute force."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.verification import tails
from engines.verification.pairs import PairList
from engines.verification.tar import tar_over_all
from tests.train.evaluation_parts import faces_of, looked_up, points
from train.errors import DataError
from train.evaluation import everybody, sets
from train.evaluation.embedding import embed_rows
from train.evaluation.everybody import over_all
from train.evaluation.lists import draw_pairs
from train.evaluation.verification import verify_embeddings, verify_set

PEOPLE = tuple(f"p{person:02d}" for person in range(30) for _ in range(6))
POINTS_ND = points(30, 6, spread=0.12)


def all_distances(points_ND: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    pairs = list(itertools.combinations(range(len(points_ND)), 2))
    one, two = np.array(pairs).T
    whole = points_ND.astype(np.float64)
    people = np.array(PEOPLE)
    return ((whole[one] - whole[two]) ** 2).sum(axis=1), people[one] == people[two]


def test_everybody_with_everybody_against_brute_force() -> None:
    found = verify_embeddings(POINTS_ND, faces_of(PEOPLE), threshold=0.9)
    distances_T, mated_T = all_distances(POINTS_ND)
    assert found.over_all is not None
    assert found.over_all.non_mated == (~mated_T).sum()
    assert [point.rate for point in found.over_all.points] == [1e-1, 1e-2, 1e-3]
    for point in found.over_all.points:
        assert (distances_T[~mated_T] < point.threshold - 1e-5).sum() <= point.allowed
        assert point.allowed == int(point.rate * (~mated_T).sum())
        assert point.tar == pytest.approx((distances_T[mated_T] < point.threshold).mean(), abs=2e-3)
        low, high = point.interval
        assert low <= point.tar <= high
    assert found.over_all.fmr_at == pytest.approx((distances_T[~mated_T] < 0.9).mean(), abs=1e-4)
    order = np.argsort(distances_T)
    misses = 1 - np.cumsum(mated_T[order]) / mated_T.sum()
    matches = np.cumsum(~mated_T[order]) / (~mated_T).sum()
    nearest = np.argmin(np.abs(misses - matches))
    assert found.eer == pytest.approx((misses[nearest] + matches[nearest]) / 2, abs=2e-3)
    assert found.eer_interval.low <= found.eer <= found.eer_interval.high
    assert found.accuracy is not None
    assert found.folds == "drawn"
    assert any("FAR 0.0001" in words for words in found.skipped)


def test_high_rates_agree_with_their_exact_form(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = over_all(POINTS_ND, PEOPLE, (1e-1, 1e-2, 1e-3))
    monkeypatch.setattr(everybody, "LONGEST_TAIL", 20)
    monkeypatch.setattr(everybody, "SAMPLE", 4000)
    sampled = over_all(POINTS_ND, PEOPLE, (1e-1, 1e-2, 1e-3))
    for one, other in zip(exact.everybody.points, sampled.everybody.points, strict=True):
        assert other.threshold == pytest.approx(one.threshold, abs=tails.FINEST_BIN)
        assert other.threshold <= one.threshold
        assert other.tar == pytest.approx(one.tar, abs=1e-2)
        assert other.interval == pytest.approx(one.interval, abs=0.05)
        assert (other.allowed, other.non_mated, other.mated) == (one.allowed, one.non_mated, one.mated)


def test_low_rates_are_those_of_the_engines() -> None:
    ours = over_all(POINTS_ND, PEOPLE, (1e-2, 1e-3)).everybody
    theirs = tar_over_all(POINTS_ND, PEOPLE, rates=(1e-2, 1e-3))
    for one, other in zip(ours.points, theirs.points, strict=True):
        assert (one.tar, one.threshold, one.interval) == (other.tar, other.threshold, other.interval)


def test_too_many_photos_of_a_person_are_refused_before_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everybody, "MOST_MATED", 100)
    with pytest.raises(DataError, match=r"450 comparisons of photos of one person.*give a list"):
        over_all(POINTS_ND, PEOPLE, (1e-2,), where="big")


def test_a_list_counts_what_failed() -> None:
    one = faces_of(PEOPLE)
    pairs = draw_pairs(PEOPLE, where="list", count=200)
    keys = tuple(map(str, range(len(PEOPLE))))
    whole = verify_embeddings(POINTS_ND, replace(one, pairs=pairs, keys=keys))
    rows = np.arange(5, len(PEOPLE))
    listed = replace(one, pairs=pairs, keys=keys[5:], failed_keys=keys[:5], rows_N=rows, people=PEOPLE[5:])
    some = verify_embeddings(POINTS_ND[5:], listed)
    assert whole.failed_pairs == 0
    assert some.failed_pairs > 0
    assert some.pairs == whole.pairs
    assert some.accuracy is not None
    assert whole.accuracy is not None
    assert some.accuracy.mean <= whole.accuracy.mean - some.failed_pairs / some.pairs + 0.03
    gone = verify_embeddings(POINTS_ND[5:], replace(listed, failed_keys=()))
    assert gone.absent_pairs == some.failed_pairs
    assert {point.rate for point in whole.points} == {0.1, 0.01}  # 100 non-mated pairs allow one false match at 1e-2


def test_a_set_that_knows_only_its_pairs_has_no_figures_over_all() -> None:
    pairs = draw_pairs(PEOPLE, where="list", count=200)
    keys = tuple(map(str, range(len(PEOPLE))))
    found = verify_embeddings(POINTS_ND, replace(faces_of(PEOPLE), pairs=pairs, keys=keys, people=None))
    assert found.over_all is None
    assert found.people is None
    assert found.papers is not None
    assert found.points
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["all"] is None


def test_embedding_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = faces_of(PEOPLE)
    monkeypatch.setattr("train.evaluation.embedding.CHUNK", 7)
    told: list[tuple[int, int]] = []
    found = embed_rows(looked_up(POINTS_ND), wanted, progress=lambda done, total: told.append((done, total)))
    assert np.array_equal(found, POINTS_ND)
    assert told[-1] == (len(PEOPLE), len(PEOPLE))
    direct = verify_embeddings(POINTS_ND, wanted)
    assert verify_set(looked_up(POINTS_ND), wanted).to_json() == direct.to_json()


def test_the_flip_test_takes_the_mean_of_both_sides() -> None:
    wanted = faces_of(PEOPLE)
    sides = {False: POINTS_ND, True: points(30, 6, spread=0.12, seed=9)}

    def embed(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return looked_up(sides[bool(crops[:, 0, -1].any())])(crops)

    found = embed_rows(embed, wanted, flip=True)
    mean = sides[False] + sides[True]
    assert np.allclose(found[3:], (mean / np.linalg.norm(mean, axis=1, keepdims=True))[3:], atol=1e-6)


def test_an_embedding_that_is_no_number_names_its_image() -> None:
    broken = POINTS_ND.copy()
    broken[7, 3] = np.nan
    with pytest.raises(DataError, match=r"p01/0007\.jpg is no number"):
        embed_rows(looked_up(broken), faces_of(PEOPLE))


def test_a_set_with_one_kind_of_comparison_is_refused() -> None:
    strangers = tuple(map(str, range(20)))
    with pytest.raises(DataError, match="of one person and of two people are both needed"):
        verify_embeddings(POINTS_ND[:20], faces_of(strangers))


def test_a_list_is_drawn_once_for_all_looks_at_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run looks at its people kept back again and again."""
    drawn: list[str] = []

    def counted(people: Sequence[str], *, where: str) -> PairList:
        drawn.append(where)
        return draw_pairs(people, where=where)

    monkeypatch.setattr(sets, "draw_pairs", counted)
    wanted = faces_of(tuple(f"p{person}" for person in range(6) for _ in range(4)))
    looks = [verify_embeddings(points(6, 4, spread=0.1), wanted) for _ in range(2)]
    assert drawn == ["points"]
    assert looks[0].accuracy == looks[1].accuracy


def test_the_figure_to_watch_is_accuracy() -> None:
    found = verify_embeddings(POINTS_ND, faces_of(PEOPLE))
    assert found.accuracy is not None
    name, figure = found.figure
    assert (name, figure.value) == ("accuracy", found.accuracy.mean)
    assert figure.low <= figure.value <= figure.high
    name, figure = replace(found, accuracy=None).figure
    assert (name, figure.value) == ("1 - EER", 1 - found.eer)
    assert figure.low <= figure.value <= figure.high


def test_curves_meet_the_figures(tmp_path: Path) -> None:
    found = verify_embeddings(POINTS_ND, faces_of(PEOPLE))
    curves = found.curves
    assert (np.diff(curves.fmr_K) >= 0).all()
    assert (np.diff(curves.fnmr_K) <= 0).all()
    assert curves.mated_H.sum() == pytest.approx(1)
    assert curves.non_mated_H.sum() == pytest.approx(1)
    place = np.argmin(np.abs(curves.fmr_K - curves.fnmr_K))
    assert (curves.fmr_K[place] + curves.fnmr_K[place]) / 2 == pytest.approx(found.eer, abs=0.02)
