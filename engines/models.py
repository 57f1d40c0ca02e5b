"""The models that this installation knows by name.

Enters: ``configs/models.yaml``. Leaves: one checked record a model, and the place of its weights on this machine.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from engines.errors import ModelFileError
from engines.presets import configs_dir

DEFAULT: Final = "dlib-resnet-v1"
"""What runs when no model file is given."""

CNN_DETECTOR: Final = ("face_recognition_models", "models/mmod_human_face_detector.dat")
"""Package and path of the weights of dlib's CNN detector."""

LAYOUTS: Final = ("nchw", "nhwc")
COLOURS: Final = ("rgb", "bgr")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignInput:
    """How a foreign network takes a face: (value - mean) / std, float32, in its own order of axes and colours."""

    layout: str = "nchw"
    mean: float | None = None
    """Of the values 0..255; None: 127.5, or 0 where the graph subtracts or divides by itself."""
    std: float | None = None
    """None: 127.5, or 1 where the graph subtracts or divides by itself."""
    colour: str = "rgb"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}; known are {', '.join(LAYOUTS)}")
        if self.colour not in COLOURS:
            raise ValueError(f"colour is {self.colour!r}; known are {', '.join(COLOURS)}")
        if self.mean is not None and not -1e6 < self.mean < 1e6:
            raise ValueError(f"mean is {self.mean}; a value of the scale 0..255 is needed")
        if self.std is not None and not 0 < self.std < 1e6:
            raise ValueError(f"std is {self.std}; a value above 0 is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One entry of ``configs/models.yaml``; the fields are those of ``Manifest`` and where the weights are."""

    name: str
    weights: str
    """File of the weights: a path inside ``package``, a member of the zip at ``url``, or the file at ``url``."""
    weights_sha256: str = ""
    """64 hex digits; empty only where a person brings the file and no sum is published."""
    network: str
    template: str
    unit_length: bool
    mirrored: bool
    threshold: float
    threshold_fmr: float | None
    threshold_source: str
    licence: str
    must_accept: bool = False
    """``fetch`` asks for the licence to be accepted."""
    training_set: str | None = None
    input_size: int = 112
    dimensions: int = 512
    package: str = ""
    """Python package that carries the weights."""
    url: str = ""
    """Where the file is downloaded from."""
    archive_sha256: str = ""
    """Of the zip at ``url``; empty when the weights themselves are there."""
    by_hand: str = ""
    """Where a person gets the file, in words."""
    onnx: ForeignInput | None = None
    """Of a foreign ONNX file."""
    published: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Percent, by its authors: accuracy on LFW, CFP-FP, AgeDB; on IJB-C TAR at FAR 1e-4."""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.package, self.url, self.by_hand))) != 1:
            raise ValueError("exactly one of package, url and by_hand is needed")
        if self.url and self.onnx is None:
            raise ValueError("onnx is missing: how the file takes its image")
        for key, needed in (("weights_sha256", not self.by_hand), ("archive_sha256", False)):
            value = getattr(self, key)
            if (value or needed) and not re.fullmatch("[0-9a-f]{64}", str(value)):
                raise ValueError(f"{key} is {value!r}; expected 64 hex digits")

    @property
    def download(self) -> str:
        """Name of the file at ``url``."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def download_sha256(self) -> str:
        """Of the file at ``url``."""
        return self.archive_sha256 or self.weights_sha256

    def weights_path(self) -> Path:
        """Where the weights are installed.

        Raises:
            ModelFileError: no package carries them, or it is not installed or lacks the file.
        """
        if not self.package:
            raise ModelFileError(
                f"{self.name}: no package carries its weights; run `python -m engines fetch {self.name}`"
            )
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


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "str | None": (str, type(None)),
    "ForeignInput | None": (ForeignInput,),
    "Mapping[str, float]": (dict,),
}
"""By the text of a field's annotation: YAML's types that it may have."""


def _entry(path: Path, name: str, values: dict[Any, Any]) -> KnownModel:
    try:
        _check(values, KnownModel, {"name", "onnx"})
        if "onnx" in values:
            _check(values["onnx"], ForeignInput, set())
            values = {**values, "onnx": ForeignInput(**values["onnx"])}
        return KnownModel(name=name, **values)
    except (TypeError, ValueError) as err:
        raise ModelFileError(f"{path}: {name}: {err}; install realtime again") from err


def _check(values: Any, owner: type[KnownModel] | type[ForeignInput], unchecked: set[str]) -> None:
    if not isinstance(values, dict):
        raise TypeError(f"{str(values)[:40]!r} is no section")
    wanted = {field.name: field for field in fields(owner) if field.name != "name"}
    if unknown := sorted(str(key) for key in values if key not in wanted):
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(wanted))}")
    needed = (key for key, field in wanted.items() if field.default is field.default_factory is MISSING)
    if missing := sorted(set(needed) - set(values)):
        raise ValueError(f"{missing[0]} is missing")
    for key, value in values.items():
        kinds = _KINDS[str(wanted[key].type)]
        if key not in unchecked and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise TypeError(f"{key} is {str(value)[:40]!r}; expected {wanted[key].type}")
