"""One call from a source to a prepared set.

Enters: an indexed source, a folder, wishes. Leaves: the set and a ``Report``. Stopped at any moment, by Ctrl-C, a full
disk or a killed process, it goes on where it was when it is called again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from engines.verification.growing import GrowingCrops
from train.errors import DataError
from train.prepared import REFUSED, open_prepared
from train.preparing.place import Place, check_room, claimed
from train.preparing.plan import Plan, Wishes, planned
from train.preparing.report import Report, printable, report_of
from train.preparing.settling import Fates, Settled, by_kind, settle
from train.preparing.workers import Outcome, available_cores, outcomes
from train.preparing.writer import has_crop, read_fates, write_refused, write_set
from train.source import Source

Progress = Callable[[int, int], object]
"""Told (images done, images in all); begins where an interrupted run ended."""

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare(
    source: Source,
    out: Path,
    wishes: Wishes | None = None,
    *,
    workers: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Crop every image of a source into a prepared set.

    Args:
        source: indexed; pickled for the workers.
        out: folder of the set; an unfinished one is gone on with, a finished one of the same source and wishes is
            left as it is.
        wishes: split and least number of images a person.
        workers: processes that crop; as many as cores if None, none besides this one if 0.
        force: take away another set that lies there.
        progress: told after each image.

    Raises:
        ConfigError: the folder is not free, or the split is impossible.
        DataError: nothing usable in the source, no room, or a worker was killed.
    """
    plan = planned(source, wishes or Wishes())
    with claimed(out, plan.key, force=force) as place:
        found_done = place.finished
        if not found_done:
            try:
                fates = _cropped(source, plan, place, workers, progress)
                settled = settle(source, plan, fates)
                write_refused(out, settled)
                _check_people(source, settled, out)
                write_set(place, source, plan, fates, settled)
            except OSError as err:
                raise DataError(_unwritten(out, err)) from err
    return report_of(open_prepared(out), found_done=found_done)


def _cropped(source: Source, plan: Plan, place: Place, workers: int | None, progress: Progress | None) -> Fates:
    place.begin(plan.key, f"{source.facts.get('name', 'set')}, {plan.images} images")
    place.go_on()
    with GrowingCrops(place.growing, place.notes, source.size, has_crop) as growing:
        left = _left(plan, growing.done)
        check_room(place.folder, sum(map(len, left)) * source.size * source.size * 3)
        count = min(available_cores() if workers is None else workers, len(left))
        with closing(outcomes(source, left, count)) as found:
            for wanted, results in zip(left, found, strict=True):
                for item, outcome in zip(wanted, results, strict=True):
                    _add(growing, source.items[item].name, outcome, source.size)
                    if progress is not None:
                        progress(growing.done, plan.images)
        growing.finish()
    return read_fates(place, source, plan)


def _left(plan: Plan, done: int) -> list[range]:
    """The plan's ranges without its first ``done`` images."""
    left = []
    for wanted in plan.ranges:
        if len(wanted) > done:
            left.append(wanted[done:])
        done = max(0, done - len(wanted))
    return left


def _add(growing: GrowingCrops, name: str, outcome: Outcome, size: int) -> None:
    if isinstance(outcome, str):
        growing.add([name, None, outcome], None)
        return
    crop_SS3 = outcome.crop_SS3
    assert crop_SS3.shape == (size, size, 3), f"{name}: the reader gave a crop of shape {crop_SS3.shape}"
    growing.add([name, outcome.sha256, None, *([outcome.note] if outcome.note else [])], crop_SS3)


def _check_people(source: Source, settled: Settled, out: Path) -> None:
    if len(settled.train) > 1:
        return
    name = source.facts.get("name", "the source")
    kind, count, examples = by_kind(settled.refused)[0]
    got = f"only {settled.train[0]!r} has crops to train on" if settled.train else "no image gave a crop to train on"
    raise DataError(
        f"{name}: {got}; {count} images: {kind}, as {printable(examples[0])}; each image's reason is in {out / REFUSED}"
    )


def _unwritten(out: Path, err: OSError) -> str:
    if err.errno in NO_ROOM:
        return (
            f"{out}: the disk is full ({err.strerror}); make room and start the same command again, it goes on where "
            "it was"
        )
    return f"{out}: cannot be written ({err}); see to it and start the same command again, it goes on where it was"
