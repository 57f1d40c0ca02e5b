"""Whether an engine's answers may stand for the reference's.

Enters: the drift of each face, and for int8 the error rates of a labelled set. Leaves: a ``Judgement`` in words. fp32,
bf16 and fp16 are judged by the worst face; int8 moves every embedding a little, so it is judged by what that costs:
its TAR at FAR 1e-3 may fall by less than that figure's own confidence interval, among its own embeddings and against
the reference's, because a gallery may hold those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engines.verdicts import COSINE_FLOORS
from engines.verification.drift import Drift
from engines.verification.tar import TarPoint

INT8_RATE: Final = 1e-3
"""False match rate of int8's gate."""

WIDEST: Final = 0.05
"""Of the lower half of the interval: a set on which TAR is less certain than this proves nothing."""

LOWEST: Final = 0.5
"""TAR of the reference: where it tells nobody apart, neither can what int8 costs be told."""

ORDER: Final = ("fp32", "bf16", "fp16", "mixed-fp16", "int8")
"""Precisions, the strictest gate first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    passed: bool
    reason: str
    """One clause with figures."""
    labelled: bool
    """By error rates of a labelled set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """TAR at ``INT8_RATE`` over all comparisons of a set, before and after."""

    what: str
    """``among its own``, ``against the reference's``."""
    reference: TarPoint
    new: TarPoint

    @property
    def room(self) -> float:
        """How far TAR may fall: the lower half of the reference's 95 % interval."""
        return self.reference.tar - self.reference.interval[0]

    @property
    def fall(self) -> float:
        return self.reference.tar - self.new.tar


def gate_of(*precisions: str) -> str:
    """The precision whose gate holds for a file and a runtime: the coarsest of theirs."""
    return max(precisions, key=ORDER.index)


def judge(precision: str, drift: Drift, worst: str, falls: Sequence[Fall]) -> Judgement:
    """
    Args:
        precision: one of ``ORDER``.
        drift: from the reference.
        worst: name of the face with the worst cosine.
        falls: of int8; empty where the set has no labels or is too small for ``INT8_RATE``.
    """
    if precision != "int8":
        floor = COSINE_FLOORS[precision.removeprefix("mixed-")]
        passed = bool(drift.cosine_worst >= floor)
        reason = f"worst cosine {drift.cosine_worst:.6f} of {drift.faces} faces ({worst}), {floor} needed"
        return Judgement(passed=passed, reason=reason, labelled=bool(falls))
    if not falls:
        reason = (
            f"int8 is judged by TAR at FAR {INT8_RATE:g} on a labelled set of at least "
            f"{round(10 / INT8_RATE):,} comparisons of different people, and there is none"
        )
        return Judgement(passed=False, reason=reason, labelled=False)
    if (widest := max(fall.room for fall in falls)) > WIDEST:
        reason = f"the set is too small to judge int8: its TAR is uncertain by {widest:.1%}, {WIDEST:.0%} at most"
        return Judgement(passed=False, reason=reason, labelled=False)
    if (lowest := min(fall.reference.tar for fall in falls)) < LOWEST:
        reason = f"int8 cannot be judged: the reference's own TAR at FAR {INT8_RATE:g} is {lowest:.1%} on this set"
        return Judgement(passed=False, reason=reason, labelled=False)
    passed = all(fall.fall <= 0 or fall.fall < fall.room for fall in falls)
    return Judgement(passed=passed, reason="; ".join(_clause(fall) for fall in falls), labelled=True)


def _clause(fall: Fall) -> str:
    moved = "falls by" if fall.fall >= 0 else "rises by"
    return (
        f"TAR at FAR {INT8_RATE:g} {fall.what} {moved} {abs(fall.fall):.2%} "
        f"({fall.reference.tar:.2%} to {fall.new.tar:.2%}), less than {fall.room:.2%} needed"
    )
