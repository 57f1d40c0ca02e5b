"""Aligned crops to embeddings, in micro-batches.

Enters: crops of any number of faces. Leaves: one embedding each. On a CPU a batch buys at most a fifth, so batches stay
small for the sake of latency; on a GPU the engine's own buckets do the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engines.engine import Engine, Faces_NHWC, LoadedEngine, open_model
from engines.export import ModelFile
from engines.manifest import Manifest
from engines.quantise import Calibration
from engines.store import default_model, find_model
from realtime.errors import EngineError, RealtimeError
from realtime.faces.alignment import TEMPLATES
from realtime.records import RGB_HW3
from realtime.settings import EmbedSettings

CALIBRATION_FACES: Final = 300
"""Faces that int8 is calibrated on at most: more take longer and change nothing."""

Enrolled = Callable[[str, int], Faces_NHWC]
"""Gives the stored crops of enrolled people in a template, so many at most: (N, S, S, 3) uint8 RGB, N may be 0."""


def open_embedder(settings: EmbedSettings, *, enrolled: Enrolled | None = None, wait: bool = True) -> LoadedEngine:
    """The engine that the ``embed`` section names.

    Args:
        settings: the section.
        enrolled: faces for int8 where ``embed.calibration`` names none; asked only if they are needed.
        wait: False gives what is ready at once; the engine then knows of a ``better`` one.

    Raises:
        EngineError: it cannot be had.
        RealtimeError: it was trained on faces that are aligned in a way that this program does not know: its answers
            would look right and be worth little.
    """
    model = find_model(settings.model) if settings.model else default_model()
    _check_template(model)
    return open_model(
        model,
        runtime=settings.runtime,
        precision=settings.precision,
        threads=settings.threads,
        require_gpu=settings.require_gpu,
        on_device_loss=settings.on_gpu_loss,
        calibration=_calibration(settings, model.manifest, enrolled),
        wait=wait,
    )


def _calibration(settings: EmbedSettings, manifest: Manifest, enrolled: Enrolled | None) -> Calibration:
    def faces() -> Faces_NHWC:
        return calibration_faces(settings, manifest, enrolled)

    if not settings.calibration:
        return Calibration(faces=faces, source="people of a gallery")
    folder = Path(settings.calibration).expanduser().absolute()
    return Calibration(faces=faces, source=f"photos of {folder.name}", origin=f"{folder} {_state(folder)}")


def _state(folder: Path) -> str:
    """Changes when a file comes, goes or changes; 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted((folder, *folder.rglob("*"))):
        with contextlib.suppress(OSError):
            digest.update(f"{path}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\0".encode(errors="replace"))
    return digest.hexdigest()[:16]


def _check_template(model: ModelFile) -> None:
    manifest = model.manifest
    template = TEMPLATES.get(manifest.template)
    if template is None or template.size != manifest.input_size:
        known = ", ".join(f"{name} ({each.size} pixels)" for name, each in TEMPLATES.items())
        raise RealtimeError(
            f"{model.where}: made for faces aligned to {manifest.template!r} at "
            f"{manifest.input_size} pixels, and known are {known}; use a model of one of these"
        )


def calibration_faces(settings: EmbedSettings, manifest: Manifest, enrolled: Enrolled | None) -> Faces_NHWC:
    """(N, S, S, 3) uint8 RGB aligned faces for int8: of the folder that the settings name, else of those enrolled.

    Raises:
        EngineError: too few, and what to do.
    """
    from engines.quantise import MIN_FACES

    if settings.calibration:
        from engines.verification.faces import read_faces

        where = settings.calibration
        faces_NHWC = read_faces(
            Path(where).expanduser(),
            template=manifest.template,
            size=manifest.input_size,
            options={},
            limit=CALIBRATION_FACES,
        ).faces_NSS3
        advice = "point it at more"
    else:
        where = "the gallery"
        faces_NHWC = (
            np.empty((0, manifest.input_size, manifest.input_size, 3), dtype=np.uint8)
            if enrolled is None
            else enrolled(manifest.template, CALIBRATION_FACES)
        )
        advice = "enrol more people with another embed.precision, or name a folder of photos as embed.calibration"
    if len(faces_NHWC) < MIN_FACES:
        raise EngineError(
            f"int8 is calibrated on {MIN_FACES} faces or more, and {where} holds {len(faces_NHWC)}; {advice}"
        )
    return np.ascontiguousarray(faces_NHWC)


def embed_in_batches(engine: Engine, crops: Faces_NHWC | Sequence[RGB_HW3], max_batch: int) -> NDArray[np.float32]:
    """(N, D) float32, in the crops' order; N = 0 gives (0, D)."""
    if not len(crops):
        return np.zeros((0, engine.manifest.dimensions), dtype=np.float32)
    starts = range(0, len(crops), max_batch)
    parts = [engine.run(np.stack([*crops[start : start + max_batch]])) for start in starts]
    return np.concatenate(parts)


def fuse(
    embeddings_ND: NDArray[np.float32], weights_N: NDArray[np.float32], *, unit_length: bool
) -> NDArray[np.float32]:
    """(D,) weighted mean of views of one face, back to length 1 where the model's embeddings have it."""
    total = float(weights_N.sum())
    mean_D = weights_N @ embeddings_ND / np.float32(total if total > 0 else 1.0)
    if unit_length:
        mean_D = mean_D / np.float32(max(float(np.linalg.norm(mean_D)), 1e-12))
    fused: NDArray[np.float32] = mean_D.astype(np.float32)
    return fused
