"""A photo on disk becomes pixels, or one sentence that says why not.

Enters: a path that a person gave. Leaves: upright uint8 RGB (H, W, 3), whatever the file's orientation tag, colours or
depth, and the sha256 by which a gallery knows the photo again. Files are hostile until decoded: formats are a fixed
list, sizes are checked before a pixel is decoded.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from realtime.errors import PhotoError
from realtime.records import RGB_HW3

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 100_000_000
"""300 MB as RGB. A decompression bomb is a few kilobytes that unpack to a thousand times that."""

MAX_FILE_BYTES: Final = 512 << 20
"""An uncompressed 16-bit picture of ``MAX_PIXELS`` fits; a film under a photo's name does not."""

READABLE_SUFFIXES: Final = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
)
"""What Pillow decodes in every wheel (AVIF in most; where not, the file is refused with a sentence)."""

RAW_SUFFIXES: Final = frozenset(
    (".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw", ".raw")
)
"""Camera raw. Most are TIFF inside, where Pillow would find a thumbnail and call it the photo."""

HEIC_SUFFIXES: Final = frozenset((".heic", ".heif", ".hif"))

PHOTO_SUFFIXES: Final = READABLE_SUFFIXES | RAW_SUFFIXES | HEIC_SUFFIXES
"""What counts as a photo in a folder. Those that cannot be decoded count too: they are refused aloud."""

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
"""Pillow's names (its JPEG opens the MPO of phones, too); others, as EPS that starts a program, are never tried."""

_HEIC_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

_DECODER_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    AssertionError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What Pillow's plugins let out on broken input (read in its plugins; it promises OSError only)."""

_ORIENTATION_TAG: Final = 0x0112
_warnings_lock = threading.Lock()


def load_photo(path: Path) -> RGB_HW3:
    """Read and decode one photo, upright.

    The first frame of an animation; transparency over white; 16-bit and float grey scaled to 8 bits, not clipped.

    Returns:
        (H, W, 3) uint8 RGB, contiguous, the caller's to keep.

    Raises:
        PhotoError: missing, not a file, not permitted, empty, not an image, truncated, of a format that needs
            converting, or larger than ``MAX_PIXELS``.
    """
    return _decode(_read(path), path)


def decode_photo(data: bytes, where: Path) -> RGB_HW3:
    """Decode a photo that was read elsewhere (a member of a tar); ``where`` names it in errors and tells its suffix.

    Raises:
        PhotoError: as ``load_photo``.
    """
    if not data:
        raise PhotoError(f"{where}: is empty (0 bytes); copy the photo again")
    return _decode(data, where)


def photo_sha256(path: Path) -> str:
    """Of the file's bytes, 64 hex digits.

    Raises:
        PhotoError: as ``load_photo``, as far as the file cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def find_photos(path: Path) -> list[Path]:
    """The file itself, or every photo under a folder, in a stable order. Hidden files and folders are passed over.

    Raises:
        PhotoError: nothing is there, or the folder holds no photo or may not be listed.
    """
    if not path.is_dir():
        if not os.path.lexists(path):
            raise PhotoError(f"{path}: no such file or folder; check the path")
        return [path]
    found: list[Path] = []

    def refuse(err: OSError) -> None:
        raise PhotoError(f"{err.filename}: may not be listed ({err.strerror}); check its permissions") from err

    for folder, subfolders, files in os.walk(path, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(files) if _is_photo(name)]
    if not found:
        raise PhotoError(f"{path}: no photos in this folder; put JPEG or PNG files there")
    return found


def _is_photo(file_name: str) -> bool:
    return not file_name.startswith(".") and Path(file_name).suffix.lower() in PHOTO_SUFFIXES


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PhotoError(f"{path}: is a folder, a photo was expected; give the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError(f"{path}: is not a regular file; give a JPEG or PNG file")
        if status.st_size > MAX_FILE_BYTES:
            raise PhotoError(f"{path}: {status.st_size >> 20} MB is too large for a photo; is it a video?")
        data = path.read_bytes()
    except FileNotFoundError as err:
        raise PhotoError(f"{path}: no such file; check the path") from err
    except PermissionError as err:
        raise PhotoError(f"{path}: may not be read; check its permissions") from err
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or err
        raise PhotoError(f"{path}: cannot be read ({reason})") from err
    if not data:
        raise PhotoError(f"{path}: is empty (0 bytes); copy the photo again")
    return data


def _decode(data: bytes, path: Path) -> RGB_HW3:
    from PIL import Image, UnidentifiedImageError

    _refuse_foreign(data, path)
    Image.init()
    formats: list[str] = [name for name in _FORMATS if name in Image.OPEN]
    try:
        # Pillow warns of pictures smaller than our own limit and of odd tags: nothing the person could act on
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=formats) as image:
                return _pixels(image, path)
    except Image.DecompressionBombError as err:
        raise PhotoError(_too_large(path, "a picture of twice as many pixels or more")) from err
    except UnidentifiedImageError as err:
        raise PhotoError(f"{path}: {_unidentified(data)}; give a JPEG or PNG file") from err
    except MemoryError as err:
        raise PhotoError(f"{path}: does not fit into memory; scale the photo down") from err
    except _DECODER_ERRORS as err:
        raise PhotoError(
            f"{path}: is damaged or cut short and cannot be decoded; copy it again or save it as JPEG"
        ) from err


def _pixels(image: Image.Image, path: Path) -> RGB_HW3:
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(_too_large(path, f"{image.width}x{image.height}"))
    image.load()
    return _upright(_to_rgb(image), image)


def _too_large(path: Path, got: str) -> str:
    return f"{path}: {got} is more than the {MAX_PIXELS // 1_000_000} million pixels allowed; scale the photo down"


def _refuse_foreign(data: bytes, path: Path) -> None:
    """Files that are photos to their owner, but not to this program: say what to do with them.

    Raises:
        PhotoError: HEIC, camera raw, or AVIF where this Pillow cannot decode it.
    """
    from PIL import features

    suffix = path.suffix.lower()
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if (brand in _HEIC_BRANDS and b"avif" not in data[12:64]) or (brand and suffix in HEIC_SUFFIXES):
        kind = "HEIC"
    elif (brand == b"avif" or suffix == ".avif") and not features.check("avif"):
        kind = "AVIF"
    elif suffix in RAW_SUFFIXES or brand == b"crx ":
        kind = "camera raw"
    else:
        return
    raise PhotoError(f"{path}: {kind} photos are not read; convert it to JPEG or PNG")


def _unidentified(data: bytes) -> str:
    head = data[:512]
    if b"\0" not in head and all(byte >= 0x20 or byte in b"\t\r\n\f\b\x1b" for byte in head):
        return "is text, not an image"
    if data[4:8] == b"ftyp" or data[:4] == b"\x1aE\xdf\xa3":
        return "is a video, not a photo"
    return "is not an image that is known here"


def _to_rgb(image: Image.Image) -> RGB_HW3:
    """Decoded pixels of any mode as uint8 RGB, as they lie in the file."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        grey_HW = _to_8_bits(np.asarray(image), sixteen_bit=image.mode.startswith("I"))
        return np.repeat(grey_HW[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _to_8_bits(wide_HW: Any, *, sixteen_bit: bool) -> Any:
    """(H, W) 16-bit, 32-bit or float grey -> uint8. Floats within 0..1 and 16-bit values have a known white."""
    values = np.nan_to_num(wide_HW.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0:
        known = 65535.0 if sixteen_bit else 1.0
        low, high = 0.0, known if high <= known else high
    span = (high - low) or 1.0
    return np.round((values - low) * (255 / span)).astype(np.uint8)


def _upright(rgb_HW3: RGB_HW3, image: Image.Image) -> RGB_HW3:
    """Apply the EXIF orientation of ``image`` (after its load: Pillow turns TIFF itself and then drops the tag)."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:
        orientation = 1  # a broken tag is no reason to lose a photo that decodes
    turned = rgb_HW3
    if orientation in (5, 6, 7, 8):
        turned = turned.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1] if orientation != 7 else turned[::-1, ::-1]
    if orientation in (2, 3, 6):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)
