"""From a labelled set and a model to a threshold with its false match rate.

Enters: the path of a set, settings that name a model. Leaves: a ``Calibration``, printable, as JSON, and written into
the model's manifest if asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engines.export import load_model, with_manifest, write_atomically
from engines.manifest import Manifest
from engines.store import cache_dir
from engines.verification.pairs import Comparisons, compare, read_pairs
from engines.verification.tails import MIN_MATCHES, OperatingPoint, Pairs, operating_points
from realtime.calibration import RATES
from realtime.calibration.embeddings import Embedded, cache_key, embed_set, join, load, save
from realtime.calibration.images import ImageSet, open_set
from realtime.calibration.trial import Trial, trials
from realtime.errors import RealtimeError
from realtime.settings import Settings

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told (photos done, photos in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a set says about a model."""

    set_name: str
    model: Manifest
    runtime: str
    photos: int
    people: int
    failures: dict[str, str]
    pairs: Pairs
    points: tuple[OperatingPoint, ...]
    """By falling rate."""
    listed: Comparisons | None
    trials: tuple[Trial, ...]

    def point(self, rate: float) -> OperatingPoint:
        """The operating point at a rate that was asked for.

        Raises:
            RealtimeError: the set is too small for it.
        """
        for point in self.points:
            if point.wanted_fmr == rate:
                return point
        raise RealtimeError(
            f"{self.set_name}: {self.pairs.non_mated} cross-person pairs are too few for a rate of {rate:g}; "
            f"{MIN_MATCHES / rate:.0f} are needed (about {round((2 * MIN_MATCHES / rate) ** 0.5)} photos)"
        )

    def source_text(self, rate: float) -> str:
        """How the threshold was set, for the manifest."""
        point = self.point(rate)
        return (
            f"{self.set_name}: {self.photos} photos of {self.people} people, {point.non_mated} cross-person pairs, "
            f"{point.false_matches} below (95 % interval of the rate {point.fmr_low:.1e} to {point.fmr_high:.1e}); "
            f"{self.runtime}; realtime calibrate {version('realtime-arcface')}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "set": self.set_name,
            "model": asdict(self.model),
            "runtime": self.runtime,
            "photos": self.photos,
            "people": self.people,
            "failures": self.failures,
            "mated_pairs": self.pairs.mated,
            "non_mated_pairs": self.pairs.non_mated,
            "points": [
                {
                    **asdict(point),
                    "fmr": point.fmr,
                    "listed_tar": None if self.listed is None else self.listed.share_below(point.threshold),
                }
                for point in self.points
            ],
            "trials": [
                {**asdict(trial), "right_share": trial.right_share, "stranger_share": trial.stranger_share}
                for trial in self.trials
            ],
        }


def calibrate(
    path: Path,
    settings: Settings,
    *,
    pairs_file: Path | None = None,
    rates: Sequence[float] = RATES,
    progress: Progress = lambda done, total: None,
) -> Calibration:
    """Embed the set (or take its cached embeddings) and measure.

    Raises:
        RealtimeError: no usable set, or nobody in it.
        EngineError: the model cannot be loaded, or a broken list of pairs.
    """
    from realtime.faces.analysis import open_analyser

    with closing(open_set(path)) as images, closing(open_analyser(settings)) as analyser:
        manifest, runtime = analyser.manifest, analyser.engine.runtime
        key = cache_key(
            images.digest, manifest.model_id, runtime, settings.align.model_dump(), settings.detect.model_dump()
        )
        embedded = embed_cached(images, analyser, cache_dir() / "calibration" / f"{key}.npz", progress)
        passed_over = dict(images.passed_over)
    return measure(
        embedded, manifest, runtime, set_name=path.name, pairs_file=pairs_file, rates=rates, passed_over=passed_over
    )


def measure(
    embedded: Embedded,
    manifest: Manifest,
    runtime: str,
    *,
    set_name: str,
    pairs_file: Path | None = None,
    rates: Sequence[float] = RATES,
    passed_over: dict[str, str] | None = None,
) -> Calibration:
    """All statistics of embeddings that exist; as ``calibrate``."""
    people = len(set(embedded.people))
    if people < 2:
        raise RealtimeError(f"{set_name}: faces of {people} people were found; at least two are needed to tell apart")
    pairs, points = operating_points(embedded.embeddings_ND, embedded.persons_N, sorted(set(rates), reverse=True))
    return Calibration(
        set_name=set_name,
        model=manifest,
        runtime=runtime,
        photos=len(embedded),
        people=people,
        failures={**(passed_over or {}), **embedded.failures},
        pairs=pairs,
        points=tuple(points),
        listed=None if pairs_file is None else _listed(pairs_file, embedded),
        trials=tuple(
            trials(
                embedded.embeddings_ND,
                embedded.persons_N,
                unit_length=manifest.unit_length,
                rates=[point.wanted_fmr for point in points],
            )
        ),
    )


def _listed(pairs_file: Path, embedded: Embedded) -> Comparisons:
    return compare(read_pairs(pairs_file), embedded.names, embedded.failures, embedded.embeddings_ND)


def embed_cached(images: ImageSet, analyser: Any, cache: Path, progress: Progress) -> Embedded:
    """Embed what the cache file lacks, and keep the result there; a stop keeps what was finished.

    Raises:
        RealtimeError: no photo of the set gave a face.
    """
    done = load(cache)
    parts = [] if done is None else [done]
    count = 0 if done is None else len(done) + len(done.failures)
    with _kept(parts, cache):
        for part in embed_set(images, analyser, done=done):
            parts.append(part)
            count += len(part) + len(part.failures)
            progress(count, len(images.items))
    embedded = join(parts)
    if embedded is None or not len(embedded):
        raise RealtimeError("no face was found in any photo of the set; are they photos of faces?")
    return embedded


@contextmanager
def _kept(parts: list[Embedded], cache: Path) -> Iterator[None]:
    """Save the parts on the way out, however it is left (Ctrl-C too), if there are new ones."""
    before = len(parts)
    try:
        yield
    finally:
        embedded = join(parts)
        if embedded is not None and len(parts) > before:
            try:
                save(embedded, cache)
            except OSError as err:
                _log.warning("%s: embeddings cannot be kept (%s); the next call computes them again", cache, err)


def write_threshold(model: Path, calibration: Calibration, rate: float) -> Manifest:
    """Put the threshold, its rate and how it was set into a model file's manifest; the file is replaced whole.

    Raises:
        ModelFileError: not a model file.
        RealtimeError: it is not the model that was measured, the set is too small, or the file cannot be written.
    """
    import onnx

    file = load_model(model)
    if file.manifest.model_id != calibration.model.model_id:
        raise RealtimeError(f"{model}: is not the model that was measured; give the same file to --model")
    point = calibration.point(rate)
    manifest = replace(
        file.manifest, threshold=point.threshold, threshold_fmr=rate, threshold_source=calibration.source_text(rate)
    )
    try:
        write_atomically(model, with_manifest(onnx.ModelProto.FromString(file.content), manifest))
    except OSError as err:
        raise RealtimeError(f"{model}: cannot be written ({err.strerror}); the file is as it was") from err
    return manifest
