"""What the tests of evaluation share: faces as points, a run with random weights, and a list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engines.networks import Network
from engines.networks.random_weights import random_state
from engines.verification.faces import FaceSet
from tests.train.sets import tiny_set
from train.checkpoints import Checkpoint, SetFacts, save_checkpoint
from train.evaluation.sets import VerificationSet
from train.prepared import open_prepared
from train.runs import CHECKPOINT
from train.settings import DataSettings, FitSettings

# N faces; D embedding; P people
SMALL = Network(name="small", family="iresnet", blocks=(1, 1, 1, 1), width=8, dimensions=16)


def points(people: int, photos: int, *, spread: float, dimensions: int = 16, seed: int = 0) -> NDArray[np.float32]:
    """Unit embeddings, all of a person together: a place of their own with noise of ``spread`` around it."""
    random = np.random.default_rng(seed)
    own_PD = random.normal(size=(people, dimensions))
    own_PD /= np.linalg.norm(own_PD, axis=1, keepdims=True)
    found = own_PD.repeat(photos, axis=0) + random.normal(size=(people * photos, dimensions)) * spread
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def faces_of(people: tuple[str, ...], names: tuple[str, ...] | None = None) -> VerificationSet:
    """A set without a list; row n's crop has n in its first pixels, so that ``looked_up`` finds its embedding."""
    crops = np.zeros((len(people), 4, 4, 3), dtype=np.uint8)
    crops[:, 0, 0, 0], crops[:, 0, 0, 1] = np.divmod(np.arange(len(people)), 256)
    names = names or tuple(f"{person}/{row:04d}.jpg" for row, person in enumerate(people))
    return VerificationSet(
        name="points",
        faces=FaceSet(faces_NSS3=crops, names=names, people=people, source="points"),
        pairs=None,
        rows_N=np.arange(len(people)),
        people=people,
        keys=names,
    )


def looked_up(embeddings_ND: NDArray[np.float32]):  # type: ignore[no-untyped-def]
    """An ``Embed`` that knows the faces of ``faces_of``; mirrored or not."""

    def embed(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        corner = np.maximum(crops[:, 0, 0], crops[:, 0, -1]).astype(np.int64)
        return embeddings_ND[corner[:, 0] * 256 + corner[:, 1]]

    return embed


def small_run(folder: Path, *, people: int = 4, images: int = 5, template: str = "arcface_112") -> Path:
    """A run of random weights on a tiny set beside it."""
    prepared = open_prepared(tiny_set(folder / "set", val_people=people, images=images))
    run = folder / "run"
    run.mkdir()
    arrays = random_state(SMALL, 0)
    checkpoint = Checkpoint(
        settings=FitSettings(data=DataSettings(path=str(prepared.folder))),
        network=SMALL,
        data=replace(SetFacts.of(prepared.manifest), template=template),
        step=3,
        backbone={name: torch.from_numpy(values) for name, values in arrays.items()},
        momentum={},
        centres={"weight": torch.zeros(0, SMALL.dimensions)},
    )
    save_checkpoint(run / CHECKPOINT, checkpoint)
    return run
