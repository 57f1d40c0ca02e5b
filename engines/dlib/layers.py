"""The layer lists of dlib's two pretrained networks.

A ``.dat`` file carries no names for its tags and skips: whoever reads it must know the list. Layers stand here in the
order of computation, from the input on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["con", "affine", "relu", "max_pool", "avg_pool", "add_prev", "fc", "tag", "skip"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One layer: what the file must hold at its place."""

    kind: Kind
    filters: int = 0
    """Output channels."""
    channels: int = 0
    """Input channels."""
    size: int = 0
    """Side of a convolution or pooling window; 0 pools everything."""
    stride: int = 1

    @property
    def pad(self) -> int:
        """dlib's rule: half the window at stride 1, nothing at a larger one; poolings never pad here."""
        return self.size // 2 if self.kind == "con" and self.stride == 1 else 0

    @property
    def bare(self) -> bool:
        """A tag or skip: marks a place, stores nothing but a version."""
        return self.kind in ("tag", "skip")


def _con(filters: int, channels: int, size: int, stride: int) -> tuple[Spec, Spec]:
    return Spec("con", filters, channels, size, stride), Spec("affine", filters, filters)


def _residual(filters: int, channels: int, stride: int) -> tuple[Spec, ...]:
    """relu(shortcut + affine(conv(relu(affine(conv))))); a stride of 2 averages the shortcut over 2x2."""
    body = (
        Spec("tag"),
        *_con(filters, channels, 3, stride),
        Spec("relu"),
        *_con(filters, filters, 3, 1),
    )
    shortcut = () if stride == 1 else (Spec("tag"), Spec("skip"), Spec("avg_pool", size=2, stride=2))
    return (*body, *shortcut, Spec("add_prev"), Spec("relu"))


def _resnet() -> tuple[Spec, ...]:
    layers: list[Spec] = [*_con(32, 3, 7, 2), Spec("relu"), Spec("max_pool", size=3, stride=2)]
    channels = 32
    for filters, down, blocks in ((32, False, 3), (64, True, 3), (128, True, 2), (256, True, 2), (256, True, 0)):
        if down:
            layers += _residual(filters, channels, 2)
        channels = filters
        layers += _residual(filters, filters, 1) * blocks
    return (*layers, Spec("avg_pool"), Spec("fc", 128, 256))


def _mmod() -> tuple[Spec, ...]:
    layers: list[Spec] = []
    channels = 3
    for filters, stride in ((16, 2), (32, 2), (32, 2), (45, 1), (45, 1), (45, 1)):
        layers += [*_con(filters, channels, 5, stride), Spec("relu")]
        channels = filters
    return (*layers, Spec("con", 1, 45, 9, 1))


RESNET: Final = _resnet()
"""``dlib_face_recognition_resnet_model_v1``: 29 convolutions, 150x150 RGB -> 128."""

MMOD: Final = _mmod()
"""``mmod_human_face_detector``: a tiled image pyramid -> one score for every 8x8 pixels of it."""
