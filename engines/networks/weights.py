"""Weights from a file that somebody else wrote, without running anything that it holds.

Enters: a ``.pt``, ``.pth`` or ``.safetensors`` file, told by its content. Leaves: float32 arrays by name and the
file's sha256, or one sentence: what the file is instead, and what to do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError, RuntimeMissing
from engines.networks import torch_files

Float32 = NDArray[np.float32]

FOREIGN: Final = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the weights; run `git lfs pull` where it came from"),
    (b"\x1f\x8b", "is packed with gzip; unpack it and give the file inside"),
    (b"7z\xbc\xaf", "is packed with 7-Zip; unpack it and give the file inside"),
    (b"Rar!", "is packed with RAR; unpack it and give the file inside"),
    (b"\x89HDF", "holds weights of Keras, which has none of these networks; give those of a PyTorch model"),
)
"""First bytes, and what to say."""

HEAD_BYTES: Final = 1024

_PAGE: Final = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)
_ONNX: Final = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42\x72]")
"""Version of the format, then the next field: producer, domain, graph, operator set or metadata."""

_SAFE_KINDS: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
"""Types of safetensors that become float32 by a plain conversion."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a file held."""

    arrays: dict[str, Float32]
    """By the name that the network gives them; all finite."""
    sha256: str
    """Of the whole file, 64 hex digits."""
    form: str
    """For people: ``PyTorch file, its 'state_dict_backbone'``."""


def read_weights(path: Path) -> Weights:
    """Read the weights of one network.

    A whole training checkpoint is searched for its backbone, and prefixes that wrappers leave are taken off.

    Raises:
        ModelFileError: missing, empty, cut off, a pickle with code, a web page, another format, no weights inside,
            or weights that are no numbers; the message says which and what to do.
        RuntimeMissing: the library that reads this format is not installed.
    """
    try:
        if not path.is_file():
            problem = "is not a file" if path.exists() else "does not exist"
            raise ModelFileError(f"{path}: {problem}; give the path of a file of weights")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        arrays, form = _reader(head, path)(path)
        sha256 = file_sha256(path)
    except OSError as err:
        raise ModelFileError(f"{path}: cannot be read ({err.strerror or err}); check it and its permissions") from err
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ModelFileError(f"{path}: {name} holds NaN or infinity; its training failed, take an earlier file")
    return Weights(arrays, sha256, form)


def _reader(head: bytes, path: Path) -> Callable[[Path], tuple[dict[str, Float32], str]]:
    """By the first bytes; the name of a file says little."""
    if not head:
        raise ModelFileError(f"{path}: is empty; download or save it again")
    for start, words in FOREIGN:
        if head.startswith(start):
            raise ModelFileError(f"{path}: {words}")
    if _PAGE.match(head):
        raise ModelFileError(
            f"{path}: is a web page, not weights: the link led to a page that wants a click or a login; "
            "download the file itself in a browser"
        )
    if head.startswith(torch_files.STARTS):
        return torch_files.read
    if head[8:9] == b"{":
        return _read_safetensors
    if _ONNX.match(head):
        raise ModelFileError(f"{path}: is an ONNX model under another name; rename it to .onnx and give it again")
    raise ModelFileError(
        f"{path}: is neither a PyTorch file nor safetensors; give a .pt, .pth, .safetensors or .onnx file"
    )


def file_sha256(path: Path) -> str:
    """Of a whole file, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> tuple[dict[str, Float32], str]:
    try:
        import safetensors
    except ImportError as err:
        raise RuntimeMissing("safetensors is not installed; install it with `pip install safetensors`") from err
    try:
        held: dict[str, Any] = dict(safetensors.deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as err:
        raise ModelFileError(f"{path}: is cut off or damaged ({err}); download or save it again") from err
    if not held:
        raise ModelFileError(f"{path}: holds no weights; save the network's state dict")
    state = torch_files.strip_wrappers(held)
    return {name: _to_array(f"{path}: {name}", value) for name, value in state.items()}, "safetensors file"


def _to_array(where: str, value: dict[str, Any]) -> Float32:
    """One tensor as float32; bfloat16 is the upper half of one."""
    data, kind = bytes(value["data"]), str(value["dtype"])
    if kind == "BF16":
        flat = (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    elif kind in _SAFE_KINDS:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinity, which is refused by name
            flat = np.frombuffer(data, dtype=_SAFE_KINDS[kind]).astype(np.float32)
    else:
        raise ModelFileError(f"{where} is of type {kind}; save the weights as float32, float16 or bfloat16")
    array: Float32 = flat.reshape(value["shape"])
    return array
