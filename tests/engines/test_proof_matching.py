"""The proof of matching runs on a processor, and fails where the answers are wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engines.proofs import matching
from engines.proofs.record import Proof
from engines.search import Rows
from engines.search.passes import TorchPasses, rows_of
from engines.search.rows import GROUP

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(matching, "DRY_SIZES", (700,))
    monkeypatch.setattr(matching, "PROBES", (1, 3))


def proved() -> Proof:
    proof = Proof("matching", matching.TITLE, dry_run=True)
    matching.prove(proof, CPU)
    return proof


def test_it_finds_what_brute_force_finds() -> None:
    proof = proved()
    assert proof.passed
    assert len(proof.checks) == 6
    search = next(table for table in proof.tables if table.name == "search")
    assert [row[:3] for row in search.rows] == [(700, kind, n) for kind in ("int8", "fp16") for n in (1, 3)]
    assert {row[1] for row in next(table for table in proof.tables if table.name == "beside").rows} >= {
        "float32",
        "int8",
    }
    assert not proof.untried


def test_scores_that_lose_a_group_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TorchPasses.scores

    def losing(self: TorchPasses, rows: Rows, probes_PW: Tensor, chosen_PC: Tensor) -> Tensor:
        return whole(self, rows, probes_PW, chosen_PC).masked_fill(rows_of(chosen_PC) < GROUP, -torch.inf)

    monkeypatch.setattr(TorchPasses, "scores", losing)
    proof = proved()
    assert not proof.passed
    assert {one.name for one in proof.checks if not one.passed} >= {"700 rows, int8: each probe's mate is its nearest"}


def test_what_does_not_run_is_noted_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "_int_mm", full)
    proof = proved()
    assert proof.passed
    assert [one.why for one in proof.untried] == ["CUDA out of memory"] * 2
