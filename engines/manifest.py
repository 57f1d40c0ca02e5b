"""What a model file promises, written into the file itself.

Enters: the metadata of an ONNX file. Leaves: a checked, frozen ``Manifest``. Whoever runs the model trusts it:
no caller subtracts a mean, swaps channels or guesses an alignment template.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from engines.errors import ModelFileError

SCHEMA: Final = 2
"""Version of the manifest's fields; a file with a higher one is refused, not half understood."""

FILE_PRECISIONS: Final = ("fp32", "mixed-fp16", "int8")

CROPS: Final = {"dlib_chip_150": 150, "arcface_112": 112, "eyes_112": 112}
"""Alignment templates by name, and the side of their crops in pixels; ``realtime.faces.alignment`` makes them."""

METADATA_KEY: Final = "realtime.manifest"
"""Key under which the JSON stands in the ONNX file's ``metadata_props``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The contract of one embedding model: uint8 RGB NHWC aligned faces in, float32 embeddings out."""

    name: str
    """For people: ``dlib-resnet-v1``."""
    network: str
    """Architecture: ``dlib-resnet-29``, ``iresnet50``."""
    weights_sha256: str
    """Of the file that the weights came from, 64 hex digits."""
    template: str
    """Alignment template that the network was trained on: ``dlib_chip_150``, ``arcface_112``, ``eyes_112``."""
    input_size: int
    """Side of the square input, pixels."""
    dimensions: int
    """Length D of an embedding."""
    unit_length: bool
    """The file returns embeddings of length 1, and means of them are renormalised."""
    mirrored: bool
    """An embedding is the mean over the face and its mirror image, inside the file."""
    threshold: float
    """Squared L2 distance (0..4 for unit length) below which a probe may get a person's name."""
    threshold_fmr: float | None
    """False match rate, a comparison, at which the threshold was set; None where it was not measured."""
    threshold_source: str
    """How the threshold was set, in words: set, number of comparisons, command."""
    licence: str
    training_set: str | None = None
    distance: str = "squared_l2"
    precision: str = "fp32"
    """Of the arithmetic inside the file: ``fp32``, ``mixed-fp16`` or ``int8``."""
    calibrated_on: str = ""
    """int8 only: how many aligned faces its ranges come from, and whose."""
    tools: str = ""
    """Versions of what wrote the file."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.weights_sha256):
            raise ValueError(f"weights_sha256 is {self.weights_sha256!r}; expected 64 hex digits")
        if self.dimensions < 1 or self.input_size < 1:
            raise ValueError(f"dimensions {self.dimensions} and input_size {self.input_size} must be positive")
        if not 0 < self.threshold < math.inf:
            raise ValueError(f"threshold is {self.threshold}; a squared distance above 0 is needed")
        if self.precision not in FILE_PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; known are {', '.join(FILE_PRECISIONS)}")
        if self.distance != "squared_l2":
            raise ValueError(f"distance is {self.distance!r}; this version compares by 'squared_l2' only")

    @property
    def model_id(self) -> str:
        """Which embeddings may be compared: same weights, same template, same form of output. 16 hex digits.

        Precision is no part of it: what ``engines.verification`` lets pass may be compared across precisions.
        """
        parts = (self.weights_sha256, self.template, self.dimensions, self.unit_length, self.mirrored)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Parse and check; ``where`` names the file in the error.

        Raises:
            ModelFileError: not JSON, a missing or unknown field, a wrong value, or a newer schema.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values.get("schema", 0) > SCHEMA:
                raise ModelFileError(
                    f"{where}: its manifest has schema {values['schema']}, this version reads up to {SCHEMA}; "
                    "update realtime or export the model again"
                )
            known = {field.name for field in fields(cls)}
            if unknown := sorted(set(values) - known):
                raise ModelFileError(f"{where}: unknown manifest field {unknown[0]!r}; export the model again")
            _check_types(values, cls)
            return cls(**values)
        except (ValueError, TypeError, AttributeError, RecursionError) as err:
            raise ModelFileError(f"{where}: its manifest cannot be read ({err}); export the model again") from err


def crop_side(template: str, where: str) -> int:
    """Side of a template's crops, pixels.

    Raises:
        ModelFileError: nothing here can align faces so.
    """
    if template not in CROPS:
        raise ModelFileError(f"{where}: the alignment template {template!r} is not known; known are {', '.join(CROPS)}")
    return CROPS[template]


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "str | None": (str, type(None)),
}
"""By the text of a field's annotation: JSON's types that it may have."""


def _check_types(values: dict[str, Any], owner: type[Manifest]) -> None:
    for field in fields(owner):
        if field.name not in values:
            continue
        value, kinds = values[field.name], _KINDS[str(field.type)]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TypeError(f"{field.name} is {str(value)[:40]!r}; expected {field.type}")
