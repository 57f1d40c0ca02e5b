"""Any network as one ONNX file with its manifest inside, and back.

Enters: a graph and a ``Manifest``. Leaves: a file written whole or not at all; read back, a manifest that the graph
was checked against. A file with tensors outside itself is refused: nothing that a model names is opened.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final

from engines.errors import ModelFileError
from engines.manifest import METADATA_KEY, Manifest
from engines.models import KnownModel

CONVERTER: Final = 1
"""Raise it when the same weights give another file: cached conversions are then made again."""

PART: Final = ".part"
"""How a file is called while it is being written."""

WEIGHTS_SUFFIXES: Final = (".pt", ".pth", ".safetensors", ".bin")
"""How files of weights end, which a model can be made of."""

MAX_MODEL_BYTES: Final = (1 << 31) - 1
"""What protobuf can hold."""


@dataclass(frozen=True)
class ModelFile:
    """A checked model: the bytes for a runtime, the promise, and the words that name it in messages."""

    content: bytes
    manifest: Manifest
    where: str

    @cached_property
    def sha256(self) -> str:
        """Of the content, 64 hex digits: what everything that is built from the file is kept under."""
        return hashlib.sha256(self.content).hexdigest()


def dlib_manifest(known: KnownModel, *, unit_length: bool, mirrored: bool) -> Manifest:
    """What the converted descriptor promises; the threshold holds only for the form at which it was set."""
    from engines.dlib.descriptor_graph import CHIP, DIMENSIONS

    measured = (unit_length, mirrored) == (known.unit_length, known.mirrored)
    source = known.threshold_source if measured else f"set for another form of this model ({known.threshold_source})"
    return Manifest(
        name=known.name,
        network=known.network,
        weights_sha256=known.weights_sha256,
        template=known.template,
        input_size=CHIP,
        dimensions=DIMENSIONS,
        unit_length=unit_length,
        mirrored=mirrored,
        threshold=known.threshold,
        threshold_fmr=known.threshold_fmr if measured else None,
        threshold_source=source,
        licence=known.licence,
        training_set=known.training_set,
        tools=f"realtime converter {CONVERTER}, onnx {version('onnx')}",
    )


def dlib_model(known: KnownModel, weights: Path, manifest: Manifest) -> bytes:
    """Convert dlib's descriptor.

    Raises:
        ModelFileError: the weights are missing, damaged or not the ones that the manifest names.
    """
    from engines.dlib.descriptor_graph import embedding_graph
    from engines.dlib.networks import read_resnet

    network = read_resnet(weights)
    if network.sha256 != manifest.weights_sha256:
        raise ModelFileError(
            f"{weights}: sha256 {network.sha256[:12]}... is not that of {known.name} "
            f"({manifest.weights_sha256[:12]}...); install {known.package.replace('_', '-')} again"
        )
    graph = embedding_graph(network, unit_length=manifest.unit_length, mirrored=manifest.mirrored)
    return with_manifest(graph, manifest)


def with_manifest(model: Any, manifest: Manifest) -> bytes:
    """The bytes of an ``onnx.ModelProto`` with the manifest in its metadata; the model is changed."""
    from onnx import helper

    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write under a temporary name beside ``path``, renamed at the end: a reader sees the old file or the
    new one.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; nothing is left behind.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        with part.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """``written_atomically``, of what is in memory."""
    with written_atomically(path) as file:
        file.write(content)


def write_wanted(path: Path, content: bytes) -> None:
    """``write_atomically``, to a place that a person has named.

    Raises:
        ModelFileError: it cannot be written to.
    """
    try:
        write_atomically(path, content)
    except OSError as err:
        raise ModelFileError(f"{path}: cannot be written ({err.strerror}); choose another place") from err


def read_manifest(path: Path) -> Manifest:
    """What a model file promises, checked against its graph.

    Raises:
        ModelFileError: as ``load_model``.
    """
    return load_model(path).manifest


def load_model(path: Path) -> ModelFile:
    """Read and check a model file.

    Raises:
        ModelFileError: missing, not ONNX, without a manifest, tensors outside the file, or a graph that takes or
            gives something else than its manifest says.
    """
    if path.suffix.lower() == ".dat":
        raise ModelFileError(f"{path}: is in dlib's own format; convert it with `python -m engines export`")
    if path.suffix.lower() in WEIGHTS_SUFFIXES and path.is_file():
        raise ModelFileError(f"{path}: holds weights, not a model; bring it with `python -m engines import {path}`")
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ModelFileError(f"{path}: {size} bytes are more than an ONNX file can have; give a model file")
        content = path.read_bytes()
    except OSError as err:
        raise ModelFileError(f"{path}: cannot be read ({err.strerror}); give the path of a model file") from err
    return check_model(content, str(path))


def check_model(content: bytes, where: str) -> ModelFile:
    """Check a model in memory; ``where`` names it in messages.

    Raises:
        ModelFileError: as ``load_model``.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.ModelProto.FromString(content)
    except (DecodeError, RecursionError) as err:
        raise ModelFileError(f"{where}: is not a whole ONNX file; export or download it again") from err
    if not model.HasField("graph"):
        raise ModelFileError(f"{where}: is not an ONNX model; give an .onnx file made by `python -m engines export`")
    if not all_text(model):
        raise ModelFileError(f"{where}: holds names that are no text; it is damaged, get the file again")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors(model)):
        raise ModelFileError(f"{where}: its weights lie in other files; save the model as one file and export it again")
    promises = [prop.value for prop in model.metadata_props if prop.key == METADATA_KEY]
    if len(promises) != 1:
        raise ModelFileError(
            f"{where}: holds no realtime manifest, so its input, alignment and threshold are unknown; "
            "`python -m engines adopt` takes a foreign model in"
        )
    manifest = Manifest.from_json(promises[0], where)
    _check_graph(model.graph, manifest, where)
    return ModelFile(content, manifest, where)


def tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a model: initialisers, attributes, subgraphs, functions; without recursion."""
    from onnx import TensorProto

    waiting = [message]
    while waiting:
        current = waiting.pop()
        if isinstance(current, TensorProto):
            yield current
            continue
        for field, value in current.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if hasattr(value, "ListFields") else value)


def all_text(model: Any) -> bool:
    """Protobuf gives bytes where a string is not UTF-8, and a runtime's answer to that is a traceback."""
    waiting: list[Any] = [model]
    while waiting:
        for field, value in waiting.pop().ListFields():
            values = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
            if field.message_type is not None:
                waiting.extend(values)
            elif field.type == field.TYPE_STRING and not all(isinstance(one, str) for one in values):
                return False
    return True


def _check_graph(graph: Any, manifest: Manifest, where: str) -> None:
    from onnx import TensorProto

    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    side = manifest.input_size
    for values, kind, shape, what in (
        (inputs, TensorProto.UINT8, (side, side, 3), "take uint8 faces"),
        (list(graph.output), TensorProto.FLOAT, (manifest.dimensions,), "give float32 embeddings"),
    ):
        found = [_described(value) for value in values]
        if len(values) != 1 or found[0][0] != kind or found[0][1][1:] != shape or found[0][1][0] > 0:
            promised = "x".join(map(str, ("N", *shape)))
            kinds = {number: name for name, number in TensorProto.DataType.items()}
            got = "; ".join(f"{kinds.get(k, 'no type')} {'x'.join(str(d or 'N') for d in s)}" for k, s in found)
            raise ModelFileError(
                f"{where}: should {what} ({promised}, as its manifest says) but has {got or 'nothing'}; "
                "export the model again"
            )


def _described(value: Any) -> tuple[int, tuple[int, ...]]:
    """Element type, and dimensions with 0 for a free one."""
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim) or (0,)
