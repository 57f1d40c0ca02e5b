"""What the tests of people/ share: a model's manifest, embeddings of nobody, one real face, the real analyser."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest
from realtime.faces.analysis import FaceAnalyser, open_analyser
from realtime.people.reference import Reference
from realtime.people.reference_crop import ReferenceCrop
from realtime.settings import Settings

MODEL = Manifest(
    name="test-model",
    network="test",
    weights_sha256="ab" * 32,
    template="arcface_112",
    input_size=112,
    dimensions=8,
    unit_length=True,
    mirrored=False,
    threshold=0.3,
    threshold_fmr=1e-5,
    threshold_source="test",
    licence="MIT",
)

OTHER_MODEL = replace(MODEL, name="other-model", weights_sha256="cd" * 32, dimensions=4)


def unit(seed: int, dimensions: int = 8) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=dimensions)
    return (values / np.linalg.norm(values)).astype(np.float32)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def crop(seed: int = 0) -> ReferenceCrop:
    picture = np.random.default_rng(seed).integers(0, 255, (200, 200, 3), np.uint8)
    points = np.array([(130, 80), (115, 80), (70, 80), (85, 80), (100, 120)], dtype=np.float64)
    return ReferenceCrop.of(picture, points, "arcface_112")


def reference(seed: int, *, photo: str | None = None, crop: ReferenceCrop | None = None) -> Reference:
    photo = photo or f"{seed}.jpg"
    return Reference(
        embedding_D=unit(seed), photo_sha256=sha(photo), source=photo, quality=0.5, size_px=100.0, crop=crop
    )


def astronaut() -> Path:
    """A public-domain portrait of Eileen Collins that scikit-image's wheel carries."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data" / "astronaut.png"


@functools.cache
def analyser() -> FaceAnalyser:
    """The real one, opened once: detector, landmarks and the embedded network."""
    return open_analyser(Settings())
