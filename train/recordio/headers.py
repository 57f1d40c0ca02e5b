"""The image layer of RecordIO: a header with the label in front of an encoded image.

Enters: a label, a key and the bytes of a JPEG. Leaves: the payload of a record as mxnet's ``recordio.pack`` makes it
(``<IfQQ``: flag, label, id, id2), and back. Flag 0: the label stands in the header. Flag k: it says 0 there, and k
float32 follow the header.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from train.errors import DataError

HEADER: Final = struct.Struct("<IfQQ")

MAX_EXACT: Final = 1 << 24
"""A label is a float32: from here on the next whole number may read back as this one."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One record, taken apart."""

    flag: int
    """How many labels follow the header; 0: one, in it."""
    labels: tuple[float, ...]
    key: int
    """The header's id."""
    image: bytes
    """Encoded; empty in records that only describe the set."""


def pack(label: int | Sequence[int], key: int, image: bytes = b"", *, id2: int = 0) -> bytes:
    """A payload.

    Args:
        label: one, or several (flag then says how many).
        key: the header's id.
        image: encoded.
        id2: the header's upper id; RecBuilder's record 0 has 1.

    Raises:
        DataError: a label is negative, or too large for a float32 to hold exactly.
    """
    labels = [label] if isinstance(label, int) else list(label)
    if wrong := [each for each in labels if not 0 <= each <= MAX_EXACT]:
        raise DataError(
            f"label {wrong[0]} of record {key} cannot be written: a .rec holds labels as float32, which are exact "
            f"from 0 to {MAX_EXACT} only; write fewer subjects or images into one file"
        )
    if isinstance(label, int):
        return HEADER.pack(0, label, key, id2) + image
    return HEADER.pack(len(labels), 0, key, id2) + struct.pack(f"<{len(labels)}f", *labels) + image


def unpack(payload: bytes, where: str) -> ImageRecord:
    """
    Args:
        payload: of one record.
        where: names it in errors.

    Raises:
        DataError: too short for its own header.
    """
    if len(payload) < HEADER.size:
        raise DataError(
            f"{where}: {len(payload)} bytes are no image record, its header alone has {HEADER.size}; is it a file of "
            "another kind?"
        )
    flag, label, key, _ = HEADER.unpack_from(payload)
    end = HEADER.size + 4 * flag
    if end > len(payload):
        raise DataError(
            f"{where}: promises {flag} labels and is too short for them; the file is damaged, copy it again"
        )
    labels = struct.unpack_from(f"<{flag}f", payload, HEADER.size) if flag else (label,)
    return ImageRecord(flag, labels, key, payload[end:])
