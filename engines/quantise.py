"""int8 forms of models: made from aligned faces, kept, and found again.

Enters: an fp32 model and a hundred aligned faces. Leaves: a model file whose convolutions compute in int8
(``engines.graphs.quantisation``), with the same manifest but for its precision and what it was calibrated on. For the
embedded networks the ranges are shipped as numbers (``configs/int8``): they need no faces.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines import plans
from engines.activation_ranges import Progress, Ranges, ShippedRanges, observed, shipped_ranges
from engines.errors import EngineError, ModelFileError, first_line
from engines.export import ModelFile, check_model, with_manifest

QUANTISER: Final = 1
"""Raise it when the same ranges give another file: kept ones are then made again."""

MIN_FACES: Final = 16
"""Of the embedded descriptor, calibrated on any 16 of 1,500 faces of LFW, the worst of 771 others keeps cosine 0.991
(mean 0.9998); on any 300, 0.9987 (0.9999)."""

FACES: Final = 300
"""More are thinned out evenly: each costs as much as an embedding."""

KIND: Final = "int8"
"""Folder of the kept files (``engines.plans``)."""

# N faces of S x S pixels, C = 3 channels, always RGB
Faces_NSSC = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Faces that an int8 form can be made from."""

    faces: Callable[[], Faces_NSSC]
    """Gives (N, S, S, 3) uint8 RGB aligned faces; called only when a form has to be made."""
    source: str = "of this installation"
    """Where they come from, for the manifest."""
    origin: str = ""
    """Names these very faces: a form that was made of others does not serve. Empty: any form does."""


def quantise(
    model: ModelFile, faces_NSSC: NDArray[Any], *, source: str, threads: int = 1, progress: Progress | None = None
) -> ModelFile:
    """The int8 form of a model; the same faces give the same bytes.

    Args:
        model: in fp32.
        faces_NSSC: (N, S, S, 3) uint8 RGB, aligned for this model, N >= MIN_FACES; beyond FACES evenly thinned out.
        source: where the faces come from, for the manifest: ``a folder of crops``.
        threads: of the calibration.
        progress: see ``Progress``.

    Raises:
        EngineError: too few faces, all the same, or of another size.
        ModelFileError: the graph cannot be quantised.
        RuntimeMissing: ONNX Runtime does not work here.
    """
    faces = checked_faces(model, faces_NSSC)
    ranges = observed(model.content, model.where, faces, threads=threads, progress=progress)
    return _with_ranges(model, ranges, calibrated_on(faces, source))


def at_hand(model: ModelFile, calibration: Calibration | None = None) -> ModelFile | None:
    """The int8 form that needs no work: the model itself, or one that was kept; none of other faces than those that
    ``calibration`` insists on."""
    if model.manifest.precision == "int8":
        return model
    if (content := plans.read(KIND, _key(model, _origin(calibration)))) is not None:
        return _reread(model, content)
    shipped = _shipped(model, calibration)
    content = None if shipped is None else plans.read(KIND, _shipped_key(model, shipped))
    return None if content is None else _reread(model, content)


def quantised(model: ModelFile, calibration: Calibration | None = None) -> ModelFile | None:
    """``at_hand``, or made in a second from the ranges that are shipped with this model; None where there are none."""
    if (found := at_hand(model, calibration)) is not None:
        return found
    shipped = _shipped(model, calibration)
    if shipped is None:
        return None
    content = plans.kept(
        KIND,
        _shipped_key(model, shipped),
        lambda: _with_ranges(model, shipped.ranges, shipped.calibrated_on).content,
    )
    return _reread(model, content)


def quantised_or_build(model: ModelFile, calibration: Calibration | None) -> ModelFile:
    """``quantised``, or made from the faces and kept: once, however many processes ask.

    Raises:
        EngineError: there are no faces, or as ``quantise``.
    """
    if (found := quantised(model, calibration)) is not None:
        return found
    if model.manifest.precision != "fp32":
        raise ModelFileError(f"{model.where}: is in {model.manifest.precision}; int8 is made from the fp32 file")
    if calibration is None:
        raise EngineError(
            f"{model.where}: has no int8 form yet; make one with `python -m engines quantise` from aligned faces"
        )
    content = plans.kept(
        KIND,
        _key(model, _origin(calibration)),
        lambda: quantise(model, calibration.faces(), source=calibration.source).content,
    )
    return _reread(model, content)


def keep(model: ModelFile, int8: ModelFile) -> None:
    """Make ``int8`` the form of ``model`` that ``quantised`` finds from now on."""
    plans.write(KIND, _key(model, "faces"), int8.content)


def checked_faces(model: ModelFile, faces_NSSC: NDArray[Any]) -> Faces_NSSC:
    """The faces that a model is calibrated on.

    Raises:
        EngineError: too few, all the same, or of another size.
        ModelFileError: the model is not in fp32.
    """
    size, where = model.manifest.input_size, model.where
    if model.manifest.precision != "fp32":
        raise ModelFileError(f"{where}: is in {model.manifest.precision}; int8 is made from the fp32 file")
    faces = np.asarray(faces_NSSC)
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1:] != (size, size, 3):
        raise EngineError(
            f"{where}: the faces to calibrate on are {faces.dtype} of shape {faces.shape}; "
            f"give uint8 RGB crops of shape (N, {size}, {size}, 3)"
        )
    if len(faces) < MIN_FACES:
        raise EngineError(
            f"{where}: {len(faces)} faces are too few to calibrate int8 on; give at least {MIN_FACES}, "
            "better 64, of different people"
        )
    thinned: Faces_NSSC = faces[np.linspace(0, len(faces) - 1, min(len(faces), FACES)).round().astype(int)]
    if (thinned == thinned[0]).all():
        raise EngineError(f"{where}: all {len(faces)} faces to calibrate int8 on are the same; give different ones")
    return thinned


def calibrated_on(faces_NSSC: Faces_NSSC, source: str) -> str:
    """For the manifest and for people."""
    return f"{len(faces_NSSC)} faces ({source})"


def _with_ranges(model: ModelFile, ranges: Ranges, words: str) -> ModelFile:
    import onnx

    from engines.graphs.quantisation import quantise_graph

    manifest = replace(
        model.manifest,
        precision="int8",
        calibrated_on=words,
        tools=f"{model.manifest.tools}; int8 {QUANTISER}, onnx {version('onnx')}".removeprefix("; "),
    )
    try:
        graph = quantise_graph(onnx.ModelProto.FromString(model.content), ranges)
    except ModelFileError as err:
        raise ModelFileError(f"{model.where}: {err}") from err
    except onnx.checker.ValidationError as err:
        raise ModelFileError(f"{model.where}: cannot be quantised ({first_line(err)}); export the model again") from err
    return check_model(with_manifest(graph, manifest), model.where)


def _shipped(model: ModelFile, calibration: Calibration | None) -> ShippedRanges | None:
    if model.manifest.precision != "fp32" or (calibration is not None and calibration.origin):
        return None
    return shipped_ranges(model.manifest.weights_sha256)


def _shipped_key(model: ModelFile, shipped: ShippedRanges) -> tuple[str, ...]:
    return _key(model, json.dumps([shipped.calibrated_on, shipped.ranges]))


def _origin(calibration: Calibration | None) -> str:
    """What ``keep`` keeps goes by the plain name."""
    return f"faces {calibration.origin}" if calibration is not None and calibration.origin else "faces"


def _key(model: ModelFile, origin: str) -> tuple[str, ...]:
    return (model.sha256, str(QUANTISER), origin)


def _reread(model: ModelFile, content: bytes) -> ModelFile:
    return check_model(content, f"{model.where} (int8)")
