"""One enrolled picture of one person, on its way into a gallery or out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime.people.reference_crop import ReferenceCrop


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """The embedding of a face, where it came from, and what it was worth."""

    embedding_D: NDArray[np.float32]
    photo_sha256: str
    """Of the photo's bytes (of the crop's, for a camera's view): the same photo is one reference."""
    source: str
    """The photo's file name or the camera's name, for people."""
    quality: float
    """0..1, the weight of the view."""
    size_px: float = 0.0
    """Width of the face's box, pixels of its photo."""
    sharpness: float = 0.0
    yaw_deg: float = 0.0
    crop: ReferenceCrop | None = None
    """None where ``gallery.store_crops`` is off: such a reference cannot move to another model."""
    created_at: str = ""
    """ISO 8601, UTC; the gallery fills it in."""

    def __post_init__(self) -> None:
        if self.embedding_D.ndim != 1 or self.embedding_D.dtype != np.float32:
            raise ValueError(
                f"embedding must be float32 (D,), but got {self.embedding_D.dtype} {self.embedding_D.shape}"
            )
        if not np.isfinite(self.embedding_D).all():
            raise ValueError("embedding must be finite")
        if len(self.photo_sha256) != 64:
            raise ValueError(f"photo_sha256 is {self.photo_sha256!r}; expected 64 hex digits")
