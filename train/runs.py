"""A run as others use it: to evaluate, export, clean or look into it.

Enters: the folder of a run, finished or not, or one of its checkpoints. Leaves: a ``Run``: the network with its
weights, its class centres, and what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from engines.networks import Network, build
from engines.networks.matching import compare
from engines.networks.torch_files import COUNTER
from engines.networks.weights import Float32, Weights, file_sha256, read_weights
from train.checkpoints import Checkpoint, SetFacts, load_checkpoint
from train.errors import CheckpointError
from train.settings import FitSettings

# C classes, K centres of each, D embedding

CHECKPOINT: Final = "checkpoint.pt"
BACKBONE: Final = "backbone.pth"
"""What a finished run leaves to others: a state dict alone."""
SETTINGS: Final = "settings.yaml"
LOG: Final = "log.jsonl"
CURVES: Final = "curves.png"
TENSORBOARD: Final = "tensorboard"


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A run, opened for reading."""

    path: Path
    """As it was given."""
    settings: FitSettings
    network: Network
    module: nn.Module
    """With its weights, in eval mode, on the processor."""
    weights: Weights
    """The same as arrays, and the sha256 of the file they lie in."""
    centres_CKD: Tensor | None
    """float32, of any length; None where the loss has none. Those of the last step, as the checkpoint holds them."""
    data: SetFacts
    """What it was trained on."""
    step: int
    """Steps done."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """By label."""
        return self.data.subjects

    @property
    def template(self) -> str:
        """Alignment template of the crops, or ``kface_box``."""
        return self.data.template

    @property
    def size(self) -> int:
        """Side of a crop, pixels."""
        return self.data.size

    @property
    def set_name(self) -> str:
        return self.data.name


def is_run(path: Path) -> bool:
    """Whether ``open_run`` is the one to ask: a folder with a checkpoint, or a file of that name."""
    return (path / CHECKPOINT).is_file() or (path.is_file() and path.name == CHECKPOINT)


def open_run(path: Path) -> Run:
    """Open the folder of a run, or a checkpoint.

    Of a folder the weights are those of its backbone.pth, if it has come so far; else, and of a checkpoint, the running
    mean, or the last ones where none was kept.

    Raises:
        CheckpointError: no run there, or damaged.
        ModelFileError: backbone.pth is damaged.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: does not exist; give the folder of a run of `train fit`")
    if path.is_dir() and not (path / CHECKPOINT).is_file():
        raise CheckpointError(f"{path}: holds no {CHECKPOINT}; give the folder of a run of `train fit`")
    file = path / CHECKPOINT if path.is_dir() else path
    checkpoint = load_checkpoint(file)
    finished = path / BACKBONE
    weights = read_weights(finished) if path.is_dir() and finished.is_file() else _weights_of(checkpoint, file)
    where = finished if finished.is_file() else file
    if compare(weights.arrays, checkpoint.network).any:
        raise CheckpointError(
            f"{where}: is not of the network {checkpoint.network.name} of its run; run `train fit` again"
        )
    module = build(checkpoint.network)
    load_arrays(module, weights.arrays)
    return Run(
        path=path,
        settings=checkpoint.settings,
        network=checkpoint.network,
        module=module.eval(),
        weights=weights,
        centres_CKD=_centres(checkpoint, file),
        data=checkpoint.data,
        step=checkpoint.step,
    )


def load_arrays(module: nn.Module, arrays: Mapping[str, Float32]) -> None:
    """Put weights that fit into a network; its norms' counters of batches stay as they are."""
    counters = {name: value for name, value in module.state_dict().items() if name.endswith(COUNTER)}
    module.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()} | counters)


def _weights_of(checkpoint: Checkpoint, file: Path) -> Weights:
    state = checkpoint.backbone if checkpoint.ema is None else checkpoint.backbone | checkpoint.ema
    arrays = {name: value.float().numpy() for name, value in state.items() if not name.endswith(COUNTER)}
    form = "checkpoint, its last weights" if checkpoint.ema is None else "checkpoint, its running mean"
    return Weights(arrays, file_sha256(file), form)


def _centres(checkpoint: Checkpoint, file: Path) -> Tensor | None:
    rows_MD = checkpoint.centres.get("weight")
    if rows_MD is None or not len(rows_MD):
        return None
    classes, centres = len(checkpoint.data.subjects), checkpoint.settings.loss.sub_centers
    if tuple(rows_MD.shape) != (classes * centres, checkpoint.network.dimensions):
        raise CheckpointError(f"{file}: its class centres do not fit its {classes} subjects; use another checkpoint")
    return rows_MD.view(classes, centres, -1)
