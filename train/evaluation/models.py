"""Any model as the one function that is measured, so that a run, a .pth, an ONNX file and a TensorRT plan get the same
report.

Enters: a run's folder, a file of weights, a model file or the name of one, and wishes for the runtime. Leaves: an
``OpenModel``. Weights become a model file first, as they would be exported: what is measured is what will run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.engine import LoadedEngine, open_model
from engines.export import WEIGHTS_SUFFIXES, ModelFile
from engines.intake.adopt import Terms
from engines.manifest import crop_side
from engines.networks import known_network
from engines.networks.matching import guess, match
from engines.networks.model_files import model_of
from engines.networks.weights import read_weights
from engines.store import find_model
from train.errors import ConfigError
from train.runs import Run, is_run, open_run

TEMPLATE: Final = "arcface_112"
"""Of weights of which nothing else is said."""

# N faces; S side of a crop; D embedding
BATCH: Final = 32
"""Faces that a runtime gets at once, as ``python -m engines verify`` gives them: the same figures, to the digit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenModel:
    """A model while it is open."""

    file: ModelFile
    engine: LoadedEngine
    calibrated: bool
    """Whether its threshold was measured; a run has none yet."""

    @property
    def template(self) -> str:
        return self.file.manifest.template

    @property
    def size(self) -> int:
        return self.file.manifest.input_size

    @property
    def threshold(self) -> float | None:
        return self.file.manifest.threshold if self.calibrated else None

    def embed(self, crops_NSS3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """An ``Embed``."""
        parts = [self.engine.run(crops_NSS3[start : start + BATCH]) for start in range(0, len(crops_NSS3), BATCH)]
        return np.concatenate(parts) if parts else self.engine.run(crops_NSS3)

    def to_json(self) -> dict[str, Any]:
        manifest = self.file.manifest
        return {
            "name": manifest.name,
            "file": self.file.where,
            "network": manifest.network,
            "model_id": manifest.model_id,
            "template": manifest.template,
            "input_size": manifest.input_size,
            "dimensions": manifest.dimensions,
            "mirrored": manifest.mirrored,
            "runtime": self.engine.runtime,
            "threshold": self.threshold,
            "threshold_fmr": manifest.threshold_fmr if self.calibrated else None,
        }


@contextmanager
def opened(
    model: str,
    *,
    network: str | None = None,
    template: str | None = None,
    runtime: str = "auto",
    precision: str | None = None,
    threads: int = 1,
) -> Iterator[OpenModel]:
    """Open a model, and close it afterwards.

    Args:
        model: a run's folder or checkpoint, weights (.pth, .safetensors), a model file, or the name of one.
        network: of weights; found out if not given.
        template: that weights were trained on; ``arcface_112`` if not given.
        runtime: as ``engines.engine.open_model``.
        precision: the same; that of the file if not given, not the fastest that passes its gate: figures of a model
            should not hang on what a machine has verified before.
        threads: the same.

    Raises:
        ConfigError: ``network`` or ``template`` for a model that says so itself, or unknown ones.
        CheckpointError, EngineError: the model cannot be opened.
    """
    file, calibrated = _file(model, network, template)
    wanted = precision or ("fp32" if file.manifest.precision == "fp32" else "auto")
    try:
        engine = open_model(file, runtime=runtime, precision=wanted, threads=threads)
    except ValueError as err:
        raise ConfigError(str(err)) from err
    try:
        yield OpenModel(file=file, engine=engine, calibrated=calibrated)
    finally:
        engine.close()


def run_model(run: Run, terms: Terms | None = None) -> ModelFile:
    """The network of a run as a model file, its threshold not measured.

    Args:
        run: whose.
        terms: ``run_terms``, with changes.

    Raises:
        ModelFileError: the weights are not usable.
    """
    return model_of(run.weights, run.network, terms or run_terms(run), str(run.path))


def run_terms(run: Run) -> Terms:
    """What a run says of itself."""
    place = run.path.resolve()
    return Terms(
        name=place.name if place.is_dir() else place.parent.name,
        network=run.network.name,
        template=run.template,
        training_set=f"{run.set_name}: {len(run.subjects)} people, {run.settings.loss.kind}, {run.step} steps",
    )


def _file(model: str, network: str | None, template: str | None) -> tuple[ModelFile, bool]:
    """The model, and whether its threshold was set for it."""
    path = Path(model)
    weights = path.suffix.lower() in WEIGHTS_SUFFIXES and not is_run(path)
    if (network or template) and not weights:
        raise ConfigError(f"{model}: says its network and template itself; leave --network and --template away")
    if weights:
        return _of_weights(path, network, template or TEMPLATE), False
    if is_run(path) or path.is_dir():
        return run_model(open_run(path)), False
    return find_model(model), True


def _of_weights(path: Path, network: str | None, template: str) -> ModelFile:
    crop_side(template, "--template")
    try:
        wanted = known_network(network) if network else None
    except ValueError as err:
        raise ConfigError(str(err)) from err
    weights = read_weights(path)
    found = match(weights.arrays, wanted, str(path)) if wanted else guess(weights.arrays, str(path))
    return model_of(weights, found, Terms(name=path.stem, network=found.name, template=template), str(path))
