"""A photo's faces get names only when near enough, clear enough, and once each."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from realtime.faces.analysis import View
from realtime.faces.quality import Quality
from realtime.people.identification import describe, identify, verify
from realtime.people.matching import References
from tests.realtime.people.helpers import MODEL, unit


def view(number: int) -> View:
    return View(
        box=(100.0 * number, 0.0, 100.0 * number + 50, 50.0),
        detector_score=1.0,
        points_P2=np.zeros((5, 2)),
        crop_SS3=np.zeros((112, 112, 3), np.uint8),
        quality=Quality(size_px=50.0, sharpness=100.0, yaw_deg=0.0, weight=0.5),
    )


def near(target: np.ndarray, distance: float) -> np.ndarray:
    away = unit(999)
    away = away - (away @ target) * target
    away /= np.linalg.norm(away)
    angle = np.arccos(1 - distance / 2)
    return (np.cos(angle) * target + np.sin(angle) * away).astype(np.float32)


REFERENCES = References(
    embeddings_MD=np.stack([unit(1), unit(2)]),
    persons_M=np.array([0, 1]),
    names=("Ana", "Ben"),
    model_id=MODEL.model_id,
)
APART = float(((unit(1) - unit(2)) ** 2).sum())


@pytest.mark.parametrize(("distance", "state"), [(0.0, "named"), (0.09, "named"), (0.11, "unknown")])
def test_the_threshold_decides(distance: float, state: str) -> None:
    (answer,) = identify([view(0)], near(unit(1), distance)[None], REFERENCES, threshold=0.1, margin=0.04)
    assert answer.state == state
    assert answer.name == ("Ana" if state == "named" else None)
    assert answer.distance == pytest.approx(distance, abs=1e-5)


def test_the_margin_decides() -> None:
    between = unit(1) + unit(2)
    between = (between / np.linalg.norm(between)).astype(np.float32)
    (answer,) = identify([view(0)], between[None], REFERENCES, threshold=4.0, margin=0.04)
    assert answer.state == "unknown"
    assert answer.second_distance == pytest.approx(answer.distance, abs=1e-5)


def test_nobody_is_in_a_photo_twice() -> None:
    probes = np.stack([near(unit(1), 0.05), near(unit(1), 0.01), unit(2)])
    answers = identify([view(n) for n in range(3)], probes, REFERENCES, threshold=0.1, margin=0.04)
    assert [answer.name for answer in answers] == [None, "Ana", "Ben"]
    assert [answer.state for answer in answers] == ["unknown", "named", "named"]
    assert describe(answers).startswith("unknown (0.050), Ana (0.010), Ben (0.000)")


def test_nobody_enrolled_and_nobody_there() -> None:
    nobody = References(
        embeddings_MD=np.zeros((0, 8), np.float32), persons_M=np.zeros(0, np.int64), names=(), model_id=""
    )
    (answer,) = identify([view(0)], unit(1)[None], nobody, threshold=0.1, margin=0.04)
    assert (answer.state, answer.distance, answer.second_distance) == ("unknown", None, None)
    assert json.loads(json.dumps(answer.to_json()))["name"] is None
    assert describe([answer]) == "unknown"
    assert identify([], np.zeros((0, 8), np.float32), REFERENCES, threshold=0.1, margin=0.04) == []
    assert describe([]) == "no face"


def test_one_person_enrolled_has_no_second() -> None:
    alone = References(embeddings_MD=unit(1)[None], persons_M=np.array([0]), names=("Ana",), model_id="")
    (answer,) = identify([view(0)], unit(1)[None], alone, threshold=0.1, margin=0.04)
    assert (answer.name, answer.second_distance) == ("Ana", None)


def test_verify() -> None:
    same = verify(unit(1), near(unit(1), 0.1), MODEL)
    assert (same.same, same.false_match_rate) == (True, 1e-5)
    assert same.sentence() == (
        "the same person: distance 0.100 is below the threshold 0.300 (10 in a million pairs of strangers are)"
    )
    other = verify(unit(1), unit(2), replace(MODEL, threshold_fmr=None))
    assert not other.same
    assert other.sentence().startswith(f"not the same person: distance {APART:.3f} is not below")
    assert verify(unit(1), unit(2), MODEL, 0.2).false_match_rate is None
    assert verify(unit(1), unit(1), MODEL).distance == 0.0
