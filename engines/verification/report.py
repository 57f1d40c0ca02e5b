"""What a verification found, for people and for programs.

Enters: figures of the reference and of each runtime. Leaves: a table, and JSON values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from engines.verification.drift import Drift
from engines.verification.gate import Judgement
from engines.verification.pairs import Comparisons
from engines.verification.protocol import Accuracy
from engines.verification.tar import RATES, Everybody, TarPoint

NAMED_FAILURES: Final = 3
"""Photos without a crop that are named in the text; JSON has them all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ErrorRates:
    """Of one set of embeddings."""

    listed: Comparisons | None
    """Of the list of pairs, if one was given."""
    accuracy: Accuracy | None
    accuracy_without_failed: Accuracy | None
    """As papers count that leave out pairs with a photo in which no face was found."""
    listed_points: tuple[TarPoint, ...]
    everybody: Everybody


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """One runtime in one precision."""

    title: str
    precision: str
    """Whose gate holds."""
    drift: Drift | None
    """None where it could not run."""
    rates: ErrorRates | None
    mixed: Everybody | None
    """Its embeddings against the reference's; for int8."""
    judgement: Judgement


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    model: str
    reference: str
    source: str
    """What the faces are."""
    failures: dict[str, str]
    """Photos without a crop."""
    threshold: float
    """The model's own, squared L2."""
    rates: ErrorRates | None
    """Of the reference; None without labels."""
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        return all(outcome.judgement.passed for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "reference": self.reference,
            "faces": self.source,
            "failures": self.failures,
            "threshold": self.threshold,
            "passed": self.passed,
            "reference_rates": _rates_json(self.rates),
            "outcomes": [_outcome_json(outcome) for outcome in self.outcomes],
        }


def report(found: Report) -> str:
    """The tables."""
    return "\n".join(_lines(found))


def _lines(found: Report) -> Iterator[str]:
    yield f"{found.model} against {found.reference}"
    yield found.source
    if found.failures:
        named = "; ".join(f"{name}: {why}" for name, why in list(found.failures.items())[:NAMED_FAILURES])
        yield f"{len(found.failures)} photos gave no crop ({named}{'; ...' if len(found.failures) > 3 else ''})"
    yield ""
    yield from columns([_DRIFT_HEAD, *map(_drift_cells, found.outcomes)])
    yield ""
    if found.rates is None:
        yield "no labels: give a folder a person, or a list of pairs, for error rates"
        return
    yield from _rates_head(found.rates)
    if not (found.rates.everybody.points or found.rates.listed_points):
        yield "too few for error rates"
        return
    rows = [_rates_cells("reference", found.rates, found.rates)]
    for outcome in found.outcomes:
        if outcome.rates is not None:
            rows.append(_rates_cells(outcome.title, outcome.rates, found.rates))
        if outcome.mixed is not None:
            rows.append(("  and the reference's", "", "", "", *_everybody_cells(outcome.mixed, found.rates.everybody)))
    yield from columns([_RATES_HEAD, *rows])
    yield ""
    yield "TAR with its 95 % interval: over pairs for a list, over people for all comparisons; at: the threshold and"
    yield "its shift from the reference's; FMR at the threshold of the model's manifest"


_DRIFT_HEAD: Final = ("runtime", "cosine mean", "worst", "L2 mean", "worst", "gate", "why")
_RATES_HEAD: Final = (
    "",
    "accuracy",
    "EER",
    "listed TAR@1e-3",
    "TAR@1e-3",
    "at",
    "TAR@1e-4",
    "at",
    "FMR at the model's",
)


def _drift_cells(outcome: Outcome) -> tuple[str, ...]:
    gate = "passed" if outcome.judgement.passed else "FAILED"
    drift = outcome.drift
    if drift is None:
        return (outcome.title, "", "", "", "", gate, outcome.judgement.reason)
    cosines = (f"{drift.cosine_mean:.6f}", f"{drift.cosine_worst:.6f}")
    lengths = (f"{drift.l2_mean:.5f}", f"{drift.l2_worst:.5f}")
    return (outcome.title, *cosines, *lengths, gate, outcome.judgement.reason)


def _rates_head(rates: ErrorRates) -> Iterator[str]:
    yield f"{rates.everybody.non_mated:,} comparisons of different people"
    if (listed := rates.listed) is None:
        return
    failed = int(listed.failed_T.sum())
    yield (
        f"{len(listed.distances_T):,} listed pairs, {failed} with a photo that gave no crop: counted as wrong and as "
        f"not matched{_alternative(rates) if failed else ''}"
    )
    if listed.absent:
        yield f"{listed.absent:,} pairs of the list are not in the set"
    for point in rates.listed_points:
        if not point.counted:
            yield (
                f"FAR {point.rate:g} on {point.non_mated:,} listed pairs allows {point.allowed} false matches: the "
                "figure hangs on them, and says less than that over all comparisons"
            )


def _alternative(rates: ErrorRates) -> str:
    other = rates.accuracy_without_failed
    return "" if other is None else f"; without them accuracy of the reference is {other.mean:.2%} +- {other.std:.2%}"


def _rates_cells(title: str, rates: ErrorRates, reference: ErrorRates) -> tuple[str, ...]:
    found = rates.accuracy
    listed = next((point for point in rates.listed_points if point.rate == RATES[0]), None)
    return (
        title,
        "" if found is None else f"{100 * found.mean:.2f} +- {100 * found.std:.2f}",
        "" if found is None else f"{100 * found.eer:.2f}",
        _tar(listed),
        *_everybody_cells(rates.everybody, reference.everybody),
    )


def _everybody_cells(everybody: Everybody, reference: Everybody) -> tuple[str, ...]:
    cells = []
    for rate in RATES:
        point, before = everybody.at(rate), reference.at(rate)
        shift = 0.0 if point is None or before is None else point.threshold - before.threshold
        cells += [
            _tar(point),
            "" if point is None else f"{point.threshold:.4f}" + (f" ({shift:+.4f})" if shift else ""),
        ]
    return (*cells, "" if everybody.fmr_at is None else f"{everybody.fmr_at:.1e}")


def _tar(point: TarPoint | None) -> str:
    if point is None:
        return "-"
    low, high = point.interval
    return f"{100 * point.tar:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Cells under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    drift = outcome.drift
    return {
        "runtime": outcome.title,
        "gate": outcome.precision,
        "passed": outcome.judgement.passed,
        "reason": outcome.judgement.reason,
        "labelled": outcome.judgement.labelled,
        "cosine_mean": None if drift is None else _number(drift.cosine_mean),
        "cosine_worst": None if drift is None else _number(drift.cosine_worst),
        "l2_mean": None if drift is None else _number(drift.l2_mean),
        "l2_worst": None if drift is None else _number(drift.l2_worst),
        "rates": _rates_json(outcome.rates),
        "against_reference": None if outcome.mixed is None else _everybody_json(outcome.mixed),
    }


def _rates_json(rates: ErrorRates | None) -> dict[str, Any] | None:
    if rates is None:
        return None
    return {
        "accuracy": _accuracy_json(rates.accuracy),
        "accuracy_without_failed": _accuracy_json(rates.accuracy_without_failed),
        "pairs": None if rates.listed is None else len(rates.listed.distances_T),
        "failed_pairs": None if rates.listed is None else int(rates.listed.failed_T.sum()),
        "absent_pairs": None if rates.listed is None else rates.listed.absent,
        "listed": [_point_json(point) for point in rates.listed_points],
        "all": _everybody_json(rates.everybody),
    }


def _accuracy_json(found: Accuracy | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)


def _everybody_json(everybody: Everybody) -> dict[str, Any]:
    return {
        "non_mated": everybody.non_mated,
        "fmr_at_threshold": everybody.fmr_at,
        "points": [_point_json(point) for point in everybody.points],
    }


def _point_json(point: TarPoint) -> dict[str, Any]:
    low, high = point.interval
    return {
        "rate": point.rate,
        "tar": point.tar,
        "low": low,
        "high": high,
        "threshold": _number(point.threshold),
        "false_matches_allowed": point.allowed,
        "non_mated": point.non_mated,
        "mated": point.mated,
    }


def _number(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if math.isfinite(value) else None
