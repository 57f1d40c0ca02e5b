"""Everything that was found of a model, for people and for programs.

Enters: verifications, identifications and conditions of one model. Leaves: lines of text, JSON values, and a folder
with ``report.json`` and ``report.html``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engines.export import write_wanted
from engines.verification.report import columns
from engines.verification.tar import TarPoint
from train.errors import DataError
from train.evaluation.conditions import Conditions, conditions_of, is_kface
from train.evaluation.embedding import embed_rows
from train.evaluation.identification import Identification, identify
from train.evaluation.protocols import Figure
from train.evaluation.sets import VerificationSet
from train.evaluation.verification import Verification, verify_embeddings
from train.prepared import Embed

JSON_NAME: Final = "report.json"
HTML_NAME: Final = "report.html"
SCHEMA: Final = 1

Told = Callable[[str, int, int], object]
"""Told (which set, faces done, faces in all)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SetReport:
    """Of one set."""

    verification: Verification
    identification: Identification | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Of one model."""

    model: dict[str, Any]
    """As JSON: name, file, network, template, runtime, threshold."""
    sets: tuple[SetReport, ...]
    conditions: Conditions | None
    notes: tuple[str, ...]
    """What was asked for and could not be measured, with why."""

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "sets": [
                {
                    **one.verification.to_json(),
                    "identification": None if one.identification is None else one.identification.to_json(),
                }
                for one in self.sets
            ],
            "conditions": None if self.conditions is None else self.conditions.to_json(),
            "notes": list(self.notes),
        }


def evaluate(
    embed: Embed,
    sets: Sequence[VerificationSet],
    *,
    model: dict[str, Any],
    threshold: float | None = None,
    flip: bool = False,
    identification: bool = False,
    conditions: bool = False,
    references: int = 1,
    progress: Told | None = None,
) -> Report:
    """Measure a model on some sets.

    Args:
        embed: see ``train.evaluation.sets.Embed``.
        sets: opened for the model.
        model: what the report says of it.
        threshold: of the model, squared L2.
        flip: average each face with its mirror image.
        identification: search for people in galleries, too.
        conditions: draw heat maps over the sets of K-FACE, too.
        references: photos a subject is enrolled with.
        progress: see ``Told``.

    Raises:
        DataError: a set that cannot be measured on, or a model that gives no numbers.
    """
    found: list[SetReport] = []
    taken: list[tuple[Any, VerificationSet]] = []
    notes: list[str] = []
    for one in _named_apart(sets):
        told = None if progress is None else _named(progress, one.name)
        embeddings_ND = embed_rows(embed, one, flip=flip, progress=told)
        searched = None
        if identification:
            try:
                searched = _identified(embeddings_ND, one, references)
            except DataError as err:
                notes.append(f"no identification: {err}")
        verification = verify_embeddings(embeddings_ND, one, flip=flip, threshold=threshold)
        found.append(SetReport(verification=verification, identification=searched))
        if conditions and is_kface(one):
            taken.append((embeddings_ND, one))
    mapped = None
    if conditions:
        try:
            mapped = _mapped(taken)
        except DataError as err:
            notes.append(f"no heat maps: {err}")
    return Report(model=model, sets=tuple(found), conditions=mapped, notes=tuple(notes))


def write_report(report: Report, folder: Path) -> list[Path]:
    """``report.json`` and ``report.html``; returns where they are.

    Raises:
        DataError: the folder cannot be made.
        ModelFileError: a file cannot be written.
    """
    from train.evaluation.html import page

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"{folder}: cannot be made ({err.strerror}); choose another place for the report") from err
    written = {
        folder / JSON_NAME: json.dumps(report.to_json(), indent=1, ensure_ascii=False).encode(),
        folder / HTML_NAME: page(report).encode(),
    }
    for path, content in written.items():
        write_wanted(path, content)
    return list(written)


def lines(report: Report) -> Iterator[str]:
    """For a terminal."""
    model = report.model
    yield f"{model['name']} ({model['file']}), {model['runtime']}"
    for one in report.sets:
        yield ""
        yield from _set_lines(one)
    if report.conditions is not None:
        yield ""
        yield from _condition_lines(report.conditions)
    yield from report.notes


def facts_of(found: Verification) -> Iterator[str]:
    """What a reader has to know besides the figures."""
    yield found.source
    if found.failures:
        named = "; ".join(f"{name}: {why}" for name, why in list(found.failures.items())[:3])
        yield f"{len(found.failures):,} images gave no crop ({named}{'; ...' if len(found.failures) > 3 else ''})"
    if found.failed_pairs:
        yield f"{found.failed_pairs:,} pairs with such an image: counted as wrong, and as not matched"
    if found.absent_pairs:
        yield f"{found.absent_pairs:,} pairs of the list are not in the set"
    if found.folds != "of the list":
        dealt = "the list has no folds, its pairs were dealt to ten"
        drawn = "the set has no list of pairs, one was drawn from it, the same for every model"
        yield f"accuracy: {dealt if found.folds == 'dealt' else drawn}"
    if found.flip:
        yield "each face was averaged with its mirror image"
    yield from found.skipped
    if found.over_all is not None and found.over_all.fmr_at is not None:
        yield f"FMR at the model's own threshold: {found.over_all.fmr_at:.1e} over all comparisons"
    yield f"intervals: 95 %, drawn again over {found.intervals}"
    if found.people is not None and found.eer == found.eer_interval.low == found.eer_interval.high == 0:
        yield (
            f"no error was seen in this set, so intervals have no width; {found.people:,} people can rule out only "
            f"error rates above about {min(1.0, 3 / found.people):.2g}"
        )


def figures_of(found: Verification) -> Iterator[tuple[str, str]]:
    """What is measured, and its value with its interval."""
    if found.accuracy is not None and found.accuracy_interval is not None:
        yield (
            f"accuracy, {found.pairs:,} pairs",
            f"{100 * found.accuracy.mean:.2f} +- {100 * found.accuracy.std:.2f} {_span(found.accuracy_interval)}",
        )
    if found.papers is not None:
        yield "as insightface counts it", f"{100 * found.papers.mean:.2f} +- {100 * found.papers.std:.2f}"
    if found.best is not None:
        yield "at the best threshold", f"{100 * found.best:.2f}"
    yield "EER", f"{100 * found.eer:.2f} {_span(found.eer_interval)}"


def points_of(found: Verification) -> list[tuple[str, str, str, str]]:
    """Rate, TAR over the list, TAR over all, threshold; a row a rate."""
    listed = {point.rate: point for point in found.points}
    everybody = {} if found.over_all is None else {point.rate: point for point in found.over_all.points}
    rows = []
    for rate in sorted({*listed, *everybody}, reverse=True):
        shown = everybody.get(rate) or listed[rate]
        rows.append((f"{rate:g}", _tar(listed.get(rate)), _tar(everybody.get(rate)), f"{shown.threshold:.4f}"))
    return rows


def searches_of(found: Identification) -> Iterator[tuple[str, str]]:
    """As ``figures_of``."""
    for rank, figure in found.ranks.items():
        yield f"rank-{rank}", f"{100 * figure.value:.2f} {_span(figure)}"
    if found.fnir is None:
        yield f"FNIR at FPIR {found.fpir:g}", f"{found.stranger_probes:,} searches of strangers are too few"
    else:
        few = "" if found.counted else " (hangs on a few searches)"
        yield f"FNIR at FPIR {found.fpir:g}", f"{100 * found.fnir.value:.2f} {_span(found.fnir)}{few}"


def gallery_words(found: Identification) -> str:
    return (
        f"{found.galleries} galleries of {found.enrolled:,} subjects with {found.references} "
        f"reference{'s' * (found.references > 1)} each, {found.mated_probes:,} searches of them and "
        f"{found.stranger_probes:,} of {found.strangers:,} strangers; FNIR: searches whose subject is not the first, "
        "or not below the threshold"
    )


def conditions_words(found: Conditions) -> str:
    return (
        f"{found.people} people; the reference photo (S001, L1, E01, C7) against each other condition; what a map does "
        f"not show is as in the reference; threshold {found.threshold:.4f} for FAR {found.far:g}: {found.allowed} of "
        f"{found.non_mated:,} comparisons ({found.basis})"
    )


def _set_lines(one: SetReport) -> Iterator[str]:
    found = one.verification
    people = "" if found.people is None else f" of {found.people:,} people"
    yield f"{found.name}: {found.faces:,} faces{people}"
    yield from (f"  {fact}" for fact in facts_of(found))
    yield from (f"  {line}" for line in columns(list(figures_of(found))))
    if points := points_of(found):
        rows = [("FAR", "TAR listed", "TAR of all", "threshold, squared distance"), *points]
        shown = [column for column in range(4) if any(row[column] != "-" for row in points)]
        yield from (f"  {line}" for line in columns([tuple(row[column] for column in shown) for row in rows]))
    if one.identification is not None:
        yield f"  {gallery_words(one.identification)}"
        yield from (f"  {line}" for line in columns(list(searches_of(one.identification))))


def _condition_lines(found: Conditions) -> Iterator[str]:
    yield conditions_words(found)
    for one in found.maps:
        yield f"TAR in %, {one.title}"
        rows = [
            (label, *("-" if value != value else f"{100 * value:.0f}" for value in values))
            for label, values in zip(one.row_labels, one.tar_RC.tolist(), strict=True)
        ]
        head = ("", *(label.split()[0] for label in one.column_labels))
        yield from (f"  {line}" for line in columns([head, *rows]))


def _named_apart(sets: Sequence[VerificationSet]) -> Iterator[VerificationSet]:
    """Two sets of one name get numbers, so that their curves can be told apart."""
    seen: dict[str, int] = {}
    for one in sets:
        seen[one.name] = seen.get(one.name, 0) + 1
        yield one if seen[one.name] == 1 else replace(one, name=f"{one.name} ({seen[one.name]})")


def _identified(embeddings_ND: Any, one: VerificationSet, references: int) -> Identification:
    if one.people is None:
        raise DataError(f"{one.name}: does not say who is who")
    return identify(embeddings_ND, one.people, references=references, where=one.name)


def _mapped(taken: Sequence[tuple[Any, VerificationSet]]) -> Conditions:
    if not taken:
        raise DataError("no set has images called as in K-FACE (19062531/S001/L1/E01/C7.jpg)")
    return conditions_of([each for each, _ in taken], [one for _, one in taken])


def _named(progress: Told, name: str) -> Callable[[int, int], object]:
    return lambda done, total: progress(name, done, total)


def _tar(point: TarPoint | None) -> str:
    if point is None:
        return "-"
    low, high = point.interval
    few = "" if point.counted else " (few)"
    return f"{100 * point.tar:.2f} [{100 * low:.1f}, {100 * high:.1f}]{few}"


def _span(figure: Figure) -> str:
    return f"[{100 * figure.low:.2f}, {100 * figure.high:.2f}]"
