"""A fixed list of comparisons, in the form of LFW's ``pairs.txt``.

Enters: the list and a set's embeddings. Leaves: the squared distance of each comparison, with its fold and its people.
A photo that gave no embedding stays in the list: leaving out what is hard would flatter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError

# T comparisons; N photos; D embedding
Float32 = NDArray[np.float32]

MAX_BYTES: Final = 64 << 20
"""LFW's list has 155 kB; a larger file than this is something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairList:
    """Comparisons by the names of photos."""

    where: str
    photos: tuple[tuple[str, str], ...]
    """File names without folder and suffix: ``person_0001``."""
    people: tuple[tuple[str, str], ...]
    folds_T: NDArray[np.int64]
    """From 0; all 0 where the list has no folds."""

    @property
    def stems(self) -> frozenset[str]:
        """Every photo that is compared."""
        return frozenset(photo for pair in self.photos for photo in pair)

    @property
    def owners(self) -> dict[str, str]:
        """Photo -> person."""
        pairs = zip(self.photos, self.people, strict=True)
        return {photo: person for ends in pairs for photo, person in zip(*ends, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparisons:
    """Distances of listed comparisons whose photos are in a set."""

    distances_T: Float32
    """Squared L2; infinite where a photo gave no embedding: never a match at any threshold."""
    mated_T: NDArray[np.bool_]
    folds_T: NDArray[np.int64]
    pairs_T: NDArray[np.int64]
    """Which pair of the list each is; a pair compared both ways round is there twice."""
    people_T2: NDArray[np.int64]
    """Whom the two photos show, as places in ``people``."""
    people: tuple[str, ...]
    absent: int = 0
    """Pairs of the list with a photo that the set does not have at all."""

    @property
    def failed_T(self) -> NDArray[np.bool_]:
        return np.isinf(self.distances_T)

    @property
    def mated(self) -> Float32:
        """Distances of the mated comparisons."""
        return self.distances_T[self.mated_T]

    @property
    def non_mated(self) -> Float32:
        return self.distances_T[~self.mated_T]

    def share_below(self, threshold: float) -> float:
        """TAR: of all mated comparisons, the failed ones among them."""
        return float((self.mated < threshold).mean()) if len(self.mated) else 0.0

    def without_failed(self) -> Comparisons:
        """As papers count that leave out what their detector missed."""
        kept = ~self.failed_T
        return replace(
            self,
            distances_T=self.distances_T[kept],
            mated_T=self.mated_T[kept],
            folds_T=self.folds_T[kept],
            pairs_T=self.pairs_T[kept],
            people_T2=self.people_T2[kept],
        )


def read_pairs(path: Path) -> PairList:
    """Read lines ``person 1 4`` (photos ``person_0001`` and ``person_0004``) and ``person 1 other 2``, with tabs or
    spaces between; the first line may say ``folds pairs-of-each-kind``, as LFW's does.

    Raises:
        EngineError: unreadable, or a line that is neither.
    """
    lines = _lines(path)
    folds, each = (_head(lines[0]) if lines else None) or (0, 0)
    found = [_pair(path, line) for line in lines[bool(folds) :]]
    if not found:
        raise EngineError(f"{path}: holds no pairs; expected lines as 'person 1 4' for person_0001.jpg")
    if folds and len(found) != 2 * folds * each:
        raise EngineError(
            f"{path}: says {folds} folds of {each} pairs of each kind and holds {len(found)}; is the list cut short?"
        )
    return PairList(
        where=str(path),
        photos=tuple(photos for photos, _ in found),
        people=tuple(people for _, people in found),
        folds_T=np.arange(len(found)) // (2 * each) if each else np.zeros(len(found), dtype=np.int64),
    )


def compare(
    pairs: PairList,
    names: Sequence[str],
    failures: Iterable[str],
    embeddings_ND: Float32,
    others_ND: Float32 | None = None,
) -> Comparisons:
    """Distances of the listed pairs.

    Args:
        pairs: the list.
        names: of the photos, row by row of the embeddings; folders and suffixes do not count.
        failures: names of photos that gave no embedding.
        embeddings_ND: (N, D) float32.
        others_ND: the same photos by another engine: each pair is then compared both ways round, one photo by one
            engine and the other by the other, so there are twice as many comparisons.

    Raises:
        EngineError: no pair of the list is in the set, or two photos of the set have one name.
    """
    rows = _rows(names, pairs)
    failed = {PurePosixPath(name).stem for name in failures} - rows.keys()
    known = [k for k, ends in enumerate(pairs.photos) if all(end in rows or end in failed for end in ends)]
    if not any(pairs.photos[k][0] in rows and pairs.photos[k][1] in rows for k in known):
        raise EngineError(
            f"{pairs.where}: none of its pairs is in the set; expected photos as person_0001.jpg for 'person 1 4'"
        )
    rows_T2 = np.array([[rows.get(end, -1) for end in pairs.photos[k]] for k in known])
    people = sorted({person for k in known for person in pairs.people[k]})
    place = {person: index for index, person in enumerate(people)}
    people_T2 = np.array([[place[person] for person in pairs.people[k]] for k in known])
    ways = [_distances(rows_T2, embeddings_ND, embeddings_ND if others_ND is None else others_ND)]
    if others_ND is not None:
        ways.append(_distances(rows_T2, others_ND, embeddings_ND))
    return Comparisons(
        distances_T=np.concatenate(ways),
        mated_T=np.tile(people_T2[:, 0] == people_T2[:, 1], len(ways)),
        folds_T=np.tile(pairs.folds_T[known], len(ways)),
        pairs_T=np.tile(np.arange(len(known)), len(ways)),
        people_T2=np.tile(people_T2, (len(ways), 1)),
        people=tuple(people),
        absent=len(pairs.photos) - len(known),
    )


def _distances(rows_T2: NDArray[Any], first_ND: Float32, second_ND: Float32) -> Float32:
    differences_TD = first_ND[rows_T2[:, 0]] - second_ND[rows_T2[:, 1]]
    distances_T: Float32 = np.einsum("td,td->t", differences_TD, differences_TD).astype(np.float32)
    distances_T[(rows_T2 < 0).any(axis=1)] = np.inf
    return distances_T


def _rows(names: Sequence[str], pairs: PairList) -> dict[str, int]:
    wanted = pairs.stems
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        stem = PurePosixPath(name).stem
        if stem in wanted and stem in rows:
            raise EngineError(f"{pairs.where}: the set has two photos {stem!r}, so its pairs are not unique")
        rows[stem] = row
    return rows


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise EngineError(f"{path}: larger than {MAX_BYTES >> 20} MB; is it a list of pairs?")
        return [line for line in content.decode("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as err:
        raise EngineError(f"{path}: cannot be read as a list of pairs ({err})") from err


def _head(line: str) -> tuple[int, int] | None:
    """``10  300``: folds, and pairs of each kind in each; ``1100`` alone: one fold of so many."""
    numbers = line.split()
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        return None
    folds, each = [1, *map(int, numbers)][-2:]
    return (folds, each) if folds > 0 and each > 0 else None


def _pair(path: Path, line: str) -> tuple[tuple[str, str], tuple[str, str]]:
    ends = list(_ends(line.split("\t") if "\t" in line else line.split()))
    if len(ends) != 2:
        raise EngineError(f"{path}: {line[:60]!r} is no pair; expected 'person 1 4' or 'person 1 other 2'")
    (first, one), (second, two) = ends
    return (f"{first}_{one:04d}", f"{second}_{two:04d}"), (first, second)


def _ends(fields: list[str]) -> Iterator[tuple[str, int]]:
    """The two photos of a line, as person and number; nothing of a line that is no pair."""
    shape = [field.strip().isdecimal() for field in fields]
    if shape == [False, True, True]:
        fields = [fields[0], fields[1], fields[0], fields[2]]
    elif shape != [False, True, False, True]:
        return
    for person, number in (fields[:2], fields[2:]):
        yield person.strip(), int(number[:9])
