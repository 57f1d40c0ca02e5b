"""The rows of the ArcFace paper's table on CASIA, each as the settings that give it.

Enters: nothing. Leaves: a title, the ``section.key=value`` pairs and the paper's figures. ``python -m train fit
configs/kface_r50.yaml --set loss.kind=cosface`` is a row.

Source: ArcFace (arXiv 1801.07698v4), table 2: ResNet50 on CASIA, verification accuracy on LFW, CFP-FP and AgeDB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """A loss of the paper."""

    title: str
    overrides: tuple[str, ...]
    """As ``--set`` takes them; the rest are the defaults, s = 64."""
    published: tuple[float, float, float]
    """Accuracy in percent on LFW, CFP-FP and AgeDB."""


INTRA: Final = "loss.intra=1"
INTER: Final = "loss.inter=1"
"""The paper's equations 5 and 6 have weight 1."""

BY_PERSON: Final = "data.per_subject=4"
"""A triplet needs mates in its batch."""

ROWS: Final = (
    Row("ArcFace (0.4)", ("loss.kind=arcface", "loss.m2=0.4"), (99.53, 95.41, 94.98)),
    Row("ArcFace (0.45)", ("loss.kind=arcface", "loss.m2=0.45"), (99.46, 95.47, 94.93)),
    Row("ArcFace (0.5)", ("loss.kind=arcface",), (99.53, 95.56, 95.15)),
    Row("ArcFace (0.55)", ("loss.kind=arcface", "loss.m2=0.55"), (99.41, 95.32, 95.05)),
    Row("SphereFace (1.35)", ("loss.kind=sphereface",), (99.11, 94.38, 91.70)),
    Row("CosFace (0.35)", ("loss.kind=cosface",), (99.51, 95.44, 94.56)),
    Row("CM1 (1, 0.3, 0.2)", ("loss.kind=cm1",), (99.48, 95.12, 94.38)),
    Row("CM2 (0.9, 0.4, 0.15)", ("loss.kind=cm2",), (99.50, 95.24, 94.86)),
    Row("Softmax", ("loss.kind=softmax",), (99.08, 94.39, 92.33)),
    Row("Norm-Softmax (s = 64)", ("loss.kind=norm_softmax",), (98.56, 89.79, 88.72)),
    Row("Norm-Softmax (s = 20)", ("loss.kind=norm_softmax", "loss.scale=20"), (99.20, 94.61, 92.65)),
    Row("Norm-Softmax + Intra", ("loss.kind=norm_softmax", "loss.scale=20", INTRA), (99.30, 94.85, 93.58)),
    Row("Norm-Softmax + Inter", ("loss.kind=norm_softmax", "loss.scale=20", INTER), (99.22, 94.73, 92.94)),
    Row(
        "Norm-Softmax + Intra + Inter", ("loss.kind=norm_softmax", "loss.scale=20", INTRA, INTER), (99.31, 94.88, 93.76)
    ),
    Row("Triplet (0.35)", ("loss.kind=triplet", "loss.triplet_margin=0.35", BY_PERSON), (98.98, 91.90, 89.98)),
    Row("ArcFace + Intra", ("loss.kind=arcface", INTRA), (99.45, 95.37, 94.73)),
    Row("ArcFace + Inter", ("loss.kind=arcface", INTER), (99.43, 95.25, 94.55)),
    Row("ArcFace + Intra + Inter", ("loss.kind=arcface", INTRA, INTER), (99.43, 95.42, 95.10)),
    Row("ArcFace + Triplet", ("loss.kind=arcface", "loss.triplet=1", BY_PERSON), (99.50, 95.51, 94.40)),
)
