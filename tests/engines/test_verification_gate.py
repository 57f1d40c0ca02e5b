"""Drift and the gates: what passes, what does not, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

from engines.verification.drift import Drift, drift
from engines.verification.gate import WIDEST, Fall, gate_of, judge
from engines.verification.tar import TarPoint


def point(tar: float, half: float = 0.01) -> TarPoint:
    return TarPoint(
        rate=1e-3,
        threshold=0.14,
        tar=tar,
        allowed=1000,
        non_mated=1_000_000,
        mated=3000,
        draws_B=np.linspace(tar - half / 0.95, tar + half / 0.95, 1001),
    )


def drifted(worst: float) -> Drift:
    return Drift(faces=10, cosine_mean=1.0, cosine_worst=worst, worst=3, l2_mean=0.0, l2_worst=0.1)


def test_drift_of_known_angles() -> None:
    reference = np.array([[1, 0], [0, 2], [1, 0]], dtype=np.float32)
    found = drift(np.array([[1, 0], [0, 4], [1, 1]], dtype=np.float32), reference)
    assert (found.faces, found.worst) == (3, 2)
    assert found.cosine_worst == pytest.approx(2**-0.5)
    assert found.cosine_mean == pytest.approx((2 + 2**-0.5) / 3)
    assert found.l2_worst == pytest.approx(2)
    assert found.l2_mean == pytest.approx(1)


@pytest.mark.parametrize("broken", [[np.nan, 0], [0, 0], [np.inf, 0]])
def test_an_embedding_that_is_none_passes_no_gate(broken: list[float]) -> None:
    reference = np.ones((3, 2), dtype=np.float32)
    embeddings = reference.copy()
    embeddings[1] = broken
    found = drift(embeddings, reference)
    assert found.worst == 1
    for precision in ("fp32", "bf16", "fp16"):
        assert not judge(precision, found, "b.jpg", []).passed


def test_drift_needs_the_same_faces() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        drift(np.zeros((2, 3), dtype=np.float32), np.zeros((3, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="cannot be compared"):
        drift(np.zeros((0, 3), dtype=np.float32), np.zeros((0, 3), dtype=np.float32))


@pytest.mark.parametrize(
    ("precision", "worst", "passed"),
    [
        ("fp32", 0.9999, True),
        ("fp32", 0.99989, False),
        ("bf16", 0.999, True),
        ("bf16", 0.9989, False),
        ("fp16", 0.9991, True),
        ("mixed-fp16", 0.9991, True),
        ("mixed-fp16", 0.99, False),
    ],
)
def test_the_worst_face_decides_in_floating_point(precision: str, worst: float, passed: bool) -> None:
    judgement = judge(precision, drifted(worst), "ana/1.jpg", [])
    assert judgement.passed == passed
    assert "ana/1.jpg" in judgement.reason


def test_int8_that_loses_nothing_passes_where_the_reference_is_certain() -> None:
    certain = TarPoint(
        rate=1e-3, threshold=0.9, tar=1.0, allowed=1000, non_mated=1_000_000, mated=300, draws_B=np.ones(100)
    )
    falls = [Fall(what=what, reference=certain, new=certain) for what in ("among its own", "against the reference's")]
    assert judge("int8", drifted(0.99), "x", falls).passed


@pytest.mark.parametrize(("own", "mixed", "passed"), [(0.945, 0.945, True), (0.93, 0.945, False), (0.945, 0.93, False)])
def test_int8_may_lose_less_than_its_interval_on_both_counts(own: float, mixed: float, passed: bool) -> None:
    falls = [
        Fall(what="among its own", reference=point(0.948), new=point(own)),
        Fall(what="against the reference's", reference=point(0.948), new=point(mixed)),
    ]
    judgement = judge("int8", drifted(0.9), "x", falls)
    assert judgement.passed == passed
    assert judgement.labelled
    assert "against the reference's falls by" in judgement.reason


def test_int8_that_gains_says_so() -> None:
    judgement = judge("int8", drifted(0.9), "x", [Fall(what="among its own", reference=point(0.9), new=point(0.91))])
    assert judgement.passed
    assert "rises by 1.00%" in judgement.reason


def test_int8_does_not_pass_without_labels_however_small_its_drift() -> None:
    judgement = judge("int8", drifted(1.0), "x", [])
    assert not judgement.passed
    assert not judgement.labelled
    assert "10,000 comparisons" in judgement.reason


def test_a_set_that_is_too_small_to_tell_lets_nothing_pass() -> None:
    wide = point(0.9, half=WIDEST * 1.5)
    judgement = judge("int8", drifted(1.0), "x", [Fall(what="among its own", reference=wide, new=wide)])
    assert not judgement.passed
    assert "too small to judge" in judgement.reason


def test_a_set_on_which_the_reference_tells_nobody_apart_lets_nothing_pass() -> None:
    low = point(0.02, half=0.005)
    judgement = judge("int8", drifted(1.0), "x", [Fall(what="among its own", reference=low, new=low)])
    assert not judgement.passed
    assert not judgement.labelled
    assert "cannot be judged" in judgement.reason


def test_the_coarser_of_file_and_runtime_sets_the_gate() -> None:
    assert gate_of("fp32", "fp32") == "fp32"
    assert gate_of("fp32", "mixed-fp16") == "mixed-fp16"
    assert gate_of("bf16", "fp32") == "bf16"
    assert gate_of("fp32", "int8") == "int8"
