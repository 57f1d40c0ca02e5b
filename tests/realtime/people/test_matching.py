"""One matrix product against a loop over every pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.people.matching import Matches, References, match, squared_distances


def references(embeddings_MD: NDArray[Any], persons_M: list[int] | NDArray[Any], people: int) -> References:
    return References(
        embeddings_MD=np.asarray(embeddings_MD, dtype=np.float32),
        persons_M=np.asarray(persons_M, dtype=np.int64),
        names=tuple(f"person {number}" for number in range(people)),
        model_id="test",
    )


def brute_force(probe_D: NDArray[np.float32], known: References) -> list[tuple[float, int]]:
    """Distance to each person who has a reference, nearest first."""
    nearest: dict[int, float] = {}
    for reference_D, person in zip(known.embeddings_MD, known.persons_M, strict=True):
        distance = float(((probe_D.astype(np.float64) - reference_D.astype(np.float64)) ** 2).sum())
        nearest[int(person)] = min(distance, nearest.get(int(person), np.inf))
    return sorted((distance, person) for person, distance in nearest.items())


def units(random: np.random.Generator, count: int, dimensions: int) -> NDArray[np.float32]:
    values = random.normal(size=(count, dimensions))
    return (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)).astype(np.float32)


@given(st.integers(0, 9999), st.integers(0, 6), st.integers(0, 12), st.integers(1, 5), st.integers(1, 32))
def test_is_what_a_loop_over_all_pairs_finds(seed: int, count: int, size: int, people: int, dimensions: int) -> None:
    random = np.random.default_rng(seed)
    known = references(units(random, size, dimensions), random.integers(0, people, size), people)
    probes_ND = units(random, count, dimensions)
    found = match(probes_ND, known)
    assert {len(part) for part in fields(found)} == {count}
    for row, probe_D in enumerate(probes_ND):
        ranked = [*brute_force(probe_D, known), *[(np.inf, -1)] * 3]
        assert found.distances_N[row] == pytest.approx(ranked[0][0], abs=2e-6)
        assert found.second_distances_N[row] == pytest.approx(ranked[1][0], abs=2e-6)
        if ranked[1][0] - ranked[0][0] > 1e-5:  # else rounding may pick either
            assert found.persons_N[row] == ranked[0][1]
        if ranked[2][0] - ranked[1][0] > 1e-5 and ranked[1][0] - ranked[0][0] > 1e-5:
            assert found.second_persons_N[row] == ranked[1][1]


def fields(found: Matches) -> tuple[NDArray[Any], ...]:
    return found.persons_N, found.distances_N, found.second_persons_N, found.second_distances_N


@given(st.integers(0, 9999), st.floats(0.1, 100))
def test_no_distance_is_below_zero_and_the_same_is_next_to_zero(seed: int, length: float) -> None:
    embeddings = units(np.random.default_rng(seed), 5, 128) * np.float32(length)
    distances = squared_distances(embeddings, references(embeddings, [0] * 5, 1))
    assert (distances >= 0).all()
    assert np.diag(distances) == pytest.approx(0, abs=2e-6 * length**2)


def test_rounding_does_reach_below_zero_without_the_clamp() -> None:
    """The clamp is there for a reason: somewhere among many identical pairs the formula goes under."""
    embeddings = units(np.random.default_rng(0), 300, 128)
    norms = np.einsum("nd,nd->n", embeddings, embeddings)
    raw = np.diag(norms[:, None] + norms[None] - 2 * (embeddings @ embeddings.T))
    assert raw.min() < 0
    assert np.diag(squared_distances(embeddings, references(embeddings, [0] * 300, 1))).min() == 0


def test_the_second_is_another_person_not_another_photo() -> None:
    known = references([[1, 0], [0.99, 0.1], [0, 1]], [0, 0, 1], 2)
    found = match(np.array([[1, 0]], dtype=np.float32), known)
    assert (found.persons_N[0], found.second_persons_N[0]) == (0, 1)
    assert found.second_distances_N[0] == pytest.approx(2)


def test_persons_may_stand_in_any_order_and_have_gaps() -> None:
    known = references([[0, 1], [1, 0], [0, -1]], [4, 2, 4], 6)
    found = match(np.array([[0.9, 0.1], [0, -0.9]], dtype=np.float32), known)
    assert found.persons_N.tolist() == [2, 4]
    assert found.second_persons_N.tolist() == [4, 2]


def test_an_empty_gallery_knows_nobody() -> None:
    found = match(np.ones((2, 4), np.float32), references(np.zeros((0, 4)), [], 0))
    assert found.persons_N.tolist() == found.second_persons_N.tolist() == [-1, -1]
    assert np.isinf(found.distances_N).all()
    assert np.isinf(found.second_distances_N).all()


def test_one_person_alone_has_no_second() -> None:
    found = match(np.array([[1, 0]], np.float32), references([[0, 1], [1, 0]], [0, 0], 1))
    assert (found.persons_N[0], found.distances_N[0]) == (0, 0)
    assert (found.second_persons_N[0], found.second_distances_N[0]) == (-1, np.inf)


def test_a_match_leaves_probes_and_references_alone() -> None:
    probes_ND, known = np.ones((2, 3), np.float32), references(np.eye(3), [0, 1, 2], 3)
    match(probes_ND, known)
    assert (probes_ND == 1).all()
    assert (known.embeddings_MD == np.eye(3)).all()


def test_another_models_probes_are_refused() -> None:
    with pytest.raises(ValueError, match="probes have 512 dimensions, references 128"):
        match(np.zeros((1, 512), np.float32), references(np.zeros((3, 128)), [0, 0, 0], 1))


@pytest.mark.parametrize(
    ("embeddings", "persons", "message"),
    [
        (np.zeros((2, 4)), np.zeros(2, np.int64), r"float32 \(M, D\), but got float64"),
        (np.zeros(4, np.float32), np.zeros(4, np.int64), r"float32 \(M, D\)"),
        (np.zeros((2, 4), np.float32), np.zeros(3, np.int64), "2 references need as many persons"),
        (np.zeros((2, 4), np.float32), np.array([0, 1]), "persons must index 1 names"),
        (np.zeros((2, 4), np.float32), np.array([0, -1]), "persons must index 1 names"),
    ],
)
def test_references_are_checked_at_birth(embeddings: Any, persons: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        References(embeddings_MD=embeddings, persons_M=persons, names=("ana",), model_id="test")
