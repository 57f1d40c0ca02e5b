"""ONNX files that others made, before they are ours.

Enters: the bytes of an ONNX file, and the folder that it lies in. Leaves: one graph of standard operators with all
weights inside, and its ``Ports``: where an image goes in and an embedding comes out. A file that names others is
answered only from its own folder, by plain names, with bounded reads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, inliner

from engines.errors import ModelFileError
from engines.export import MAX_MODEL_BYTES, tensors
from engines.intake.contract import check_graph, plain
from engines.manifest import METADATA_KEY

NORMALISING: Final = ("Sub", "Mul", "Div")
"""A graph that begins with one of these normalises its input itself: insightface's rule for its own files."""

_KINDS: Final = {number: name.lower() for name, number in TensorProto.DataType.items()}

_PASSING: Final = ("Identity", "Cast", "Transpose")
"""Operators that leave the values as they are."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A foreign network."""

    model: onnx.ModelProto
    sha256: str
    """Of the file; of the file and then its data files by name, where its weights lie outside."""
    where: str


@dataclass(frozen=True, slots=True)
class Ports:
    """How a graph is reached from outside."""

    input: str
    output: str
    batch: int | None
    """None when any will do."""
    side: int | None
    """Of the square image, pixels; None when the graph leaves it free."""


def read_foreign(content: bytes, where: str, folder: Path | None = None) -> Foreign:
    """Parse, take in weights from ``folder``, inline functions.

    Raises:
        ModelFileError: not a whole ONNX file, already one of ours, weights that are missing or lie elsewhere, or
            what ``check_graph`` refuses.
    """
    try:
        model = onnx.ModelProto.FromString(content)
    except (DecodeError, RecursionError) as err:
        raise ModelFileError(f"{where}: is not a whole ONNX file; export or download it again") from err
    if not model.HasField("graph") or not model.graph.node:
        raise ModelFileError(f"{where}: is not an ONNX model; give an .onnx file")
    if any(prop.key == METADATA_KEY for prop in model.metadata_props):
        raise ModelFileError(f"{where}: has a realtime manifest already; use it as it is, with `embed.model={where}`")
    digest = hashlib.sha256(content)
    for _, data in sorted(_take_in_data(model, where, folder).items()):
        digest.update(data)
    if model.functions:
        model = inliner.inline_local_functions(model)
    check_graph(model, where)
    return Foreign(model, digest.hexdigest(), where)


def find_ports(foreign: Foreign, layout: str, output: str | None) -> Ports:
    """The one image input and the embedding output.

    Args:
        foreign: what ``read_foreign`` returned.
        layout: ``nchw`` or ``nhwc``.
        output: name of the embeddings, where the graph has several outputs.

    Raises:
        ModelFileError: something else than one float32 image goes in, no (N, D) comes out, or it is not clear which.
    """
    graph, where = foreign.model.graph, foreign.where
    name = _output(graph, output, where)
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ModelFileError(f"{where}: takes {_described(inputs)}; one float32 image input is needed")
    shape = _shape(inputs[0])
    if len(shape) != 4:
        raise ModelFileError(f"{where}: takes {_described(inputs)}; an image input has 4 axes")
    axes = {"nchw": (1, 2, 3), "nhwc": (3, 1, 2)}
    fits = {kind: _is_image(*(shape[axis] for axis in order)) for kind, order in axes.items()}
    if not fits[layout]:
        other = next((f"; say --layout {kind}" for kind, fit in fits.items() if fit), "")
        raise ModelFileError(f"{where}: takes {_described(inputs)}, which is no square RGB image in {layout}{other}")
    _, height, width = (shape[axis] for axis in axes[layout])
    return Ports(inputs[0].name, name, shape[0] or None, height or width or None)


def normalises_itself(model: onnx.ModelProto, input_name: str) -> bool:
    """Whether the first thing that happens to the image's values is a constant taken off, multiplied or divided."""
    names = {input_name}
    for node in model.graph.node:
        if not names & set(node.input):
            continue
        if node.op_type not in _PASSING:
            return node.op_type in NORMALISING
        names |= set(node.output)
    return False


def _output(graph: Any, wished: str | None, where: str) -> str:
    outputs = list(graph.output)
    if wished is not None:
        if wished not in {value.name for value in outputs}:
            raise ModelFileError(f"{where}: has no output {wished!r}; its outputs are {_described(outputs)}")
        outputs = [value for value in outputs if value.name == wished]
    fitting = [value for value in outputs if len(_shape(value)) in (0, 2)]
    if not fitting:
        raise ModelFileError(
            f"{where}: is not an embedding network: it gives {_described(outputs)}; "
            "one output of shape (N, D) is needed"
        )
    if len(outputs) > 1:
        raise ModelFileError(f"{where}: has several outputs, {_described(outputs)}; say which with --output-name")
    return str(fitting[0].name)


def _is_image(channels: int, height: int, width: int) -> bool:
    """0 stands for a free axis."""
    return channels in (0, 3) and (height == width or 0 in (height, width))


def _shape(value: Any) -> tuple[int, ...]:
    """Dimensions with 0 for a free one; empty when the graph does not say."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _described(values: list[Any]) -> str:
    texts = [
        f"{plain(value.name)} {_KINDS.get(value.type.tensor_type.elem_type, 'no type')} "
        + ("x".join(str(size or "N") for size in _shape(value)) or "of unknown shape")
        for value in values
    ]
    return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "") or "nothing"


def _take_in_data(model: onnx.ModelProto, where: str, folder: Path | None) -> dict[str, bytes]:
    """Move weights from files beside the model into it; the files' contents by name."""
    files: dict[str, bytes] = {}
    for tensor in tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if name not in files:
            files[name] = _read_beside(name, where, folder, MAX_MODEL_BYTES - sum(map(len, files.values())))
        try:
            start = int(entries.get("offset", "0"))
            end = start + int(entries.get("length", str(len(files[name]) - start)))
        except ValueError as err:
            raise ModelFileError(
                f"{where}: says no place in {name!r} for its weights ({err}); export it again"
            ) from err
        if not 0 <= start <= end <= len(files[name]):
            raise ModelFileError(f"{where}: {name!r} ends before its weights {tensor.name!r}; get both files again")
        tensor.raw_data = files[name][start:end]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return files


def _read_beside(name: str, where: str, folder: Path | None, limit: int) -> bytes:
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0:"):
        raise ModelFileError(f"{where}: wants its weights from {name!r}, outside its own folder; save it as one file")
    path = None if folder is None else folder / name
    if path is None or path.is_symlink() or not path.is_file():
        raise ModelFileError(
            f"{where}: its weights lie in {name!r}, which is not beside it; put it there, or save one file"
        )
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as err:
        raise ModelFileError(f"{path}: cannot be read ({err.strerror}); it holds the weights of {where}") from err
    if len(data) > limit:
        raise ModelFileError(f"{path}: is larger than what an ONNX file can hold; save the model in one file")
    return data
