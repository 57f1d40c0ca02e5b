"""An engine against the reference, on the faces of a set.

Enters: a model, aligned faces, perhaps a list of pairs. Leaves: a ``Report``: drift, error rates, threshold shift and
judgement of each runtime and precision that was asked for. Outcomes are recorded, so that ``auto`` knows them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines import verdicts
from engines.engine import open_model
from engines.errors import EngineError
from engines.export import ModelFile
from engines.quantise import quantised
from engines.runtimes import REFERENCE, ROWS, Row, describe_runtimes, runtime_module
from engines.verification.drift import drift
from engines.verification.faces import FaceSet
from engines.verification.gate import INT8_RATE, Fall, Judgement, gate_of, judge
from engines.verification.pairs import Comparisons, PairList, compare
from engines.verification.protocol import accuracy
from engines.verification.report import ErrorRates, Outcome, Report
from engines.verification.tar import Everybody, tar_listed, tar_over_all

# N faces; D embedding
Embeddings_ND = NDArray[np.float32]
Progress = Callable[[str, int, int], object]
"""Told (what runs, faces done, faces in all)."""

BATCH: Final = 32

NO_INT8: Final = "the model has no int8 form yet; make one with `python -m engines quantise`"


def verify(
    model: ModelFile,
    rows: Sequence[Row],
    faces: FaceSet,
    *,
    reference: ModelFile | None = None,
    pairs: PairList | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Compare.

    Args:
        model: whose runtimes are judged.
        rows: which.
        faces: aligned for the model.
        reference: what it is compared with, on ONNX Runtime in fp32; the model itself if not given. Only without one
            are outcomes recorded: a runtime is not to blame for another file.
        pairs: listed comparisons of the faces.
        threads: of each runtime.
        progress: see ``Progress``.

    Raises:
        EngineError: the reference cannot run, or is a model of another kind.
    """
    told = progress or (lambda what, done, total: None)
    base = model if reference is None else reference
    _check_alike(model, base)
    run = _Run(model, faces, pairs, threads, told)
    reference_ND = run.embed(base, Row(*REFERENCE))
    _check_finite(reference_ND, base)
    rates = run.rates(reference_ND)
    outcomes = tuple(
        run.outcome(row, reference_ND, rates, itself=reference is None and row.title == " ".join(REFERENCE))
        for row in rows
    )
    if reference is None:
        for row, outcome in zip(rows, outcomes, strict=True):
            _record(model, row, outcome)
    return Report(
        model=_words(model),
        reference=f"{'itself' if reference is None else _words(reference)} on {' '.join(REFERENCE)}",
        source=faces.source,
        failures=faces.failures,
        threshold=model.manifest.threshold,
        rates=rates,
        outcomes=outcomes,
    )


def working_rows(model: ModelFile) -> tuple[list[Row], list[tuple[Row, str]]]:
    """Every row of the table that works here and suits the model, and the others with why they do not."""
    obstacles = {info.name: info.reason for info in describe_runtimes() if not info.available}
    has_int8 = quantised(model) is not None
    working: list[Row] = []
    passed_over: list[tuple[Row, str]] = []
    for row in ROWS:
        if not row.suits(model.manifest.precision):
            continue
        reason = obstacles.get(row.title) or (NO_INT8 if row.precision == "int8" and not has_int8 else "")
        if reason:
            passed_over.append((row, reason))
        else:
            working.append(row)
    return working, passed_over


@dataclass(frozen=True, slots=True)
class _Run:
    model: ModelFile
    faces: FaceSet
    pairs: PairList | None
    threads: int
    progress: Progress

    def embed(self, model: ModelFile, row: Row) -> Embeddings_ND:
        """(N, D); the engine is closed afterwards: several at once would not fit into a small machine."""
        engine = open_model(
            model,
            runtime=row.runtime,
            precision=row.precision,
            threads=self.threads,
            on_device_loss="stop",
        )
        count = len(self.faces)
        with closing(engine):
            parts = []
            for start in range(0, count, BATCH):
                parts.append(engine.run(self.faces.faces_NSS3[start : start + BATCH]))
                self.progress(row.title, min(start + BATCH, count), count)
        return np.concatenate(parts)

    def outcome(
        self, row: Row, reference_ND: Embeddings_ND, rates: ErrorRates | None, *, itself: bool = False
    ) -> Outcome:
        """``itself``: the row is the reference, which need not run twice."""
        precision = gate_of(row.precision, self.model.manifest.precision)
        try:
            embeddings_ND = reference_ND if itself else self.embed(self.model, row)
        except EngineError as err:
            judgement = Judgement(passed=False, reason=f"cannot run: {err}", labelled=False)
            return Outcome(
                title=row.title, precision=precision, drift=None, rates=None, mixed=None, judgement=judgement
            )
        drifted = drift(embeddings_ND, reference_ND)
        finite = bool(np.isfinite(embeddings_ND).all())
        own = rates if itself else self.rates(embeddings_ND) if finite else None
        mixed = self.everybody(reference_ND, embeddings_ND) if own is not None and precision == "int8" else None
        return Outcome(
            title=row.title,
            precision=precision,
            drift=drifted,
            rates=own,
            mixed=mixed,
            judgement=judge(precision, drifted, self.faces.names[drifted.worst], _falls(rates, own, mixed)),
        )

    def rates(self, embeddings_ND: Embeddings_ND) -> ErrorRates | None:
        """None without labels."""
        everybody = self.everybody(embeddings_ND)
        if everybody is None:
            return None
        listed = self._listed(embeddings_ND)
        return ErrorRates(
            listed=listed,
            accuracy=None if listed is None else accuracy(listed),
            accuracy_without_failed=None if listed is None else accuracy(listed.without_failed()),
            listed_points=() if listed is None else tar_listed(listed),
            everybody=everybody,
        )

    def everybody(self, embeddings_ND: Embeddings_ND, others_ND: Embeddings_ND | None = None) -> Everybody | None:
        people = self._people()
        if people is None:
            return None
        return tar_over_all(
            embeddings_ND,
            people,
            others_ND=others_ND,
            listed=self._listed(embeddings_ND, others_ND),
            threshold=self.model.manifest.threshold,
        )

    def _listed(self, embeddings_ND: Embeddings_ND, others_ND: Embeddings_ND | None = None) -> Comparisons | None:
        if self.pairs is None:
            return None
        return compare(self.pairs, self.faces.names, self.faces.failures, embeddings_ND, others_ND)

    def _people(self) -> tuple[str, ...] | None:
        """By the list where there is one, else by folder."""
        if self.pairs is None:
            return self.faces.people if self.faces.labelled else None
        owners: dict[str, Any] = self.pairs.owners
        people = tuple(
            owners.get(PurePosixPath(name).stem, person)
            for name, person in zip(self.faces.names, self.faces.people, strict=True)
        )
        return people if all(people) else None


def _falls(rates: ErrorRates | None, own: ErrorRates | None, mixed: Everybody | None) -> list[Fall]:
    found = []
    for what, new in (
        ("among its own", None if own is None else own.everybody),
        ("against the reference's", mixed),
    ):
        if rates is None or new is None:
            continue
        before, after = rates.everybody.at(INT8_RATE), new.at(INT8_RATE)
        if before is not None and after is not None:
            found.append(Fall(what=what, reference=before, new=after))
    return found


def _check_alike(model: ModelFile, reference: ModelFile) -> None:
    ours, theirs = model.manifest, reference.manifest
    for what in ("template", "input_size", "dimensions", "unit_length"):
        if getattr(ours, what) != getattr(theirs, what):
            raise EngineError(
                f"{reference.where}: its {what} is {getattr(theirs, what)} and that of {model.where} is "
                f"{getattr(ours, what)}, so their embeddings cannot be compared; give another form of the same model"
            )


def _words(model: ModelFile) -> str:
    return f"{model.manifest.name} ({model.where})"


def _check_finite(reference_ND: Embeddings_ND, reference: ModelFile) -> None:
    if not np.isfinite(reference_ND).all():
        raise EngineError(f"{reference.where}: gives embeddings that are no numbers; get or export the model again")


def _record(model: ModelFile, row: Row, outcome: Outcome) -> None:
    """For ``auto``: not of the reference itself, and not where there was no set to judge by."""
    if (row.runtime, row.precision) == REFERENCE or outcome.drift is None or model.manifest.precision != "fp32":
        return
    if outcome.precision == "int8" and not outcome.judgement.labelled:
        return
    figures = {
        "faces": outcome.drift.faces,
        "cosine_mean": outcome.drift.cosine_mean,
        "cosine_min": outcome.drift.cosine_worst,
    }
    if outcome.rates is not None and (point := outcome.rates.everybody.at(INT8_RATE)) is not None:
        figures["tar_at_1e-3"] = point.tar
    ran = quantised(model) if row.precision == "int8" else model
    if ran is None:
        return
    verdicts.record(
        verdicts.Verdict(
            model_sha256=ran.sha256,
            runtime=row.runtime,
            version=runtime_module(row.runtime).version(),
            precision=row.precision,
            passed=outcome.judgement.passed,
            reason=outcome.judgement.reason,
            labelled=outcome.judgement.labelled,
            figures={key: value for key, value in figures.items() if math.isfinite(value)},
        )
    )
