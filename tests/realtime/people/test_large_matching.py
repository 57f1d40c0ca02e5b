"""A large gallery on a device gives the people that a small one on the processor does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.people import large_matching
from realtime.people.large_matching import LargeGallery, on_gpu
from realtime.people.matching import Matches, References, match

CPU = torch.device("cpu")


def gallery(count: int, people: int, *, length: float = 0.0, seed: int = 0) -> References:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, 24)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows *= (1 + length * random.random((count, 1))).astype(np.float32)
    persons = random.integers(0, people, count)
    return References(
        embeddings_MD=rows, persons_M=persons, names=tuple(f"p{n}" for n in range(people)), model_id="model"
    )


def on_device(references: References) -> References:
    """The same, compared as on a GPU."""
    other = References(
        embeddings_MD=references.embeddings_MD,
        persons_M=references.persons_M,
        names=references.names,
        model_id=references.model_id,
    )
    other.__dict__["large"] = LargeGallery(references.embeddings_MD, references.persons_M, CPU)
    return other


def same(one: Matches, other: Matches) -> bool:
    return (
        np.array_equal(one.persons_N, other.persons_N)
        and np.array_equal(one.second_persons_N, other.second_persons_N)
        and np.allclose(one.distances_N, other.distances_N, atol=2e-6)
        and np.allclose(one.second_distances_N, other.second_distances_N, atol=2e-6)
    )


@given(
    count=st.integers(1, 300),
    people=st.integers(1, 40),
    length=st.sampled_from([0.0, 0.7]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_it_is_the_match_of_the_processor(count: int, people: int, length: float, seed: int) -> None:
    references = gallery(count, people, length=length, seed=seed)
    probes = gallery(5, 1, length=length, seed=seed + 1).embeddings_MD
    assert same(match(probes, references), match(probes, on_device(references)))


def test_a_person_of_many_photos_does_not_hide_the_second() -> None:
    references = gallery(400, 2)
    crowd = references.embeddings_MD.copy()
    crowd[:300] = crowd[0] + 1e-3 * crowd[:300]
    persons = np.repeat([0, 1], [300, 100])
    references = References(embeddings_MD=crowd, persons_M=persons, names=("a", "b"), model_id="model")
    found = match(crowd[:1], on_device(references))
    assert found.persons_N.tolist() == [0]
    assert found.second_persons_N.tolist() == [1]
    assert same(found, match(crowd[:1], references))


def test_a_small_gallery_and_a_machine_without_a_gpu_stay_with_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    references = gallery(50, 5)
    assert references.large is None
    monkeypatch.setattr(large_matching, "LARGE", 10)
    monkeypatch.setattr(large_matching, "has_nvidia_gpu", lambda: False)
    assert on_gpu(references.embeddings_MD, references.persons_M) is None


def test_a_gpu_that_fails_costs_a_line_and_no_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    references = gallery(50, 5)
    other = on_device(references)

    def lost(self: LargeGallery, probes_ND: NDArray[Any]) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure\nmore")

    monkeypatch.setattr(LargeGallery, "nearest_two", lost)
    assert same(match(references.embeddings_MD[:3], references), match(references.embeddings_MD[:3], other))
    assert "CUDA error: unspecified launch failure" in caplog.text
    assert "\nmore" not in caplog.text
