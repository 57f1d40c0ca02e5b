"""What a run gives away of some people: the pictures that can be drawn out of it, beside the real faces.

Enters: a run, whom to draw (its subjects by name, or embeddings), a prepared set to show real faces from. Leaves: an
``Audit``: a grid as PNG, and the cosines that were reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from realtime.records import RGB_HW3
from realtime.show.text import Lettering
from train.errors import ConfigError, DataError
from train.inversion.invert import Inverted, Progress, invert
from train.inversion.targets import ClosedSet, OpenSet, Target
from train.prepared import PreparedSet
from train.preparing.sheet import FAINT, GAP_PX, INK, NAMES_PX, PAPER, TEXT_PX, png_of, write_line
from train.runs import Run

# W people who are drawn, I pictures of each, one beside the other; B = W * I; S side; D embedding

WARNING: Final = (
    "Model inversion draws faces of people out of a model's weights. It is here to see what a model of your own would "
    "give away before you publish it. Do not use it on models or people that are not yours to examine; its pictures "
    "are personal data."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Aim:
    """Whom to draw."""

    names: tuple[str, ...]
    """W, for people to read."""
    target: Target
    """Of all B pictures."""
    images: int
    """I."""
    kind: str
    """``closed set`` or ``open set``."""
    real_WSS3: tuple[NDArray[np.uint8] | None, ...]
    """A real face of each, where there is one to show."""


def aim_at_subjects(run: Run, subjects: Sequence[str], images: int, prepared: PreparedSet | None) -> Aim:
    """Classes of the run.

    Args:
        run: whose network is on the device to be used.
        subjects: names among those it was trained on.
        images: of each, from different noise.
        prepared: a set with real faces of them; None shows none.

    Raises:
        ConfigError: the run has no such subject, or no class centres.
    """
    if run.centres_CKD is None:
        raise ConfigError(f"{run.path}: was trained without class centres; give --photo or --embedding instead")
    place = {subject: label for label, subject in enumerate(run.subjects)}
    for subject in subjects:
        if subject not in place:
            some = ", ".join(run.subjects[:3])
            raise ConfigError(f"--subject {subject}: the run knows no such subject; it has {len(place)}, as {some}")
    device = next(run.module.parameters()).device
    labels = [place[subject] for subject in subjects for _ in range(images)]
    return Aim(
        names=tuple(subjects),
        target=ClosedSet(run.centres_CKD.to(device), torch.tensor(labels, device=device)),
        images=images,
        kind="closed set",
        real_WSS3=tuple(_real(prepared, subject, run.size) for subject in subjects),
    )


def aim_at_embedding(
    run: Run, name: str, embedding_D: NDArray[np.float32], images: int, real_SS3: NDArray[np.uint8] | None
) -> Aim:
    """Somebody whom the run need not know.

    Raises:
        DataError: an embedding of another length, or one that is no direction.
    """
    wanted = run.network.dimensions
    if embedding_D.shape != (wanted,) or not np.isfinite(embedding_D).all() or not np.linalg.norm(embedding_D):
        raise DataError(f"{name}: {wanted} finite numbers are needed, not all 0; got shape {embedding_D.shape}")
    device = next(run.module.parameters()).device
    targets_BD = torch.from_numpy(embedding_D.astype(np.float32)).to(device).expand(images, -1)
    return Aim(names=(name,), target=OpenSet(targets_BD), images=images, kind="open set", real_WSS3=(real_SS3,))


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """What came out."""

    aim: Aim
    found: Inverted

    def to_json(self) -> dict[str, Any]:
        people = {}
        for place, name in enumerate(self.aim.names):
            own = slice(place * self.aim.images, (place + 1) * self.aim.images)
            people[name] = {
                "cosines": [round(float(cosine), 4) for cosine in self.found.cosines_B[own]],
                "noise_cosines": [round(float(cosine), 4) for cosine in self.found.noise_cosines_B[own]],
            }
        return {
            "kind": self.aim.kind,
            "steps": len(self.found.losses_T),
            "stopped": self.found.stopped,
            "first_loss": float(self.found.losses_T[0]),
            "last_loss": float(self.found.losses_T[-1]),
            "mean_cosine": round(float(self.found.cosines_B.mean()), 4),
            "people": people,
        }


def audit(run: Run, aim: Aim, *, steps: int, seed: int, progress: Progress | None = None) -> Audit:
    """Draw them all at once: the norms' statistics are of many faces, and so is the batch's."""
    images = len(aim.names) * aim.images
    found = invert(run.module, aim.target, images=images, size=run.size, steps=steps, seed=seed, progress=progress)
    return Audit(aim=aim, found=found)


def grid(result: Audit) -> bytes:
    """PNG: a row a person, the real face first where there is one, then what was drawn, each with its cosine."""
    aim, pictures = result.aim, result.found.pictures_BSS3
    size = pictures.shape[1]
    step, line, head = size + GAP_PX, size + TEXT_PX + 3 * GAP_PX, 2 * TEXT_PX
    shape = (head + len(aim.names) * line, NAMES_PX + (1 + aim.images) * step, 3)
    canvas: RGB_HW3 = np.full(shape, PAPER, dtype=np.uint8)
    letters = Lettering()
    title = f"{aim.kind}, {len(result.found.losses_T)} steps; cosine to the target"
    write_line(canvas, letters, title, GAP_PX, GAP_PX, INK, shape[1] - 2 * GAP_PX)
    for place, (name, real) in enumerate(zip(aim.names, aim.real_WSS3, strict=True)):
        top = head + place * line
        write_line(canvas, letters, name, GAP_PX, top + size // 2 - TEXT_PX, INK, NAMES_PX - GAP_PX)
        if real is not None:
            canvas[top : top + size, NAMES_PX : NAMES_PX + size] = real
            write_line(canvas, letters, "real", NAMES_PX, top + size + 1, FAINT, size)
        for column in range(aim.images):
            drawn = place * aim.images + column
            left = NAMES_PX + (1 + column) * step
            canvas[top : top + size, left : left + size] = pictures[drawn]
            words = f"{result.found.cosines_B[drawn]:.2f}"
            write_line(canvas, letters, words, left, top + size + 1, FAINT, size)
    return png_of(canvas)


def _real(prepared: PreparedSet | None, subject: str, size: int) -> NDArray[np.uint8] | None:
    """The first face of a subject, where the set has the run's crops and the subject."""
    if prepared is None or prepared.manifest.size != size or subject not in prepared.train.subjects:
        return None
    rows = np.flatnonzero(prepared.train.labels_N == prepared.train.subjects.index(subject))
    return np.array(prepared.train.crops_NSS3[rows[0]]) if len(rows) else None
