"""Foreign ONNX networks made ours: aligned uint8 faces in, embeddings out, a manifest inside.

Enters: a foreign file, how it takes its image, and what its owner says of it (``Terms``). Leaves: a ``ModelFile`` with
the normalisation before the network and unit length after it. It is proved twice: against the contract, and against
the original, fed by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.errors import EngineError, ModelFileError, RuntimeMissing
from engines.export import MAX_MODEL_BYTES, ModelFile, check_model, with_manifest
from engines.intake.contract import plain, probes, prove
from engines.intake.foreign import Foreign, Ports, find_ports, normalises_itself, read_foreign
from engines.intake.wrapping import Wrap, wrapped
from engines.manifest import Manifest, crop_side
from engines.models import ForeignInput, KnownModel
from engines.runtimes import onnxruntime

MEAN: Final = 127.5
STD: Final = 127.5
"""What ArcFace's networks take off and divide by: values from -1 to 1."""

TOLERANCE: Final = 1e-4
"""Largest difference from the original, as a share of an embedding's length; the same graph gives 1e-6."""

LARGEST_DISTANCE: Final = 4.0
"""Squared, between embeddings of length 1 that point away from each other."""

NOT_CALIBRATED: Final = "not calibrated for this model; run realtime calibrate"

# N faces, S side of the input, D embedding
Faces_NSS3 = NDArray[np.uint8]
Embeddings_ND = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a foreign file cannot say of itself; the fields are those of ``Manifest``."""

    name: str
    network: str = "unknown"
    template: str = "arcface_112"
    unit_length: bool = True
    mirrored: bool = False
    threshold: float = 1.2
    """Of squared distances between unit embeddings: what suits networks trained with ArcFace's loss."""
    threshold_fmr: float | None = None
    threshold_source: str = NOT_CALIBRATED
    licence: str = "not stated"
    training_set: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold < (LARGEST_DISTANCE if self.unit_length else math.inf):
            raise ValueError(
                f"threshold is {self.threshold:g}; squared distances between embeddings of length 1 are "
                f"from 0 to {LARGEST_DISTANCE:g}"
            )
        if self.threshold_fmr is not None and not 0 < self.threshold_fmr < 1:
            raise ValueError(f"fmr is {self.threshold_fmr:g}; a share of comparisons between 0 and 1 is needed")

    @classmethod
    def of(cls, known: KnownModel) -> Terms:
        return cls(**{name: getattr(known, name) for name in cls.__slots__})


def read_file(path: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        ModelFileError: missing, no file, or larger than ONNX can be.
    """
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ModelFileError(f"{path}: is larger than an ONNX file can be; give a model file")
        return path.read_bytes()
    except OSError as err:
        raise ModelFileError(f"{path}: cannot be read ({err.strerror}); give the path of an .onnx file") from err


def adopt(
    content: bytes,
    where: str,
    terms: Terms,
    *,
    reading: ForeignInput | None = None,
    output: str | None = None,
    folder: Path | None = None,
) -> ModelFile:
    """Wrap a foreign ONNX file and prove that it answers as before.

    Args:
        content: of the file: float32 images in, (N, D) out; opset 11 or above, or an older one that ONNX can raise.
        where: names the file in messages.
        terms: what goes into the manifest.
        reading: how it takes its image; ArcFace's way if not given.
        output: name of the embeddings, where the graph has several outputs.
        folder: where weights outside the file may lie; None: nowhere.

    Raises:
        ModelFileError: not an embedding network, hostile, or not to be adapted; the message says which and why.
        RuntimeMissing: onnxruntime is not installed.
    """
    foreign = read_foreign(content, where, folder)
    reading = reading or ForeignInput()
    ports = find_ports(foreign, reading.layout, output)
    side = _side(ports, terms.template, where)
    reading = _settled(reading, normalises_itself(foreign.model, ports.input))
    faces_NSS3 = np.resize(probes(side), (ports.batch or 3, side, side, 3))
    expected_ND = _expected(foreign, ports, reading, terms, faces_NSS3)
    wrap = Wrap(reading, ports, side, expected_ND.shape[1], terms.unit_length, terms.mirrored)
    manifest = _manifest(terms, foreign, side, expected_ND.shape[1])
    model = check_model(with_manifest(wrapped(foreign.model, wrap, where), manifest), where)
    try:
        prove(model)
    except ModelFileError as err:
        if ports.batch is None:
            raise
        reason = str(err).removeprefix(f"{where}: ")
        raise ModelFileError(f"{where}: was exported for batches of {ports.batch} only; {reason}") from err
    _check_same(model, faces_NSS3, expected_ND)
    return model


def _side(ports: Ports, template: str, where: str) -> int:
    """Of the input."""
    crop = crop_side(template, where)
    side = ports.side or crop
    if crop != side:
        raise ModelFileError(
            f"{where}: takes images of {side}x{side}, which the alignment template {template!r} does not give; "
            "name the one that it was trained on with --template"
        )
    return side


def _settled(reading: ForeignInput, itself: bool) -> ForeignInput:
    """``auto`` replaced by numbers."""
    mean, std = (0.0, 1.0) if itself else (MEAN, STD)
    return replace(
        reading,
        mean=mean if reading.mean is None else reading.mean,
        std=std if reading.std is None else reading.std,
    )


def _manifest(terms: Terms, foreign: Foreign, side: int, dimensions: int) -> Manifest:
    producer = " ".join(filter(None, (foreign.model.producer_name, foreign.model.producer_version)))
    try:
        return Manifest(
            **{name: getattr(terms, name) for name in terms.__slots__},
            weights_sha256=foreign.sha256,
            input_size=side,
            dimensions=dimensions,
            tools=f"adopted with onnx {version('onnx')}, made by {plain(producer)[:80] or 'an unknown tool'}",
        )
    except ValueError as err:
        raise ModelFileError(f"{foreign.where}: {err}") from err


def _expected(
    foreign: Foreign, ports: Ports, reading: ForeignInput, terms: Terms, faces_NSS3: Faces_NSS3
) -> Embeddings_ND:
    """Embeddings of the original, with everything around it done by hand."""
    original = onnx.ModelProto()
    original.CopyFrom(foreign.model)
    outputs = [value for value in original.graph.output if value.name == ports.output]
    del original.graph.output[:]
    original.graph.output.extend(outputs)
    try:
        session = onnxruntime.open_session(original.SerializeToString(), foreign.where, precision="fp32", threads=1)
        views = (faces_NSS3, faces_NSS3[:, :, ::-1]) if terms.mirrored else (faces_NSS3,)
        # the session passes any array on; its signature is that of our own files
        embeddings = [np.asarray(cast(Any, session).run(_by_hand(view, reading))) for view in views]
        session.close()
    except (ModelFileError, RuntimeMissing):
        raise
    except (EngineError, ValueError) as err:
        raise ModelFileError(f"{foreign.where}: does not run on an image of its own size ({err})") from err
    if embeddings[0].ndim != 2 or embeddings[0].dtype != np.float32:
        raise ModelFileError(
            f"{foreign.where}: is not an embedding network: it gives {embeddings[0].dtype} of shape "
            f"{embeddings[0].shape}; float32 of shape (N, D) is needed"
        )
    if not np.isfinite(embeddings).all():
        raise ModelFileError(f"{foreign.where}: gives NaN or infinity for an ordinary image; its weights are damaged")
    mean_ND: NDArray[np.float64] = np.stack(embeddings).mean(axis=0, dtype=np.float64)
    if terms.unit_length:
        mean_ND /= np.maximum(np.linalg.norm(mean_ND, axis=1, keepdims=True), 1e-12)
    return mean_ND.astype(np.float32)


def _by_hand(faces_NSS3: Faces_NSS3, reading: ForeignInput) -> NDArray[np.float32]:
    assert reading.mean is not None
    assert reading.std is not None
    values = (faces_NSS3.astype(np.float32) - np.float32(reading.mean)) / np.float32(reading.std)
    values = values[..., ::-1] if reading.colour == "bgr" else values
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if reading.layout == "nchw" else values)


def _check_same(model: ModelFile, faces_NSS3: Faces_NSS3, expected_ND: Embeddings_ND) -> None:
    session = onnxruntime.open_session(model.content, model.where, precision="fp32", threads=1)
    got_ND = session.run(faces_NSS3)
    session.close()
    wanted_ND = expected_ND.astype(np.float64)
    off = np.linalg.norm(got_ND - wanted_ND, axis=1).max() / np.linalg.norm(wanted_ND, axis=1).max()
    if not off <= TOLERANCE:
        raise ModelFileError(
            f"{model.where}: cannot be adapted: behind the manifest its answers differ by {off:.2g} of their length; "
            "export it again with opset 17 and a dynamic batch axis"
        )
