"""Probes that lie on a device against references that lie there too.

Enters: embeddings. Leaves: the nearest person of each and the nearest other one, as ``realtime.people.matching`` gives
them. For galleries that fit a matrix product at once; larger ones go through ``engines.search``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realtime.people.matching import References

# N probes, M references, P people, D embedding


class DeviceReferences:
    """A snapshot of references on a device."""

    def __init__(self, references: References, *, device: torch.device) -> None:
        order_M, _, persons_P = references.person_starts
        self.names = references.names
        self._references_MD = torch.from_numpy(references.embeddings_MD[order_M]).to(device)
        self._squares_M = torch.from_numpy(references.squared_norms_M[order_M]).to(device)
        self._persons_P = torch.from_numpy(persons_P).to(device)
        rows = {int(person): row for row, person in enumerate(persons_P)}
        rows_M = [rows[int(person)] for person in references.persons_M[order_M]]
        self._rows_M = torch.tensor(rows_M, dtype=torch.int64).to(device)

    def match(self, probes_ND: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            probes_ND: float32.

        Returns:
            Persons (N, 2) int64, the nearest and the second nearest, -1 for nobody; squared L2 distances (N, 2)
            float32, infinite there.
        """
        count, people = len(probes_ND), len(self._persons_P)
        device = probes_ND.device
        persons_N2 = torch.full((count, 2), -1, dtype=torch.int64, device=device)
        distances_N2 = torch.full((count, 2), torch.inf, device=device)
        if not people or not count:
            return persons_N2, distances_N2
        squares_N1 = probes_ND.square().sum(dim=1, keepdim=True)
        distances_NM = (squares_N1 + self._squares_M - 2 * (probes_ND @ self._references_MD.T)).clamp(min=0)
        nearest_NP = torch.full((count, people), torch.inf, device=device)
        nearest_NP.scatter_reduce_(1, self._rows_M.expand(count, -1), distances_NM, "amin")
        found = torch.topk(nearest_NP, min(2, people), dim=1, largest=False)
        persons_N2[:, : min(2, people)] = self._persons_P[found.indices]
        distances_N2[:, : min(2, people)] = found.values
        return persons_N2, distances_N2
