"""How far each image is from what most of its class looks like.

Enters: embeddings of a set, their labels, and K centres of each class. Leaves: each class's dominant centre, the angle
of each image to it, and a sample of the angles at which strangers stand.

Source: ArcFace (arXiv 1801.07698v4), section 3.4: an image belongs to its class's nearest sub-centre; the dominant one
has most images; what is 75 degrees or more away from it is taken for noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# N images; C classes, K centres of each; D embedding; M comparisons
Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]

CHUNK: Final = 4096
"""Images worked on at a time: 25 MB for three centres of 512 numbers."""

COMPARISONS: Final = 200_000
"""Of strangers; a share of 1 in 1,000 is then known to 7 %."""

SHORTEST: Final = 1e-12
"""Length below which a vector is taken for 0, whose direction is nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Angles:
    """Of a set's images to their own classes, degrees."""

    own_N: Float32
    """To the dominant centre of the image's class."""
    centre_N: Ints
    """Which of its class's centres is nearest, 0 to K - 1."""
    counts_CK: Ints
    """Images at each centre."""
    dominant_CD: Float32
    """Unit length."""


def unit(vectors_XD: Float32) -> Float32:
    """The same directions, of length 1; any number of axes before the last."""
    lengths = np.linalg.norm(vectors_XD, axis=-1, keepdims=True)
    turned: Float32 = (vectors_XD / np.maximum(lengths, SHORTEST)).astype(np.float32, copy=False)
    return turned


def centred(embeddings_ND: Float32) -> Float32:
    """Directions from the mean of all embeddings.

    Networks trained by distance, as dlib's descriptor, crowd all faces into a corner of the sphere: two strangers are
    35 degrees apart. Seen from the mean they are 90 apart, as those of an ArcFace network, and 75 means the same.
    """
    return unit(embeddings_ND - embeddings_ND.mean(axis=0, dtype=np.float64).astype(np.float32))


def measure(embeddings_ND: Float32, labels_N: Ints, centres_CKD: Float32) -> Angles:
    """
    Args:
        embeddings_ND: of any length.
        labels_N: places in the classes.
        centres_CKD: of any length.

    Raises:
        ValueError: shapes that do not fit, or a label beyond the classes.
    """
    if embeddings_ND.shape != (len(labels_N), centres_CKD.shape[-1]) or centres_CKD.ndim != 3:
        raise ValueError(f"embeddings {embeddings_ND.shape}, labels {labels_N.shape}, centres {centres_CKD.shape}")
    classes, centres, _ = centres_CKD.shape
    if len(labels_N) and not 0 <= labels_N.min() <= labels_N.max() < classes:
        raise ValueError(f"labels {labels_N.min()} to {labels_N.max()} for {classes} classes")
    unit_CKD = unit(centres_CKD)
    nearest = [
        np.einsum("nd,nkd->nk", embeddings_ND[rows], unit_CKD[labels_N[rows]]).argmax(axis=1)
        for rows in _chunks(len(labels_N))
    ]
    centre_N = np.concatenate([np.zeros(0, dtype=np.int64), *nearest])
    counts_CK = np.bincount(labels_N * centres + centre_N, minlength=classes * centres).reshape(classes, centres)
    dominant_CD = unit_CKD[np.arange(classes), counts_CK.argmax(axis=1)]
    return Angles(
        own_N=angles_to(embeddings_ND, dominant_CD, labels_N),
        centre_N=centre_N,
        counts_CK=counts_CK,
        dominant_CD=dominant_CD,
    )


def angles_to(embeddings_ND: Float32, centres_CD: Float32, classes_N: Ints) -> Float32:
    """(N,) degrees between each embedding and the centre of the class that is named for it."""
    found = [
        _degrees(np.einsum("nd,nd->n", unit(embeddings_ND[rows]), centres_CD[classes_N[rows]]))
        for rows in _chunks(len(classes_N))
    ]
    return np.concatenate([np.zeros(0, dtype=np.float32), *found])


def strangers(embeddings_ND: Float32, labels_N: Ints, dominant_CD: Float32, *, seed: int = 1) -> Float32:
    """(M,) degrees, ascending: images to dominant centres of classes that are not theirs, drawn at random.

    An image under a wrong name stands so to its class: this is what wrong labels look like, known without any.
    """
    if len(dominant_CD) < 2 or not len(labels_N):
        return np.zeros(0, dtype=np.float32)
    random = np.random.default_rng(seed)
    rows_M = random.integers(0, len(labels_N), COMPARISONS)
    others_M = (labels_N[rows_M] + random.integers(1, len(dominant_CD), COMPARISONS)) % len(dominant_CD)
    parts = [angles_to(embeddings_ND[rows_M[part]], dominant_CD, others_M[part]) for part in _chunks(COMPARISONS)]
    return np.sort(np.concatenate(parts))


def nearest_class(embeddings_ND: Float32, dominant_CD: Float32) -> tuple[Ints, Float32]:
    """Class whose dominant centre is nearest to each embedding, and the angle, degrees."""
    classes: list[Ints] = [np.zeros(0, dtype=np.int64)]
    angles: list[Float32] = [np.zeros(0, dtype=np.float32)]
    for rows in _chunks(len(embeddings_ND)):
        cosines_NC = unit(embeddings_ND[rows]) @ dominant_CD.T
        classes.append(cosines_NC.argmax(axis=1))
        angles.append(_degrees(cosines_NC.max(axis=1)))
    return np.concatenate(classes), np.concatenate(angles)


def _degrees(cosines_N: NDArray[np.float32]) -> Float32:
    found: Float32 = np.degrees(np.arccos(np.clip(cosines_N, -1, 1)))
    return found


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
