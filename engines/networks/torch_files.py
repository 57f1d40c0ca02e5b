"""What ``torch.save`` wrote, read without running it.

Enters: a ``.pt`` or ``.pth`` file, in the zip form or the one before it. Leaves: the float32 arrays of the one network
inside. torch's own restricted reader does the reading; a file that needs more than tensors is refused with the names of
what it wanted to run.
"""

from __future__ import annotations

import argparse
import contextlib
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError
from engines.networks.library import torch_library

PLACES: Final = (
    "state_dict_backbone",
    "backbone",
    "model_state_dict",
    "state_dict",
    "model",
    "net",
    "network",
    "module",
)
"""Keys under which training checkpoints keep the network, the surest first."""

WRAPPERS: Final = ("module.", "_orig_mod.", "backbone.", "model.", "net.", "network.", "encoder.")
"""What DataParallel, torch.compile and trainers put before a name; no network here has a layer of such a name."""

COUNTER: Final = "num_batches_tracked"
"""Of a BatchNorm: matters only to who trains on."""

STARTS: Final = (b"PK\x03\x04", *(bytes([0x80, protocol]) for protocol in range(1, 6)))
"""First bytes of a zip and of a pickle."""

MAX_DEPTH: Final = 4
"""How deep a checkpoint's sections may nest."""

_PICKLE_BYTES: Final = 64 << 20
"""Of names and shapes; the pickle of the largest network here has 0.1 MB."""

_FAILURES: Final = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    MemoryError,
    zipfile.BadZipFile,
)
"""What torch raises, depending on where a file is damaged."""

Float32 = NDArray[np.float32]
T = TypeVar("T")


def read(path: Path) -> tuple[dict[str, Float32], str]:
    """The arrays by name, and where in the file they were, in words.

    Raises:
        ModelFileError: cut off, damaged, code inside, or no weights.
        RuntimeMissing: torch is not installed.
        OSError: the file cannot be read.
    """
    is_zip = _check_zip(path)
    loaded = _load(path, is_zip)
    tensors, place = _find_state(loaded, path)
    arrays = _to_arrays(strip_wrappers(tensors), path)
    return arrays, f"PyTorch file, its {place!r}" if place else "PyTorch file"


def strip_wrappers(state: dict[str, T]) -> dict[str, T]:
    """Without prefixes of wrappers and without what stands beside the wrapped network, such as a classifier."""
    for _ in range(MAX_DEPTH):
        prefix = next((p for p in WRAPPERS if any(name.startswith(p) for name in state)), None)
        if prefix is None:
            break
        state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    return {name: value for name, value in state.items() if not name.endswith(COUNTER)}


def _check_zip(path: Path) -> bool:
    """Whether it is the zip form; refuses other zips and what unpacks to more than it is."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as err:
        raise ModelFileError(
            f"{path}: is cut off or damaged ({path.stat().st_size} bytes); download or copy it again"
        ) from err
    names = {member.filename.rpartition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise ModelFileError(f"{path}: is a TorchScript program, not weights; save `model.state_dict()` instead")
    if "data.pkl" not in names:
        raise ModelFileError(f"{path}: is a zip without PyTorch weights; unpack it and give the file inside")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ModelFileError(f"{path}: is compressed, which torch.save never does; save it again with torch.save")
    return True


def _load(path: Path, is_zip: bool) -> Any:
    torch = torch_library()
    # torch takes a path of this name for the other format; an open file cannot be mapped
    mapped = is_zip and path.suffix.lower() != ".safetensors"
    with path.open("rb") as file, _more_globals(torch), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
        except _FAILURES as err:
            raise ModelFileError(f"{path}: {_why_not(path, is_zip)}") from err


@contextlib.contextmanager
def _more_globals(torch: Any) -> Iterator[None]:
    """Numbers of numpy and options of argparse stand beside the weights in many checkpoints; both only hold values."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    old_and_new = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([*old_and_new, np.dtype, *kinds, argparse.Namespace]):
        yield


def _why_not(path: Path, is_zip: bool) -> str:
    """A sentence for a file that torch refused."""
    wanted = _globals_of(_pickle_of(path, is_zip))
    foreign = [name for name in wanted if not name.startswith(("torch._utils.", "collections.", "torch.storage."))]
    if any(name.startswith("torch.nn.modules.") for name in foreign):
        return (
            "holds a whole pickled model, which could run code when loaded; where it was made, save "
            "`model.state_dict()` instead"
        )
    foreign = [name for name in foreign if not name.startswith(("torch.", "numpy.", "argparse."))]
    if foreign:
        return (
            f"holds code ({', '.join(sorted(set(foreign))[:3])}), which is not run; do not trust its source, or "
            "where it was made, save `model.state_dict()` instead"
        )
    return f"is cut off, damaged or no PyTorch file ({path.stat().st_size} bytes); download or save it again"


def _pickle_of(path: Path, is_zip: bool) -> bytes:
    if not is_zip:
        with path.open("rb") as file:
            return file.read(_PICKLE_BYTES)
    with zipfile.ZipFile(path) as archive:
        name = next(member for member in archive.namelist() if member.rpartition("/")[2] == "data.pkl")
        try:
            with archive.open(name) as member:
                return member.read(_PICKLE_BYTES)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
            return b""


def _globals_of(data: bytes) -> list[str]:
    """``module.name`` of everything that a pickle asks for, as far as it can be read; nothing is run.

    torch's older form is several pickles in a row: all of them are looked at.
    """
    found: list[str] = []
    start = 0
    while start < len(data) and data[start] == 0x80:
        strings: list[str] = []
        try:
            for opcode, argument, place in pickletools.genops(data[start:]):
                if opcode.name == "GLOBAL":
                    found.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    found.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
                end = start + (place or 0) + 1
        except (ValueError, IndexError, struct.error, OverflowError, EOFError):
            break
        start = end
    return found


def _find_state(loaded: Any, path: Path) -> tuple[dict[str, Any], str]:
    """The section that holds the network's tensors, and its name; empty where that is the whole file."""
    torch = torch_library()
    place: list[str] = []
    for _ in range(MAX_DEPTH):
        if not isinstance(loaded, Mapping):
            break
        inner = next((key for key in PLACES if isinstance(loaded.get(key), Mapping) and loaded[key]), None)
        if inner is None:
            tensors = {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
            if tensors:
                return tensors, ".".join(place)
            break
        place.append(inner)
        loaded = loaded[inner]
    held = ", ".join(str(key)[:40] for key in list(loaded)[:5]) if isinstance(loaded, Mapping) else ""
    raise ModelFileError(
        f"{path}: holds no weights by name, but {held or type(loaded).__name__}; save `model.state_dict()` instead"
    )


def _to_arrays(tensors: dict[str, Any], path: Path) -> dict[str, Float32]:
    torch = torch_library()
    for name, value in tensors.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
            raise ModelFileError(f"{path}: {name} is no plain tensor of numbers; save the float weights instead")
    # a tensor of stride 0 can be terabytes in a file of a kilobyte
    if sum(value.numel() for value in tensors.values()) > path.stat().st_size:
        raise ModelFileError(f"{path}: its tensors claim more values than the file has bytes; get it again")
    # copied: a view would die with the file
    return {name: np.array(value.detach().to(torch.float32).numpy()) for name, value in tensors.items()}
