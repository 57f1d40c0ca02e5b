"""Single files of a zip that was indexed: where they lie, and their bytes, checked.

Enters: a ``Span`` and a ``Member`` of its index. Leaves: bytes of the size and checksum that the zip promises, never
more than the caller allows: nothing is unpacked beyond that, whatever the zip claims.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from train.errors import DataError
from train.kface.archive import LOCAL, Member
from train.kface.failures import Unusable
from train.kface.spans import Span

LOCAL_BYTES: Final = 30
STORED: Final = 0
DEFLATED: Final = 8
ENCRYPTED: Final = 1
"""Bit of a member's flags."""


def stretch(span: Span, member: Member) -> Span:
    """Where a member's packed bytes lie.

    Raises:
        Unusable: encrypted, or its header is not where the directory says, or another member's.
        DataError: it lies beyond the end.
    """
    if member.flags & ENCRYPTED:
        raise Unusable("encrypted in the zip (unpack it with its password)")
    header = span.read(member.offset, LOCAL_BYTES)
    if header[:4] != LOCAL:
        raise Unusable("damaged in the zip (no header where the directory says)")
    name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
    if span.read(member.offset + LOCAL_BYTES, name_bytes) != member.name:
        raise Unusable("damaged in the zip (its header is another file's)")
    where = f"{span.where}:{member.text}"
    return span.part(member.offset + LOCAL_BYTES + name_bytes + extra_bytes, member.packed, where)


def read_member(span: Span, member: Member, most: int) -> bytes:
    """The bytes of one member, checked against its checksum.

    Args:
        most: bytes that it may have; a larger one is not unpacked.

    Raises:
        Unusable: too large, encrypted, damaged, of another size than the zip says, or packed in a way not known.
    """
    if member.size > most or member.packed > most:
        raise Unusable(f"too large in the zip (it claims {max(member.size, member.packed)} bytes, {most} are allowed)")
    try:
        packed = stretch(span, member)
        raw = packed.read(0, packed.length)
    except DataError as err:
        raise Unusable("damaged in the zip (the zip ends before it)") from err
    if member.method == STORED:
        content = raw
    elif member.method == DEFLATED:
        content = _unpacked(raw, member.size)
    else:
        raise Unusable(f"packed in a way that is not read (method {member.method}; pack it with deflate)")
    if len(content) != member.size:
        raise Unusable(f"damaged in the zip (claims {member.size} bytes and holds {_count(content, member.size)})")
    if zlib.crc32(content) != member.crc:
        raise Unusable("damaged in the zip (wrong checksum)")
    return content


def _unpacked(raw: bytes, size: int) -> bytes:
    """At most one byte more than ``size``."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, size + 1)
    except zlib.error as err:
        raise Unusable(f"damaged in the zip ({err})") from err


def _count(content: bytes, size: int) -> str:
    return "more" if len(content) > size else str(len(content))
