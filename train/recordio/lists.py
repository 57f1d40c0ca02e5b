"""The text files beside a ``.rec``: ``.idx`` says at which byte a key's record begins, ``.lst`` from which file it is.

Enters: keys, offsets, labels, paths; or an ``.idx`` file. Leaves: lines as mxnet and im2rec write them; or arrays.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from train.errors import DataError

# N records
MAX_LINE: Final = 42
"""Bytes of two numbers of 20 digits with a tab and a line end: a longer line on average is no index."""

MIN_RECORD: Final = 8
"""Bytes of an empty record: bounds how many an ``.idx`` can name."""


def idx_line(key: int, offset: int) -> str:
    return f"{key}\t{offset}\n"


def lst_line(key: int, label: int, path: str) -> str:
    """
    Raises:
        DataError: the path holds a tab or a line end, so no reader could take the line apart.
    """
    if any(mark in path for mark in "\t\r\n"):
        raise DataError(f"{path!r}: a .lst cannot hold a tab or a line end in a name; rename the file")
    return f"{key}\t{label:f}\t{path}\n"


def read_idx(path: Path, rec_bytes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and offsets, (N,) int64 each, in the file's order.

    Args:
        path: of the ``.idx``.
        rec_bytes: size of the ``.rec`` that it belongs to.

    Raises:
        DataError: not lines of two whole numbers, a key is there twice, or more than the ``.rec`` could hold.
    """
    broken = f"{path}: is no index of keys and offsets; delete it to have it made again from the .rec"
    try:
        if path.stat().st_size > MAX_LINE * (rec_bytes // MIN_RECORD + 1):
            raise DataError(f"{path}: is larger than any index of a .rec of {rec_bytes} bytes; delete it to remake it")
        text = path.read_text(encoding="ascii")
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # what numpy says of text that is no number
            numbers: NDArray[np.int64] = np.fromstring(text, dtype=np.int64, sep=" ")
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror or err})") from err
    except (ValueError, DeprecationWarning) as err:
        raise DataError(broken) from err
    lines = text.count("\n") + (not text.endswith("\n"))
    if len(numbers) != 2 * lines or not len(numbers) or numbers.min() < 0:
        raise DataError(broken)
    keys_N, offsets_N = numbers[0::2], numbers[1::2]
    ordered_N = np.sort(keys_N)
    if (twice := ordered_N[1:][ordered_N[1:] == ordered_N[:-1]]).size:
        raise DataError(f"{path}: names key {twice[0]} twice; delete it to have it made again from the .rec")
    return keys_N, offsets_N
