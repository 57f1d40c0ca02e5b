"""Lists of bytes, numbers and plain arrays out of a pickle, without running anything that it asks for.

Enters: a file. Leaves: what lies in it, arrays as ``PickledArray``. A pickle is a program; this one may build lists and
tuples and call the handful of names by which numpy and old Pythons spell an array or bytes. Behind these names stand
classes of ours that only take the bytes out: nothing of numpy is called, and no memory is asked for that the file does
not fill.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, Final

from train.errors import DataError

MAX_BYTES: Final = 1 << 30
"""LFW's file has 70 MB. What is read lies in memory, for a moment twice."""

MAX_AXES: Final = 64
"""numpy's own limit."""

PLAIN: Final[dict[bytes, int]] = {
    **dict.fromkeys((pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE), 0),
    **dict.fromkeys((pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_TUPLE), 0),
    **dict.fromkeys((pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.MEMOIZE), 0),
    **dict.fromkeys((pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD), 0),
    **dict.fromkeys((pickle.PROTO, pickle.BININT1, pickle.BINGET, pickle.BINPUT), 1),
    **dict.fromkeys((pickle.BININT, pickle.LONG_BINGET, pickle.LONG_BINPUT), 4),
    pickle.BININT2: 2,
    pickle.FRAME: 8,
}
"""Opcodes -> bytes of the argument. With the next two, all that protocols 0 to 5 need for lists of bytes. Dictionaries
are left out: a key that is nested deeply enough overflows the interpreter's stack."""

COUNTED: Final[dict[bytes, int]] = {
    **dict.fromkeys((pickle.SHORT_BINSTRING, pickle.SHORT_BINBYTES, pickle.SHORT_BINUNICODE, pickle.LONG1), 1),
    **dict.fromkeys((pickle.BINSTRING, pickle.BINBYTES, pickle.BINUNICODE), 4),
    **dict.fromkeys((pickle.BINBYTES8, pickle.BINUNICODE8, pickle.BYTEARRAY8), 8),
}
"""Opcodes -> bytes of the count in front of the argument."""

LINES: Final[dict[bytes, int]] = {
    **dict.fromkeys((pickle.INT, pickle.LONG, pickle.STRING, pickle.UNICODE, pickle.GET, pickle.PUT), 1),
    pickle.GLOBAL: 2,
}
"""Opcodes -> lines of the argument."""

BUILDERS: Final = (
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
    *(pickle.PERSID, pickle.BINPERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4),
)
"""Opcodes that build objects in ways that arrays never need: a file with one is no accident."""

_DAMAGE: Final = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
)
"""What ``pickle`` lets out on broken input (its documentation lists some and says: not only)."""


class PickledArray:
    """An array's bytes."""

    __slots__ = ("content",)

    def __init__(self, array_type: object, shape: object, type_code: object) -> None:
        self.content = b""

    def __setstate__(self, state: tuple[int, tuple[int, ...], PickledType, bool, bytes]) -> None:
        _, shape, kind, _, content = state
        self._fill(content, kind, shape)

    @classmethod
    def of(cls, content: bytes, kind: PickledType, shape: tuple[int, ...]) -> PickledArray:
        array = cls(None, None, None)
        array._fill(content, kind, shape)
        return array

    def _fill(self, content: bytes, kind: PickledType, shape: tuple[int, ...]) -> None:
        if not (isinstance(content, bytes | bytearray) and isinstance(kind, PickledType)):
            raise pickle.UnpicklingError("an array that holds something else than bytes")
        if not _is_shape(shape) or kind.name not in ("u1", "i1", "b1") or prod(shape) != len(content):
            raise pickle.UnpicklingError("an array that does not hold single bytes")
        self.content = bytes(content)


def _is_shape(shape: object) -> bool:
    """Checked before it is multiplied: a list times a number is a longer list."""
    return isinstance(shape, tuple) and len(shape) <= MAX_AXES and all(isinstance(side, int) for side in shape)


class PickledType:
    """numpy.dtype."""

    __slots__ = ("name",)

    def __init__(self, name: str | bytes, align: object = False, copy: object = True) -> None:
        if not isinstance(name, str | bytes):
            raise pickle.UnpicklingError("a kind of number without a name")
        self.name = name if isinstance(name, str) else name.decode("ascii")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: nothing that matters to bytes."""


class _ArrayType:
    """numpy.ndarray, which stands as an argument only."""

    __slots__ = ()

    def __init__(self) -> None:
        raise pickle.UnpicklingError("an array made in a way of its own")

    def __setstate__(self, state: object) -> None: ...


class _Scalar:
    """numpy's scalar(dtype, bytes): a truth value."""

    __slots__ = ()

    def __new__(cls, kind: PickledType, content: bytes | str) -> bool:  # type: ignore[misc]
        if not isinstance(kind, PickledType) or len(content) != 1:
            raise pickle.UnpicklingError("a number that is no truth value")
        return content not in (b"\0", "\0")

    def __setstate__(self, state: object) -> None: ...


class _FromBuffer:
    """numpy's _frombuffer(bytes, dtype, shape, order)."""

    __slots__ = ()

    def __new__(cls, content: bytes, kind: PickledType, shape: tuple[int, ...], order: str) -> PickledArray:  # type: ignore[misc]
        return PickledArray.of(content, kind, shape)

    def __setstate__(self, state: object) -> None: ...


class _Latin1:
    """_codecs.encode(text, "latin1"): how Python 3 writes bytes in protocols 0 to 2."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str | bytes) -> bytes:  # type: ignore[misc]
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError("text to be encoded in another way than latin1")
        return text.encode("latin-1")

    def __setstate__(self, state: object) -> None: ...


class _NoBytes:
    """bytes(): how it writes those of length 0."""

    __slots__ = ()

    def __new__(cls) -> bytes:  # type: ignore[misc]
        return b""

    def __setstate__(self, state: object) -> None: ...


_MEANINGS: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): PickledType,
    ("_codecs", "encode"): _Latin1,
    ("builtins", "bytes"): _NoBytes,
    ("__builtin__", "bytes"): _NoBytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): PickledArray for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer for core in ("core", "_core")},
}
"""Classes, not functions: what a pickle may call it may also ``BUILD``, and a class with ``__setstate__`` refuses that,
where a function would let its attributes be set."""


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The pickle asks for what no list of bytes needs; the message says for what."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _MEANINGS:
            raise _Refused(f"{module[:60]}.{name[:60]}")
        return _MEANINGS[module, name]


def read_pickle(path: Path) -> object:
    """What lies in the file: lists, tuples, numbers, bytes, text, ``PickledArray``. Old Pythons' text comes as bytes.

    Raises:
        DataError: missing, too large, damaged, or it asks for anything else; nothing of it was run.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise DataError(f"{path}: has {size} bytes, a list of pairs has up to {MAX_BYTES}; copy the file again")
        content = path.read_bytes()
        _check_opcodes(content)
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror or err}); give the path of a .bin file") from err
    except _Refused as err:
        raise DataError(
            f"{path}: asks to run or build {err}, which no list of face pairs needs; it may be hostile, "
            "nothing of it was run, get the file from another place"
        ) from err
    except _DAMAGE as err:
        raise DataError(f"{path}: is no pickle of face pairs, or is damaged ({_short(err)}); copy it again") from err


def _check_opcodes(content: bytes) -> None:
    """Read through it without building anything.

    The C unpickler makes room for whatever place a PUT names: a file of ten bytes could ask for 32 GB. Honest ones
    count up from 0 or 1.
    """
    place, puts, opcode = 0, 0, b""
    while opcode != pickle.STOP:
        opcode = content[place : place + 1]
        start, place = place + 1, _after(content, opcode, place + 1)
        if place > len(content):
            raise pickle.UnpicklingError("it is cut short")
        argument = content[start:place]
        if opcode in (pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE):
            puts += 1
            memo = int(argument) if opcode == pickle.PUT else int.from_bytes(argument, "little")
            if not 0 <= memo <= puts:
                raise pickle.UnpicklingError("its memo is out of order")
        elif opcode == pickle.FRAME and int.from_bytes(argument, "little") > len(content):
            raise pickle.UnpicklingError("a frame is larger than the file")


def _after(content: bytes, opcode: bytes, place: int) -> int:
    """Where the argument that begins at ``place`` ends; behind the content's end where it is cut short."""
    if opcode in PLAIN:
        return place + PLAIN[opcode]
    if opcode in COUNTED:
        start = place + COUNTED[opcode]
        return start + int.from_bytes(content[place:start], "little")
    if opcode in LINES:
        for _ in range(LINES[opcode]):
            place = content.find(b"\n", place) + 1 or len(content) + 1
        return place
    if opcode in BUILDERS:
        raise _Refused(f"an object by opcode {opcode!r}")
    raise pickle.UnpicklingError(f"opcode {opcode!r} at byte {place - 1}" if opcode else "it is cut short")


def _short(err: BaseException) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:120].rstrip(". ")
