"""Verification 1:1 of one model on one set.

Enters: an ``Embed`` and a ``VerificationSet``. Leaves: a ``Verification``: accuracy over ten folds, TAR at FAR 1e-1
down to what the comparisons allow, the equal error rate, all with 95 % intervals over people, and curves to draw. An
image without a crop stays in its list as a comparison that never matches: leaving out what is hard would flatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.verification.pairs import Comparisons, PairList, compare
from engines.verification.protocol import Accuracy, accuracy
from engines.verification.tails import MIN_MATCHES
from engines.verification.tar import Everybody, TarPoint, tar_listed
from train.errors import DataError
from train.evaluation.curves import Curves, curves_of_list, curves_of_pairs
from train.evaluation.embedding import embed_rows
from train.evaluation.everybody import over_all
from train.evaluation.progress import Progress
from train.evaluation.protocols import (
    Figure,
    PapersAccuracy,
    accuracy_figure,
    best_accuracy,
    eer_figure,
    papers_accuracy,
)
from train.evaluation.sets import VerificationSet
from train.prepared import Embed

ONE_KIND: Final = (
    "comparisons of one person and of two people are both needed to measure anything, and there is one kind only; give "
    "a larger set"
)

# N rows; D embedding; T comparisons
Float32 = NDArray[np.float32]

RATES: Final = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""False match rates of a report."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verification:
    """What a set says of a model."""

    name: str
    source: str
    """In words: what was read, and how."""
    faces: int
    people: int | None
    failures: dict[str, str]
    """Image -> why it gave no crop."""
    flip: bool
    accuracy: Accuracy | None
    """Over ten folds; of a drawn list where the set has none."""
    accuracy_interval: Figure | None
    best: float | None
    """Accuracy at the threshold that is best on the same pairs: MixFace's metric, too kind."""
    papers: PapersAccuracy | None
    """Accuracy as insightface counts it."""
    pairs: int
    """Comparisons that accuracy is over."""
    failed_pairs: int
    absent_pairs: int
    """Pairs of the list whose images the set does not have at all."""
    folds: str
    """``of the list``, ``dealt``, or ``drawn``: where accuracy's folds come from."""
    eer: float
    eer_interval: Figure
    points: tuple[TarPoint, ...]
    """Over the list; empty where there is none."""
    over_all: Everybody | None
    """Over everybody with everybody; None where it is not known who is who."""
    skipped: tuple[str, ...]
    """Rates that are not measured, each with why, in words."""
    curves: Curves
    intervals: str
    """What is drawn again for the intervals, in words."""

    @property
    def figure(self) -> tuple[str, Figure]:
        """One number to watch, higher is better: accuracy where there is one, else 1 - EER."""
        if self.accuracy is not None and self.accuracy_interval is not None:
            return "accuracy", replace(self.accuracy_interval, value=self.accuracy.mean)
        eer = self.eer_interval
        return "1 - EER", Figure(value=1 - self.eer, low=1 - eer.high, high=1 - eer.low)

    def to_json(self) -> dict[str, Any]:
        accuracy_json = None
        if self.accuracy is not None:
            accuracy_json = {**asdict(self.accuracy), **_low_high(self.accuracy_interval)}
        return {
            "set": self.name,
            "source": self.source,
            "faces": self.faces,
            "people": self.people,
            "failures": self.failures,
            "flip": self.flip,
            "accuracy": accuracy_json,
            "accuracy_at_best_threshold": self.best,
            "accuracy_as_insightface": None if self.papers is None else asdict(self.papers),
            "pairs": self.pairs,
            "failed_pairs": self.failed_pairs,
            "absent_pairs": self.absent_pairs,
            "folds": self.folds,
            "eer": {"value": self.eer, **_low_high(self.eer_interval)},
            "listed": [point_json(point) for point in self.points],
            "all": None if self.over_all is None else _everybody_json(self.over_all),
            "skipped": list(self.skipped),
            "intervals_over": self.intervals,
        }


def verify_set(
    embed: Embed,
    wanted: VerificationSet,
    *,
    flip: bool = False,
    rates: Sequence[float] = RATES,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Embed a set and measure.

    Args:
        embed: see ``train.evaluation.sets.Embed``.
        wanted: the set.
        flip: average each face with its mirror image.
        rates: false match rates; those that the comparisons are too few for are named in ``skipped``.
        threshold: of the model, squared L2: the false match rate at it is counted.
        progress: told of faces embedded.

    Raises:
        DataError: a broken model, or a set without a comparison of each kind.
    """
    embeddings_ND = embed_rows(embed, wanted, flip=flip, progress=progress)
    return verify_embeddings(embeddings_ND, wanted, flip=flip, rates=rates, threshold=threshold)


def verify_embeddings(
    embeddings_ND: Float32,
    wanted: VerificationSet,
    *,
    flip: bool = False,
    rates: Sequence[float] = RATES,
    threshold: float | None = None,
) -> Verification:
    """As ``verify_set``, of embeddings (N, D) float32 that are there already; ``flip`` says how they were made."""
    listed = None if wanted.pairs is None else _compared(embeddings_ND, wanted, wanted.pairs)
    if listed is None and wanted.people is None:
        raise DataError(f"{wanted.name}: says neither who is who nor what to compare")
    everybody = None
    if wanted.people is not None:
        everybody = over_all(embeddings_ND, wanted.people, rates, listed=listed, threshold=threshold, where=wanted.name)
    judged = _drawn(embeddings_ND, wanted) if listed is None else listed
    _check_kinds(judged, wanted.name)
    found = accuracy(judged)
    eer = (None if everybody is None else everybody.eer) or eer_figure(judged)
    return Verification(
        name=wanted.name,
        source=wanted.faces.source,
        faces=len(wanted),
        people=None if wanted.people is None else len(set(wanted.people)),
        failures=dict(wanted.faces.failures),
        flip=flip,
        accuracy=found,
        accuracy_interval=None if found is None else accuracy_figure(judged),
        best=None if listed is None else best_accuracy(listed),
        papers=None if listed is None else papers_accuracy(listed),
        pairs=len(judged.distances_T),
        failed_pairs=int(judged.failed_T.sum()),
        absent_pairs=judged.absent,
        folds="drawn" if listed is None else "dealt" if wanted.dealt else "of the list",
        eer=eer.value,
        eer_interval=eer,
        points=() if listed is None else _listed_points(listed, rates),
        over_all=None if everybody is None else everybody.everybody,
        skipped=tuple(_skipped(rates, listed, None if everybody is None else everybody.everybody)),
        curves=curves_of_list(judged) if everybody is None else curves_of_pairs(everybody.histogram),
        intervals="people" if wanted.people is not None else "people, as far as the pairs tell them apart",
    )


def point_json(point: TarPoint) -> dict[str, Any]:
    low, high = point.interval
    return {
        "rate": point.rate,
        "tar": point.tar,
        "low": low,
        "high": high,
        "threshold": point.threshold if math.isfinite(point.threshold) else None,
        "false_matches_allowed": point.allowed,
        "non_mated": point.non_mated,
        "mated": point.mated,
    }


def _compared(embeddings_ND: Float32, wanted: VerificationSet, pairs: PairList) -> Comparisons:
    """``engines`` takes what follows a last dot for a suffix, so every key gets one."""
    names = [f"{key}.key" for key in wanted.keys]
    return compare(pairs, names, [f"{key}.key" for key in wanted.failed_keys], embeddings_ND)


def _drawn(embeddings_ND: Float32, wanted: VerificationSet) -> Comparisons:
    """Comparisons of a list that is drawn, the same for every model: accuracy needs as many mated as non-mated ones."""
    if not wanted.drawn.photos:
        raise DataError(f"{wanted.name}: {ONE_KIND}")
    return compare(wanted.drawn, [f"{row}.key" for row in range(len(wanted))], (), embeddings_ND)


def _check_kinds(judged: Comparisons, where: str) -> None:
    usable = judged.without_failed()
    if len(np.unique(usable.mated_T)) < 2:
        raise DataError(f"{where}: {ONE_KIND}")


def _listed_points(listed: Comparisons, rates: Sequence[float]) -> tuple[TarPoint, ...]:
    """At rates that allow one false match at least."""
    non_mated = int((~listed.mated_T).sum())
    return tar_listed(listed, [rate for rate in rates if rate * non_mated >= 1], by_people=True)


def _skipped(rates: Sequence[float], listed: Comparisons | None, everybody: Everybody | None) -> list[str]:
    words = []
    for non_mated, least, what in (
        (0 if listed is None else int((~listed.mated_T).sum()), 1, "listed non-mated pairs"),
        (0 if everybody is None else everybody.non_mated, MIN_MATCHES, "comparisons of different people"),
    ):
        missed = [rate for rate in rates if non_mated and rate * non_mated < least]
        if missed:
            words.append(
                f"FAR {', '.join(f'{rate:g}' for rate in missed)}: {non_mated:,} {what} are too few "
                f"({least / max(missed):,.0f} are needed for {max(missed):g})"
            )
    return words


def _everybody_json(everybody: Everybody) -> dict[str, Any]:
    return {
        "non_mated": everybody.non_mated,
        "fmr_at_threshold": everybody.fmr_at,
        "points": [point_json(point) for point in everybody.points],
    }


def _low_high(figure: Figure | None) -> dict[str, float]:
    return {} if figure is None else {"low": figure.low, "high": figure.high}
