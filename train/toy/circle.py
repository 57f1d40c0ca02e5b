"""A network with two outputs: where a loss puts faces and class centres on the circle.

Enters: the toy's faces and a loss. Leaves: the angle of every face and every centre after training.

In two dimensions a run fails where it would not in 512: centres cannot walk around each other, and a fast one runs into
its neighbour for good. So they start evenly on the circle, are long, which makes them turn slowly, and every batch has
as many faces of each person.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.fit.crops import as_images
from train.settings import LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks
from train.toy.faces import SIDE, ToyFaces

# N faces; B of a batch; C classes
WIDTH: Final = 16
"""Channels of the first layer."""
HIDDEN: Final = 64
"""Numbers before the last two."""
PER_CLASS: Final = 8
"""Faces of one person in a batch."""
CENTRE_LENGTH: Final = 30.0
"""At the start. A step of length d turns a centre by d / 30."""
RATE: Final = 0.05
MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 5e-4
CLIP_NORM: Final = 5.0
"""As the presets of fit have it; the first steps of ArcFace with s = 64 are large."""


@dataclass(frozen=True, slots=True, eq=False)
class Circle:
    """Where one loss has put the faces it was trained on."""

    kind: str
    angles_N: NDArray[np.float64]
    """Of faces, radians in [-pi, pi]."""
    centres_C: NDArray[np.float64]
    """Of class centres, radians in [-pi, pi]."""
    labels_N: NDArray[np.int64]

    @property
    def own_deg(self) -> float:
        """Mean angle between a face and its centre."""
        return float(np.degrees(self._to_centres()[np.arange(len(self.labels_N)), self.labels_N]).mean())

    @property
    def apart_deg(self) -> float:
        """Smallest angle between two centres."""
        ordered = np.sort(self.centres_C)
        return float(np.degrees(np.diff(ordered, append=ordered[:1] + math.tau).min()))

    @property
    def nearest(self) -> float:
        """Share of faces whose own centre is the nearest."""
        return float((self._to_centres().argmin(axis=1) == self.labels_N).mean())

    def _to_centres(self) -> NDArray[np.float64]:
        """(N, C) angles, radians in [0, pi]."""
        turns = np.abs(self.angles_N[:, None] - self.centres_C[None])
        return np.minimum(turns, math.tau - turns)


def train_circle(
    faces: ToyFaces,
    loss: LossSettings,
    *,
    epochs: int,
    seed: int,
    progress: Callable[[int, int], object] | None = None,
) -> Circle:
    """Train a small network and its centres from nothing; the same seed gives the same circle on the same machine.

    Args:
        faces: see ``toy_faces``.
        loss: any with centres.
        epochs: rounds in which as many faces are seen as there are.
        seed: of weights, order and mirroring.
        progress: told (steps done, steps in all).
    """
    classes, per_step = len(faces.subjects), PER_CLASS * len(faces.subjects)
    steps = max(1, epochs * len(faces) // per_step)
    with _alone_and_seeded(seed):
        network = _network()
        centres = ClassCentres(classes, 2, loss, Ranks.alone(), seed=seed)
        centres.load_whole(_even(classes))
        optimiser = torch.optim.SGD(
            [each for each in (*network.parameters(), *centres.parameters()) if each.requires_grad],
            lr=RATE,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        )
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        random = np.random.default_rng(seed)
        by_class = [np.flatnonzero(faces.labels_N == label) for label in range(classes)]
        for step in range(steps):
            rows_B = np.concatenate([random.choice(rows, PER_CLASS) for rows in by_class])
            images_B = _images(faces, rows_B, torch.from_numpy(random.random(per_step) < 0.5))
            found = centres(network(images_B), torch.from_numpy(faces.labels_N[rows_B]), step=step)
            optimiser.zero_grad()
            found.loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
            optimiser.step()
            falling.step()
            if progress is not None:
                progress(step + 1, steps)
        return Circle(
            kind=loss.kind,
            angles_N=_angles(_embedded(network, faces)),
            centres_C=_angles(centres.whole_weight()),
            labels_N=faces.labels_N,
        )


def _network() -> nn.Module:
    last = SIDE // 16
    network = nn.Sequential(
        *_halving(3, WIDTH),
        *_halving(WIDTH, 2 * WIDTH),
        *_halving(2 * WIDTH, 4 * WIDTH),
        *_halving(4 * WIDTH, 8 * WIDTH),
        nn.Flatten(),
        nn.Linear(8 * WIDTH * last * last, HIDDEN),
        nn.BatchNorm1d(HIDDEN),
        nn.PReLU(),
        nn.Linear(HIDDEN, 2),
        nn.BatchNorm1d(2),
    )
    # as in iresnet: the last norm keeps faces all around the centre of the circle, and scales neither dimension
    network[-1].weight.requires_grad_(False)
    return network


def _halving(channels: int, filters: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(channels, filters, 3, 2, 1, bias=False), nn.BatchNorm2d(filters), nn.PReLU(filters)


def _even(classes: int) -> Tensor:
    """(C, 2) evenly on a circle."""
    turns_C = torch.arange(classes) * (math.tau / classes)
    return CENTRE_LENGTH * torch.stack([turns_C.cos(), turns_C.sin()], dim=1)


def _images(faces: ToyFaces, rows_B: NDArray[np.int64], flips_B: Tensor) -> Tensor:
    return as_images(torch.from_numpy(faces.crops_NSS3[rows_B]), flips_B, channels_last=False)


@torch.no_grad()
def _embedded(network: nn.Module, faces: ToyFaces) -> Tensor:
    network.eval()
    parts = np.array_split(np.arange(len(faces)), -(-len(faces) // 256))
    return torch.cat([network(_images(faces, rows, torch.zeros(len(rows), dtype=torch.bool))) for rows in parts])


def _angles(vectors_N2: Tensor) -> NDArray[np.float64]:
    vectors: NDArray[np.float64] = vectors_N2.double().numpy()
    return np.arctan2(vectors[:, 1], vectors[:, 0])


@contextmanager
def _alone_and_seeded(seed: int) -> Iterator[None]:
    """One thread, which is quickest for layers so small; the caller's threads and random numbers are left as found."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
