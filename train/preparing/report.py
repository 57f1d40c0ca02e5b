"""What a person reads when a set is prepared: how much there is, and all that is not.

Enters: a prepared set. Leaves: a ``Report``, as text or JSON, in which every count can be added up.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from train.errors import DataError
from train.prepared import IMAGES, REFUSED, SHEET, PreparedSet
from train.preparing.settling import SHARED, by_kind

NAMED: Final = 5
"""People left out, and files of two people, that the text names; the manifest and refused.jsonl name all."""


@dataclass(frozen=True, kw_only=True)
class Report:
    folder: str
    name: str
    size: int
    template: str
    train_rows: int
    train_people: int
    val_rows: int
    val_people: int
    expected: int | None
    """Images that the selection promises; None where nothing is promised."""
    refused: int
    """Images of the selection that should be in the set and are not."""
    images_left_out: int
    """Good ones of the people left out."""
    also_refused: int
    """Besides: what is no image of the selection, as a second zip of a person."""
    reasons: tuple[tuple[str, int, tuple[str, ...]], ...]
    """Kind of reason, how many, the first names; the most frequent first."""
    people_left_out: dict[str, int]
    """For having too few usable images -> how many they have."""
    notes: tuple[tuple[str, int, tuple[str, ...]], ...]
    """What is to be known of crops that are in the set: kind, how many, the first names."""
    shared: tuple[tuple[str, str], ...]
    """The first images that lie there as another person's too: (name, reason)."""
    one_image: int
    """People of train with a single crop."""
    digest: str
    found_done: bool
    """Nothing was done: the set lay there whole."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def report_of(prepared: PreparedSet, *, found_done: bool = False) -> Report:
    """
    Raises:
        DataError: refused.jsonl is damaged.
    """
    manifest = prepared.manifest
    refused = _refused(prepared.folder / REFUSED)
    left_out = int(manifest.facts.get("images_left_out", 0))
    val = prepared.val
    counts = np.bincount(prepared.train.labels_N, minlength=len(manifest.train_subjects))
    return Report(
        folder=str(prepared.folder),
        name=manifest.name,
        size=manifest.size,
        template=manifest.template,
        train_rows=manifest.train_rows,
        train_people=len(manifest.train_subjects),
        val_rows=manifest.val_rows,
        val_people=0 if val is None else len(val.subjects),
        expected=manifest.expected,
        refused=manifest.refused,
        images_left_out=left_out,
        also_refused=len(refused) - manifest.refused - left_out,
        reasons=tuple(by_kind(refused)),
        people_left_out={
            **dict.fromkeys(manifest.facts.get("people_without_images", ()), 0),
            **manifest.facts.get("people_left_out", {}),
        },
        notes=tuple((kind, count, tuple(names)) for kind, count, names in manifest.facts.get("notes", ())),
        shared=tuple((name, why) for name, why in refused.items() if why.startswith(SHARED))[: 2 * NAMED],
        one_image=int(np.count_nonzero(counts == 1)),
        digest=manifest.digest,
        found_done=found_done,
    )


def report_text(report: Report) -> str:
    """A few lines; every name that might not be printable is made so."""
    lines = [
        f"{printable(report.name)}: {_many(report.train_rows, 'crop')} of {_people(report.train_people)} to train on"
        + (f", {report.val_rows} of {_people(report.val_people)} kept back (val)" if report.val_rows else "")
        + f"; {report.size}x{report.size}, {report.template}"
    ]
    if report.found_done:
        lines.append("  was prepared before, from the same source and with the same options; nothing had to be done")
    rows = report.train_rows + report.val_rows
    absent = f"{report.refused} refused" + (f" + {report.images_left_out} left out" if report.images_left_out else "")
    if report.expected is not None:
        lines.append(f"  promised by the selection: {report.expected} = {rows} crops + {absent}")
    elif report.refused or report.images_left_out:
        lines.append(f"  found: {rows + report.refused + report.images_left_out} = {rows} crops + {absent}")
    if report.also_refused:
        lines.append(f"  also refused, and no image of the selection: {report.also_refused}")
    lines += _kinds(report.reasons)
    lines += _people_lines(report)
    lines += [f"  each one with its reason: {Path(report.folder) / REFUSED}"] if report.reasons else []
    if report.notes:
        lines += ["  in the set, and to be known of:", *_kinds(report.notes)]
        lines.append(f"  each one with its note: {Path(report.folder) / IMAGES}")
    lines.append(f"  look at what it will learn from: {Path(report.folder) / SHEET}")
    return "\n".join(lines)


def _kinds(kinds: tuple[tuple[str, int, tuple[str, ...]], ...]) -> list[str]:
    return [
        f"  {count:>7} {kind}: {', '.join(map(printable, names))}{', ...' if count > len(names) else ''}"
        for kind, count, names in kinds
    ]


def _people_lines(report: Report) -> list[str]:
    lines = []
    if report.shared:
        lines.append("  WARNING: files that lie there as several people's; none of them is in the set:")
        lines += [f"    {printable(name)}: {printable(why)}" for name, why in report.shared]
    if left_out := report.people_left_out:
        first = ", ".join(f"{printable(subject)} ({count})" for subject, count in list(left_out.items())[:NAMED])
        more = ", ..." if len(left_out) > NAMED else ""
        lines.append(f"  {_people(len(left_out))} left out, too few usable images: {first}{more}")
    if report.val_people == 1:
        lines.append("  val is one person: it holds no two images of different people, so it measures little")
    if report.one_image == report.train_people:
        lines.append("  every person has one crop: nothing shows what two images of a person have in common")
    elif report.one_image:
        lines.append(f"  {_people(report.one_image)} to train on with one crop only; --min-images 2 leaves them out")
    return lines


def printable(text: str) -> str:
    """``text`` for a terminal: control characters, and halves of characters, as escapes."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _refused(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8") as file:
            values = [json.loads(line) for line in file]
        return {str(value["name"]): str(value["reason"]) for value in values}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise DataError(f"{path}: cannot be read ({err}); prepare the set again with --force") from err
