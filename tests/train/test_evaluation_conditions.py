"""Heat maps by condition: a cost that was planted is found in its cell and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.train.evaluation_parts import faces_of, points
from train.errors import DataError
from train.evaluation.conditions import Conditions, conditions_of, is_kface
from train.evaluation.sets import VerificationSet
from train.kface.codes import REFERENCE, Condition, name_of

IDS = tuple(f"19{month:02d}{day:02d}31" for month in range(1, 13) for day in range(10, 15))
"""60 people: their reference photos make 1,770 comparisons, enough for 1e-3."""


def taken(
    conditions: list[Condition], bad: set[Condition], *, people: int = 60, resolution: str = "middle", seed: int = 0
) -> tuple[NDArray[np.float32], VerificationSet]:
    """One photo a person and condition; those of ``bad`` conditions lie anywhere."""
    own_PD = points(people, 1, spread=0.0, dimensions=64)
    random = np.random.default_rng(seed)
    rows, names = [], []
    for person in range(people):
        for condition in conditions:
            noise = random.normal(size=64) * (1.0 if condition in bad else 0.02)
            row = own_PD[person] + noise
            rows.append(row / np.linalg.norm(row))
            names.append(name_of(IDS[person], condition))
    made = faces_of(tuple(name[:8] for name in names), tuple(names))
    return np.array(rows, dtype=np.float32), replace(made, facts={"resolution": resolution})


def cell(found: Conditions, title: str, row: str, column: str) -> tuple[float, float, int]:
    one = next(each for each in found.maps if each.title == title)
    place = (
        next(k for k, label in enumerate(one.row_labels) if label.startswith(row)),
        next(k for k, label in enumerate(one.column_labels) if label.startswith(column)),
    )
    return float(one.tar_RC[place]), float(one.cosine_RC[place]), int(one.count_RC[place])


def test_what_a_condition_costs_stands_in_its_cell() -> None:
    conditions = [Condition(s, light, 1, c) for s in (1, 4) for light in (1, 7) for c in (1, 7, 13)]
    bad = {Condition(4, 1, 1, 7), Condition(1, 7, 1, 13)}
    embeddings_ND, wanted = taken(conditions, bad)
    assert is_kface(wanted)
    found = conditions_of([embeddings_ND], [wanted])
    assert (found.people, found.without_reference) == (60, 0)
    assert (found.non_mated, found.allowed) == (1770, 1)
    assert {one.title for one in found.maps} == {"light by yaw", "yaw by accessory", "light by accessory"}
    tar, cosine, count = cell(found, "light by yaw", "L7", "C13")
    assert tar < 0.5
    assert cosine < 0.5
    assert count == 60
    assert cell(found, "yaw by accessory", "C7", "S004")[0] < 0.5
    assert cell(found, "light by accessory", "L1", "S004")[0] < 0.5
    for title, row, column in (
        ("light by yaw", "L7", "C7"),
        ("light by yaw", "L1", "C13"),
        ("light by yaw", "L7", "C1 "),
    ):
        assert cell(found, title, row, column)[0] == 1
        assert cell(found, title, row, column)[1] > 0.9
    reference = next(one for one in found.maps if one.title == "light by yaw")
    assert np.isnan(reference.tar_RC[reference.reference])
    assert reference.column_labels == ("C13 -90°", "C7 0°", "C1 +90°")


def test_resolutions_are_sets() -> None:
    conditions = [REFERENCE, Condition(1, 1, 2, 7)]
    middle, low = taken(conditions, set()), taken(conditions, {REFERENCE}, resolution="low", seed=1)
    found = conditions_of([low[0], middle[0]], [low[1], middle[1]])  # in any order: the reference is the larger one
    assert {one.title for one in found.maps} == {"expression by resolution"}
    assert cell(found, "expression by resolution", "E01", "low")[0] < 0.5
    assert cell(found, "expression by resolution", "E02", "low")[0] == 1
    assert cell(found, "expression by resolution", "E02", "middle")[0] == 1


def test_a_factor_alone_has_a_map_of_one_row() -> None:
    embeddings_ND, wanted = taken([Condition(1, 1, 1, c) for c in (6, 7, 8)], set())
    (one,) = conditions_of([embeddings_ND], [wanted]).maps
    assert one.tar_RC.shape == (1, 3)


def test_few_people_set_the_threshold_with_all_their_photos() -> None:
    embeddings_ND, wanted = taken([Condition(1, 1, 1, c) for c in (6, 7, 8)], set(), people=20)
    found = conditions_of([embeddings_ND], [wanted])
    assert found.non_mated == 20 * 57
    assert "too few" in found.basis


def test_people_without_a_reference_photo_are_counted() -> None:
    embeddings_ND, wanted = taken([REFERENCE, Condition(1, 1, 1, 6)], set())
    kept = np.arange(1, 120)
    some = replace(wanted, rows_N=kept)
    found = conditions_of([embeddings_ND[kept]], [some])
    assert (found.people, found.without_reference) == (59, 1)
    assert cell(found, "light by yaw", "L1", "C6")[2] == 59


def test_json_has_no_nan() -> None:
    embeddings_ND, wanted = taken([REFERENCE, Condition(1, 1, 2, 6)], set())
    found = json.loads(json.dumps(conditions_of([embeddings_ND], [wanted]).to_json(), allow_nan=False))
    assert found["maps"][0]["tar"].count(None) == 0
    assert any(value is None for row in found["maps"][0]["tar"] for value in row)


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(DataError, match="two are needed; prepare S001"):
        conditions_of(*([each] for each in taken([Condition(1, 1, 1, 6), Condition(1, 1, 1, 8)], set())))
    with pytest.raises(DataError, match="was taken in one condition"):
        conditions_of(*([each] for each in taken([REFERENCE], set())))
    with pytest.raises(DataError, match="is not called as in K-FACE"):
        conditions_of([points(2, 1, spread=0.0)], [faces_of(("a", "b"))])
