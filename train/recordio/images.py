"""Crops as bytes: decoded, or encoded as the files of others hold them.

Enters: bytes of a JPEG or PNG, or a crop. Leaves: the other of the two, or the reason why not.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from realtime.capture.photo import decode_photo
from realtime.errors import PhotoError
from train.errors import DataError

# S side of a crop, pixels; 3 channels RGB
FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP")
"""Pillow's names of what such files hold; no other decoder is tried."""

_HEADER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    AttributeError,
    EOFError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What these four of Pillow's plugins let out on a broken beginning (it promises OSError only)."""

QUALITY: Final = 95
"""What im2rec and RecBuilder encode with."""


def decode_crop(content: bytes, size: int, where: str) -> NDArray[np.uint8] | str:
    """
    Args:
        content: an encoded image.
        size: side that it must have; nothing is decoded that has another.
        where: names it, for the decoder.

    Returns:
        (size, size, 3) uint8 RGB, or why there is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and odd tags: those are refused, or do not matter
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                found = image.size
    except _HEADER_ERRORS:
        return "is no image that can be decoded" if content else "is empty (0 bytes)"
    if found != (size, size):
        return f"is not an aligned crop (has {found[0]}x{found[1]} pixels, not {size}x{size})"
    try:
        return decode_photo(content, Path(where))
    except PhotoError:
        return "is damaged or cut short"


def encode_crop(crop_SS3: NDArray[np.uint8], quality: int = QUALITY) -> bytes:
    """A JPEG by OpenCV, as mxnet's ``pack_img`` makes it.

    Args:
        crop_SS3: (S, S, 3) uint8 RGB.
        quality: 1 to 100.

    Raises:
        DataError: not a crop that OpenCV encodes.
    """
    done, content = cv2.imencode(".jpg", crop_SS3[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"a crop of shape {crop_SS3.shape} cannot be encoded as a JPEG")
    return content.tobytes()
