"""All of a run in one file, so that it can go on after a kill, on any number of processes.

Enters: a ``Checkpoint``, its tensors on the processor and whole, not shared out over ranks. Leaves: a file written
whole or not at all; read back, the same bits. Nothing random is in it: order, mirroring, sampling and dropout are
functions of the seed and the step. Nothing is unpickled but tensors, numbers and text, and every byte is held against
its checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from pydantic import ValidationError
from torch import Tensor

from engines.export import PART, written_atomically
from engines.networks import Network
from train.errors import CheckpointError
from train.prepared import SetManifest
from train.settings import FitSettings

SCHEMA: Final = 1
SEAL_BYTES: Final = 64
"""Hex digits of a sha256."""

SEAL_BLOCK: Final = 1 << 20

KEY: Final = "realtime_checkpoint"
"""Tells our files from other people's; its value is the schema."""

TENSORS: Final = ("backbone", "momentum", "centres", "ema")
"""Sections of tensors by name. The first is where ``engines import`` looks for a network."""

MB: Final = 1 << 20

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class SetFacts:
    """What a run has to know of its prepared set when that is not at hand."""

    name: str
    digest: str
    template: str
    size: int
    """Side of a crop, pixels."""
    subjects: tuple[str, ...]
    """By label."""

    @classmethod
    def of(cls, manifest: SetManifest) -> SetFacts:
        return cls(
            name=manifest.name,
            digest=manifest.digest,
            template=manifest.template,
            size=manifest.size,
            subjects=manifest.train_subjects,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A run between two steps."""

    settings: FitSettings
    network: Network
    data: SetFacts
    step: int
    """Steps done."""
    backbone: State
    """The network's state dict, by insightface's names."""
    momentum: State
    """Of the network's optimiser, by the names of its parameters."""
    centres: State
    """``ClassCentres.whole_state``: all centres and their momentum, (C * K, D)."""
    ema: State | None = None
    """Running mean of the network's weights; None where there is none."""
    scale: Mapping[str, float] = field(default_factory=dict)
    """Of the loss in fp16."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What the loop wants back, as JSON values: the best accuracy, the gate's figure before the run."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of the one before it.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written to; the one before it is still there.
    """
    whole: dict[str, Any] = {KEY: SCHEMA, "header": _header(checkpoint)}
    for name in TENSORS:
        state: State | None = getattr(checkpoint, name)
        if state is not None:
            whole[name] = {key: _plain(value) for key, value in state.items()}
    needed = sum(value.nbytes for name in TENSORS for value in whole.get(name, {}).values())
    try:
        for left in path.parent.glob(f".{path.name}.*{PART}"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
        with written_atomically(path) as file:
            torch.save(whole, file)
            _seal(file)
    except (OSError, RuntimeError) as err:  # torch hides the system's own words
        kept = "; the one before it is kept" if path.exists() else ""
        raise CheckpointError(
            f"{path}: cannot be saved ({_why(err, path.parent, needed)}){kept}; make room, then go on with --resume"
        ) from err


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; its tensors lie on the processor.

    Raises:
        CheckpointError: missing, cut short, damaged, not one of ours, or of a newer version.
    """
    try:
        whole = _read(path)
    except FileNotFoundError as err:
        raise CheckpointError(f"{path}: no such file; a run writes its first one after an epoch") from err
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read ({err.strerror or err}); check it and its permissions") from err
    if not isinstance(whole, dict) or not isinstance(schema := whole.get(KEY), int):
        raise CheckpointError(
            f"{path}: is not a checkpoint of `train fit`; to start from somebody's weights set init.backbone"
        )
    if schema > SCHEMA:
        raise CheckpointError(f"{path}: has schema {schema}, this version reads up to {SCHEMA}; update it")
    try:
        return _assembled(whole)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ValidationError) as err:
        said = str(err).strip().splitlines()[:1]
        raise CheckpointError(f"{path}: is damaged or of another version ({''.join(said)}); use another one") from err


def check_same_run(
    checkpoint: Checkpoint, where: str, *, settings: FitSettings, network: Network, data: SetFacts
) -> None:
    """Whether a run can go on from a checkpoint; ``where`` names it in messages.

    Raises:
        CheckpointError: another network, another data set, or other class centres.
    """
    old, new = checkpoint.network, network
    if old != new:
        parts = [
            f"{name} {was}, not {getattr(new, name)}" for name, was in asdict(old).items() if was != getattr(new, name)
        ]
        raise CheckpointError(
            f"{where}: is of another network ({'; '.join(parts)}); set network to that, or choose another --output"
        )
    if checkpoint.data.digest != data.digest:
        raise CheckpointError(
            f"{where}: was made on the set {checkpoint.data.name} ({len(checkpoint.data.subjects)} subjects, "
            f"{checkpoint.data.digest[:12]}), this is {data.name} ({len(data.subjects)} subjects, {data.digest[:12]}); "
            "give that set, or start a new run with init.backbone"
        )
    for name in ("kind", "sub_centers"):
        was, now = getattr(checkpoint.settings.loss, name), getattr(settings.loss, name)
        if was != now:
            raise CheckpointError(
                f"{where}: was trained with loss.{name} {was}, not {now}; set it back, or start a new run with "
                "init.backbone"
            )


def _plain(value: Tensor) -> Tensor:
    """On the processor, alone in its memory: torch saves all of what a tensor is a piece of."""
    plain = value.detach().cpu().contiguous()
    return plain if plain.nbytes == plain.untyped_storage().nbytes() else plain.clone()


def _header(checkpoint: Checkpoint) -> str:
    return json.dumps(
        {
            "settings": checkpoint.settings.model_dump(),
            "network": asdict(checkpoint.network),
            "data": asdict(checkpoint.data),
            "step": checkpoint.step,
            "scale": dict(checkpoint.scale),
            "notes": dict(checkpoint.notes),
        },
        ensure_ascii=False,
    )


def _assembled(whole: Mapping[str, Any]) -> Checkpoint:
    header = json.loads(whole["header"])
    network, data = header["network"], header["data"]
    states = {name: _state(name, whole[name]) for name in TENSORS if name in whole}
    return Checkpoint(
        settings=FitSettings.model_validate(header["settings"]),
        network=Network(**network | {"blocks": tuple(network["blocks"])}),
        data=SetFacts(**data | {"subjects": tuple(str(subject) for subject in data["subjects"])}),
        step=int(header["step"]),
        scale={str(key): float(value) for key, value in header["scale"].items()},
        notes=dict(header["notes"]),
        **states,
    )


def _state(name: str, state: Any) -> State:
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"its {name} is no section of tensors")
    return {str(key): value for key, value in state.items()}


def _read(path: Path) -> Any:
    """What torch's restricted reader makes of a file whose checksums hold."""
    damaged = f"{path}: is cut short or damaged; use the checkpoint of another run, or start again"
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; give a checkpoint.pt")
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
            if claimed > path.stat().st_size:
                raise CheckpointError(f"{path}: is compressed, which no checkpoint is; it is not opened")
            sealed = archive.comment
            if not _seal_holds(path, sealed) if sealed else archive.testzip() is not None:
                raise CheckpointError(damaged)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as err:
        raise CheckpointError(damaged) from err
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError) as err:
        raise CheckpointError(
            f"{path}: holds more than tensors and text, or is damaged, and is not loaded; give a checkpoint of ours"
        ) from err
    # a tensor of stride 0 can be terabytes in a file of a kilobyte
    if any(value.nbytes > value.untyped_storage().nbytes() for value in _tensors(whole)):
        raise CheckpointError(f"{path}: holds a tensor that claims more bytes than the file has; it is not used")
    return whole


def _seal(file: BinaryIO) -> None:
    """Put a sha256 of all that is there behind it, as the zip's comment.

    A zip has no checksum of its own directory, and torch reads whatever a damaged one points at.
    """
    file.seek(-2, os.SEEK_END)
    file.write(SEAL_BYTES.to_bytes(2, "little"))
    file.seek(0)
    digest = _sha256(file, None)
    file.seek(0, os.SEEK_END)
    file.write(digest)


def _seal_holds(path: Path, seal: bytes) -> bool:
    with path.open("rb") as file:
        return _sha256(file, path.stat().st_size - len(seal)) == seal


def _sha256(file: BinaryIO, count: int | None) -> bytes:
    """Hex digits over ``count`` bytes from where the file stands, or over all that are left."""
    digest = hashlib.sha256()
    left = count
    while block := file.read(SEAL_BLOCK if left is None else min(SEAL_BLOCK, left)):
        digest.update(block)
        left = None if left is None else left - len(block)
    return digest.hexdigest().encode()


def _tensors(whole: Any) -> list[Tensor]:
    sections = [value for value in whole.values() if isinstance(value, dict)] if isinstance(whole, dict) else []
    return [value for section in sections for value in section.values() if isinstance(value, Tensor)]


def _why(err: BaseException, folder: Path, needed: int) -> str:
    """The system's words where it has some, and whether there is room."""
    cause: BaseException | None = err
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = needed
    if free < needed:
        return f"it has {needed // MB + 1} MB, {folder} has {free // MB} MB free"
    return (cause.strerror or str(cause)) if isinstance(cause, OSError) else "the disk took only a part of it"
