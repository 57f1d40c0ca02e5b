"""Frames with faces in them, of any size, the same at every call.

Enters: a frame's size. Leaves: drawn backgrounds with faces of 90 pixels and more on them: the photo of a face that
scikit-image brings where it is installed, those of a folder where one is named, and drawn ones, which dlib's detector
takes for faces too.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from engines.errors import EngineError
from engines.parity import drawn_faces

PHOTOS: Final = "REALTIME_PHOTOS"
"""Environment variable: a folder of JPEG or PNG photos, each laid into some frames as it is."""

SMALLEST: Final = 90
"""Of a face on a frame, pixels; dlib's window is 80."""

MARGIN: Final = 1.6
"""A face's picture is so many times as large as the face."""

Picture = NDArray[np.uint8]


def scenes(width: int, height: int, count: int) -> NDArray[np.uint8]:
    """(count, height, width, 3) RGB, one to nine pictures on each as there is room.

    Raises:
        EngineError: the folder of photos holds none, or they cannot be read.
    """
    random = np.random.default_rng(1920)
    pictures = [*_photos(), *_astronaut(), *drawn_faces(160, 6)]
    frames = np.stack([_background(width, height, random) for _ in range(count)])
    turn = 0
    for frame in frames:
        for _ in range(max(1, min(9, width * height // 90_000))):
            _lay(frame, pictures[turn % len(pictures)], random)
            turn += 1
    return frames


def _background(width: int, height: int, random: np.random.Generator) -> Picture:
    """Coarse noise made smooth, with fine noise on it."""
    coarse = torch.from_numpy(random.uniform(40, 215, (1, 3, 6, 8)).astype(np.float32))
    smooth = functional.interpolate(coarse, size=(height, width), mode="bilinear")[0].permute(1, 2, 0).numpy()
    fine = random.integers(-6, 7, (height, width, 1))
    return np.clip(smooth + fine, 0, 255).astype(np.uint8)


def _lay(frame: Picture, picture: Picture, random: np.random.Generator) -> None:
    """The picture somewhere on the frame, so large that its face can be found."""
    height, width = frame.shape[:2]
    least, most = int(SMALLEST * MARGIN), int(min(height, width, 4 * SMALLEST * MARGIN))
    side = int(random.integers(min(least, most), most + 1))
    scale = side / max(picture.shape[:2])
    size = max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale))
    planes = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    laid = functional.interpolate(planes, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    y, x = random.integers(0, height - size[0] + 1), random.integers(0, width - size[1] + 1)
    frame[y : y + size[0], x : x + size[1]] = np.clip(laid, 0, 255).astype(np.uint8)


def _astronaut() -> list[Picture]:
    """The face on the photo of Eileen Collins, of NASA, in the public domain; nothing where it is not installed."""
    if importlib.util.find_spec("skimage") is None:
        return []
    from skimage import data

    photo: Picture = np.asarray(data.astronaut(), dtype=np.uint8)  # type: ignore[no-untyped-call]
    return [photo[30:210, 130:310]]


def _photos() -> list[Picture]:
    if not (folder := os.environ.get(PHOTOS)):
        return []
    from PIL import Image, UnidentifiedImageError

    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise EngineError(f"{folder}: no JPEG or PNG photos; set {PHOTOS} to a folder of photos with faces")
    try:
        return [np.asarray(Image.open(path).convert("RGB"), dtype=np.uint8) for path in paths[:64]]
    except (OSError, UnidentifiedImageError) as err:
        raise EngineError(f"{folder}: a photo cannot be read ({err}); take it out of the folder") from err
