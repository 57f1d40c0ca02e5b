"""What a run is worth on faces that it does not learn from: now and then, and at its gate.

Enters: the sets that the settings name, opened before the first step, and a network. Leaves: figures a set, the best so
far, and whether the run has forgotten too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from train.errors import DataError, GateFailed
from train.evaluation.sets import VerificationSet, from_split, open_verification
from train.evaluation.verification import ONE_KIND, Verification, verify_set
from train.fit.plan import VAL
from train.prepared import Embed, PreparedSet
from train.settings import GateSettings


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation of a run so far, by its first set."""

    value: float = -1.0
    step: int = 0
    """Steps that were done; 0 where nothing has been evaluated."""


class Watch:
    """The sets of a run, by the names that its settings give them."""

    def __init__(self, prepared: PreparedSet, sets: list[str], gate: GateSettings) -> None:
        """Open all sets, so that a wrong one ends the run before it begins.

        Raises:
            DataError: a set that is not there, whose crops are of another kind, or with one kind of comparison.
            EngineError: photos that cannot be aligned.
        """
        wanted = dict.fromkeys([*sets, *([gate.set] if gate.set else [])])
        self._opened = {spec: _opened(spec, prepared) for spec in wanted}
        self._sets = list(dict.fromkeys(sets))
        self._gate = gate

    def look(self, embed: Embed) -> dict[str, dict[str, Any]]:
        """Figures of every set that is evaluated, in the order of the settings."""
        return {spec: figures(verify_set(embed, self._opened[spec])) for spec in self._sets}

    def at_gate(self, embed: Embed) -> dict[str, Any] | None:
        """Figures of the gate's set; None where there is no gate."""
        return None if self._gate.set is None else figures(verify_set(embed, self._opened[self._gate.set]))

    def check_gate(self, before: float, after: float) -> None:
        """
        Raises:
            GateFailed: the figure has fallen by more than the settings allow.
        """
        if before - after > self._gate.max_drop:
            raise GateFailed(
                f"the run has forgotten: {self._gate.set} was at {100 * before:.2f} % before and is at "
                f"{100 * after:.2f} % after, gate.max_drop allows {100 * self._gate.max_drop:g} points; its files are "
                "kept: lower optimiser.lr or schedule.epochs, or mix in images of what it should remember"
            )


def figures(found: Verification) -> dict[str, Any]:
    """What the log says of one evaluation; ``value`` is the figure to watch, higher is better."""
    name, figure = found.figure
    points = found.points or (found.over_all.points if found.over_all is not None else ())
    return {
        "figure": name,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "eer": found.eer,
        "tar": {f"{point.rate:g}": point.tar for point in points},
    }


def better(best: Best, looked: dict[str, dict[str, Any]], step: int) -> Best:
    """The best with an evaluation after ``step`` steps taken in; its first set counts.

    Of equals the later one: where a small set is soon at 100 %, its first such step has hardly learned.
    """
    if not looked:
        return best
    value = float(next(iter(looked.values()))["value"])
    return Best(value, step) if value >= best.value else best


def _opened(spec: str, prepared: PreparedSet) -> VerificationSet:
    manifest = prepared.manifest
    opened = (
        from_split(prepared) if spec == VAL else open_verification(spec, template=manifest.template, size=manifest.size)
    )
    compared = opened.drawn if opened.pairs is None else opened.pairs
    if len({one == other for one, other in compared.people}) < 2:
        raise DataError(f"{opened.name}: {ONE_KIND}")
    return opened
