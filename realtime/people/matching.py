"""Probes against every reference in one matrix product.

Enters: embeddings and an immutable set of references. Leaves: for each probe the nearest person, and the nearest other
person. Decides nothing: thresholds and margins belong to identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from realtime.people.large_matching import LargeGallery, nearest_two, on_gpu

# N probes, M references, P people, D embedding
Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class References:
    """Everything that a probe is compared with, at one moment. Never changed: a new one replaces it."""

    embeddings_MD: Float32
    persons_M: Ints
    """Index into ``names`` of each reference's person."""
    names: tuple[str, ...]
    model_id: str
    version: int = 0
    """Grows with every change of the gallery that this was made from."""

    def __post_init__(self) -> None:
        if self.embeddings_MD.ndim != 2 or self.embeddings_MD.dtype != np.float32:
            raise ValueError(
                f"references must be float32 (M, D), but got {self.embeddings_MD.dtype} {self.embeddings_MD.shape}"
            )
        if self.persons_M.shape != self.embeddings_MD.shape[:1]:
            raise ValueError(f"{len(self.embeddings_MD)} references need as many persons, got {self.persons_M.shape}")
        if len(self.persons_M) and not 0 <= self.persons_M.min() <= self.persons_M.max() < len(self.names):
            raise ValueError(f"persons must index {len(self.names)} names")

    @cached_property
    def squared_norms_M(self) -> Float32:
        norms: Float32 = np.einsum("md,md->m", self.embeddings_MD, self.embeddings_MD)
        return norms

    @cached_property
    def person_starts(self) -> tuple[Ints, Ints, Ints]:
        """References sorted by person: order (M,), first row of each run, person of each run."""
        order = np.argsort(self.persons_M, kind="stable")
        persons, starts = np.unique(self.persons_M[order], return_index=True)
        return order, starts, persons

    @cached_property
    def large(self) -> LargeGallery | None:
        """On the GPU, where there are so many that it pays and there is one."""
        return on_gpu(self.embeddings_MD, self.persons_M)

    def __len__(self) -> int:
        return len(self.embeddings_MD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """For each of N probes; a missing person has index -1 and an infinite distance."""

    persons_N: Ints
    distances_N: Float32
    second_persons_N: Ints
    second_distances_N: Float32


def squared_distances(probes_ND: Float32, references: References) -> Float32:
    """Squared L2 distances (N, M), clamped at 0: ``|a|^2 + |b|^2 - 2ab`` loses up to 4e-7 in float32."""
    probe_norms_N = np.einsum("nd,nd->n", probes_ND, probes_ND)
    distances_NM = (
        probe_norms_N[:, None] + references.squared_norms_M[None] - 2 * (probes_ND @ references.embeddings_MD.T)
    )
    clamped: Float32 = np.maximum(distances_NM, 0, out=distances_NM)
    return clamped


def match(probes_ND: Float32, references: References) -> Matches:
    """Nearest and second-nearest *person* of each probe; a person is as near as their nearest reference.

    Raises:
        ValueError: the probes' dimension is not the references'.
    """
    count = len(probes_ND)
    nobody = np.full(count, -1, dtype=np.int64)
    far = np.full(count, np.inf, dtype=np.float32)
    if not len(references) or not count:
        return Matches(persons_N=nobody, distances_N=far, second_persons_N=nobody.copy(), second_distances_N=far.copy())
    if probes_ND.shape[1] != references.embeddings_MD.shape[1]:
        raise ValueError(f"probes have {probes_ND.shape[1]} dimensions, references {references.embeddings_MD.shape[1]}")
    if references.large is not None and (two := nearest_two(references.large, probes_ND)) is not None:
        return _matches(probes_ND, references, *two)
    order_M, starts_P, persons_P = references.person_starts
    distances_NP = np.minimum.reduceat(squared_distances(probes_ND, references)[:, order_M], starts_P, axis=1)
    rows = np.arange(count)
    best_N = distances_NP.argmin(axis=1)
    best_distances_N = distances_NP[rows, best_N]
    second_N, second_distances_N = nobody, far
    if len(persons_P) > 1:
        distances_NP[rows, best_N] = np.inf
        runner_N = distances_NP.argmin(axis=1)
        second_N, second_distances_N = persons_P[runner_N], distances_NP[rows, runner_N]
    return Matches(
        persons_N=persons_P[best_N],
        distances_N=best_distances_N,
        second_persons_N=second_N,
        second_distances_N=second_distances_N,
    )


def _matches(probes_ND: Float32, references: References, best_N: Ints, second_N: Ints) -> Matches:
    """Of rows of references; -1 is nobody."""
    distances = [
        np.where(rows_N < 0, np.inf, ((references.embeddings_MD[rows_N] - probes_ND) ** 2).sum(axis=1)).astype(
            np.float32
        )
        for rows_N in (best_N, second_N)
    ]
    return Matches(
        persons_N=references.persons_M[best_N],
        distances_N=distances[0],
        second_persons_N=np.where(second_N < 0, -1, references.persons_M[second_N]),
        second_distances_N=distances[1],
    )
