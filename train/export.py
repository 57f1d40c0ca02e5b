"""A run as one ONNX file that ``realtime`` runs, with the threshold that was measured for it.

Enters: a ``Run``, a set to measure on, a false match rate. Leaves: a ``ModelFile`` whose manifest says at which rate
its threshold was set, on what, and how sure that is.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from engines.engine import open_model
from engines.export import ModelFile, check_model, with_manifest
from engines.intake.adopt import Terms
from engines.manifest import CROPS
from engines.networks.model_files import in_precision
from engines.runtimes import REFERENCE
from engines.verification.tails import MIN_MATCHES, OperatingPoint, operating_points
from train.errors import ConfigError, DataError
from train.evaluation.embedding import embed_rows
from train.evaluation.models import run_model, run_terms
from train.evaluation.progress import Progress
from train.evaluation.sets import VerificationSet, from_split
from train.prepared import open_prepared
from train.runs import Run

FMR: Final = 1e-4
"""Of the threshold, where a set is large enough and nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model and how its threshold was set."""

    model: ModelFile
    point: OperatingPoint
    set_name: str
    faces: int
    people: int
    seen: tuple[str, ...]
    """People of the set who are called as people that the run was trained on."""

    def to_json(self) -> dict[str, Any]:
        manifest = self.model.manifest
        return {
            "manifest": asdict(manifest),
            "model_id": manifest.model_id,
            "bytes": len(self.model.content),
            "measured_on": {
                "set": self.set_name,
                "faces": self.faces,
                "people": self.people,
                "seen_in_training": list(self.seen),
            },
            "point": {**asdict(self.point), "fmr": self.point.fmr},
        }


def terms_of(run: Run, *, name: str | None = None, licence: str | None = None, mirrored: bool = False) -> Terms:
    """What the manifest says besides; the name is the run's folder's, unless it is given."""
    found = run_terms(run)
    return replace(found, name=name or found.name, licence=licence or found.licence, mirrored=mirrored)


def check_served(run: Run) -> None:
    """Raises ConfigError unless ``realtime`` can align faces as the run's crops are."""
    if run.template not in CROPS or CROPS[run.template] != run.size:
        raise ConfigError(
            f"{run.path}: was trained on crops of kind {run.template} ({run.size} pixels), which realtime cannot make "
            f"from a picture (it makes {', '.join(CROPS)}); prepare the set aligned by landmarks and train on that"
        )


def own_set(run: Run, data: Path | None = None) -> VerificationSet:
    """The people that a run's own set keeps back.

    Args:
        run: whose.
        data: where its prepared set lies now, if elsewhere.

    Raises:
        DataError: it is not there, is another one by now, or keeps nobody back.
    """
    folder = data or Path(run.settings.data.path)
    prepared = open_prepared(folder)
    if prepared.manifest.digest != run.data.digest:
        raise DataError(f"{folder}: is another set than {run.path} was trained on; name a set with --on")
    return from_split(prepared)


def export_run(
    run: Run,
    on: VerificationSet,
    *,
    fmr: float = FMR,
    terms: Terms | None = None,
    precision: str = "fp32",
    threads: int = 1,
    progress: Progress | None = None,
) -> Exported:
    """Measure the threshold with the very network that is written, and write it into the file.

    Args:
        run: what to export.
        on: a set whose people the run has not seen.
        fmr: false match rate that the threshold is set at.
        terms: name, licence and form; template, network and training set are the run's.
        precision: ``fp32`` or ``mixed-fp16``; the threshold is measured in fp32.
        threads: of the processor.
        progress: told of faces embedded.

    Raises:
        ConfigError: crops that ``realtime`` cannot make, or a rate that the set is too small for.
        DataError: a set that does not say who is who.
        EngineError: the weights are not usable.
    """
    check_served(run)
    if on.people is None:
        raise DataError(f"{on.name}: does not say who is who, so false matches cannot be counted; name another set")
    model = run_model(run, terms)
    engine = open_model(model, runtime=REFERENCE[0], precision=REFERENCE[1], threads=threads)
    try:
        embeddings_ND = embed_rows(engine.run, on, progress=progress)
    finally:
        engine.close()
    persons_N = np.unique(np.asarray(on.people), return_inverse=True)[1].astype(np.int64)
    pairs, points = operating_points(embeddings_ND, persons_N, [fmr])
    if not points:
        raise ConfigError(_too_small(on.name, fmr, pairs.non_mated))
    if points[0].threshold <= 0:
        raise DataError(
            f"{run.path}: gives different people of {on.name} nearly the same embedding, so no threshold has an FMR "
            f"of {fmr:g}; train longer"
        )
    people = set(on.people)
    found = Exported(
        model=model,
        point=points[0],
        set_name=on.name,
        faces=len(on),
        people=len(people),
        seen=tuple(sorted(people & set(run.subjects))),
    )
    return replace(found, model=in_precision(_with_threshold(found), precision))


def source_text(found: Exported) -> str:
    """How the threshold was set, for the manifest."""
    point = found.point
    seen = f"; {len(found.seen)} of the people are called as people of the training set" if found.seen else ""
    return (
        f"{found.set_name}: {found.faces} faces of {found.people} people, {point.non_mated:,} comparisons of different "
        f"people, {point.false_matches} below (95 % interval of the rate {point.fmr_low:.1e} to {point.fmr_high:.1e})"
        f"{seen}; python -m train export --fmr {point.wanted_fmr:g}, realtime {version('realtime-arcface')}"
    )


def _with_threshold(found: Exported) -> ModelFile:
    manifest = replace(
        found.model.manifest,
        threshold=found.point.threshold,
        threshold_fmr=found.point.wanted_fmr,
        threshold_source=source_text(found),
    )
    graph = onnx.ModelProto.FromString(found.model.content)
    return check_model(with_manifest(graph, manifest), found.model.where)


def _too_small(name: str, fmr: float, non_mated: int) -> str:
    """The smallest rate is rounded up to two digits: it has to work when it is typed."""
    if non_mated < MIN_MATCHES:
        return f"{name}: {non_mated} comparisons of different people set no threshold; name a larger set with --on"
    exponent = math.floor(math.log10(least := MIN_MATCHES / non_mated)) - 1
    typed = math.ceil(least / 10**exponent) * 10**exponent
    return (
        f"{name}: {non_mated:,} comparisons of different people are too few for a false match rate of {fmr:g}, "
        f"{MIN_MATCHES / fmr:,.0f} are needed; the smallest that it can measure is --fmr {typed:.2g}, or name a larger "
        "set with --on"
    )
