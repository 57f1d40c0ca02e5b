"""A fixed list of mated pairs, in the form of LFW's ``pairs.txt``.

Enters: the list and a set's embeddings. Leaves: how many of its mated pairs a threshold keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from realtime.calibration.embeddings import Embedded
from realtime.errors import RealtimeError


@dataclass(frozen=True, slots=True, kw_only=True)
class MatedPairs:
    """Squared distances of the listed mated pairs that have both embeddings, and how many have not."""

    distances_T: NDArray[np.float32]
    failed: int
    """Pairs with a photo that gave no embedding: never a match at any threshold."""

    def share_below(self, threshold: float) -> float:
        """TAR: of all listed mated pairs, the failed ones among them."""
        return float((self.distances_T < threshold).sum() / (len(self.distances_T) + self.failed))


def mated_pairs(path: Path, embedded: Embedded) -> MatedPairs:
    """Read the lines ``person 1 4`` of a list (photos ``person_0001`` and ``person_0004``); other pairs are passed
    over.

    Raises:
        RealtimeError: unreadable, or no pair of it is in the set.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as err:
        raise RealtimeError(f"{path}: cannot be read as a list of pairs ({err})") from err
    rows = {PurePosixPath(name).stem: row for row, name in enumerate(embedded.names)}
    failed_stems = {PurePosixPath(name).stem for name in embedded.failures}
    found: list[tuple[int, int]] = []
    failed = 0
    for line in lines:
        fields = line.split()
        if len(fields) != 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
            continue
        first, second = (f"{fields[0]}_{int(number):04d}" for number in fields[1:])
        if first in rows and second in rows:
            found.append((rows[first], rows[second]))
        elif {first, second} <= {*rows, *failed_stems}:
            failed += 1
    if not found:
        raise RealtimeError(
            f"{path}: none of its pairs is in the set; expected lines as 'person 1 4' for person_0001.jpg"
        )
    ends = np.array(found)
    differences_TD = embedded.embeddings_ND[ends[:, 0]] - embedded.embeddings_ND[ends[:, 1]]
    return MatedPairs(distances_T=np.einsum("td,td->t", differences_TD, differences_TD), failed=failed)
