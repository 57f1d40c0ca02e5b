"""A calibration as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from realtime.calibration.embeddings import NO_FACE
from realtime.calibration.run import Calibration
from realtime.calibration.trial import Trial

NAMED_FAILURES: Final = 10
"""Photos without an embedding that are listed by name; --output has them all."""


SHOWN_RATES: Final = (1e-4, 5e-5, 2e-5, 1e-5)
"""Among which a gallery's threshold is chosen; --output has the others."""


def report(calibration: Calibration, *, rate: float, margin: float) -> str:
    """The tables: thresholds, then galleries at ``rate`` (all margins) and at ``margin`` (all rates)."""
    return "\n".join([*_head(calibration), "", *_points(calibration), "", *_trials(calibration, rate, margin)])


def models_yaml_lines(calibration: Calibration, rate: float) -> str:
    """What configs/models.yaml should say of the embedded model."""
    point = calibration.point(rate)
    return (
        f"  threshold: {point.threshold:g}\n  threshold_fmr: {rate:.1e}\n"
        f"  threshold_source: {calibration.source_text(rate)!r}"
    )


def _head(calibration: Calibration) -> Iterator[str]:
    yield (
        f"{calibration.set_name}: {calibration.photos} faces of {calibration.people} people, "
        f"{calibration.pairs.mated:,} mated and {calibration.pairs.non_mated:,} cross-person pairs"
    )
    yield f"model {calibration.model.name} ({calibration.model.template}) on {calibration.runtime}"
    failures = calibration.failures
    if failures:
        no_face = sum(reason == NO_FACE for reason in failures.values())
        yield f"{len(failures)} photos gave no embedding, {no_face} of them for want of a face:"
        for name, reason in list(failures.items())[:NAMED_FAILURES]:
            yield f"  {name}: {reason}"
        if len(failures) > NAMED_FAILURES:
            yield f"  and {len(failures) - NAMED_FAILURES} more (--output FILE lists them all)"


def _points(calibration: Calibration) -> Iterator[str]:
    yield "false match rate   threshold   false matches   95 % interval         mated below   listed pairs below"
    for point in calibration.points:
        listed = "" if calibration.listed is None else f"{calibration.listed.share_below(point.threshold):.1%}"
        mated = "-" if point.mated_below is None else f"{point.mated_below:.1%}"
        yield (
            f"{point.wanted_fmr:<16g}   {point.threshold:<9.4f}   {point.false_matches:>13,}   "
            f"{point.fmr_low:.1e} .. {point.fmr_high:.1e}   {mated:>11}   {listed:>18}"
        )
    if not calibration.points:
        yield "the set is too small for any of the rates"
    elif calibration.listed is not None and (failed := int(np.isinf(calibration.listed.mated).sum())):
        yield f"listed mated pairs with a photo without embedding: {failed}, counted as not matched"


def _trials(calibration: Calibration, rate: float, margin: float) -> Iterator[str]:
    chosen = [
        trial
        for trial in calibration.trials
        if trial.wanted_fmr == rate or (trial.margin == margin and trial.wanted_fmr in SHOWN_RATES)
    ]
    if not chosen:
        yield "too few people with four photos or more, or too few pairs, for a trial gallery"
        return
    yield "galleries of people whom the threshold has not seen, 3 photos each; single probe photos:"
    yield "people   compared by   rate      margin   named right   wrong    strangers named"
    for trial in sorted(chosen, key=_order):
        yield (
            f"{trial.people:>6}   {trial.mode:<11}   {trial.wanted_fmr:<7g}   {trial.margin:<6.2f}   "
            f"{trial.right_share:>11.1%}   {trial.wrong / trial.probes:>6.2%}   {trial.stranger_share:>15.2%}"
        )


def _order(trial: Trial) -> tuple[int, str, float, float]:
    return trial.people, trial.mode, -trial.wanted_fmr, trial.margin
