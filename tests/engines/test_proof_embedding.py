"""The proof of embedding runs on a processor, and fails where the answers are wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import fx

from engines.benchmark.macs import count_macs, layers
from engines.errors import EngineError
from engines.gpu.candidates import WAYS
from engines.networks import NETWORKS, Network
from engines.networks.model_files import random_model
from engines.networks.shapes import multiply_adds
from engines.proofs import embedding, embedding_peers
from engines.proofs.record import Proof

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(embedding, "SMALL", Network(name="tiny", family="iresnet", blocks=(1, 1, 1, 1), width=4))


def proved() -> Proof:
    proof = Proof("embedding", embedding.TITLE, dry_run=True)
    embedding.prove(proof, CPU)
    return proof


def table(proof: Proof, name: str) -> list[tuple[object, ...]]:
    return next(one.rows for one in proof.tables if one.name == name)


def test_both_precisions_are_held_to_the_processor_and_timed() -> None:
    proof = proved()
    assert proof.passed
    assert {row[:2] for row in table(proof, "ways")} >= {("fp16", "eager"), ("bf16", "eager")}
    assert [row[0:3:2] for row in table(proof, "speed")] == [(p, n) for p in ("fp16", "bf16") for n in (1, 2, 4)]
    assert {"torch eager fp32, its defaults", "torch eager, autocast"} <= {row[0] for row in table(proof, "beside")}
    assert any(one.what == "ONNX Runtime CUDA fp32" for one in proof.untried)


def test_a_way_that_answers_otherwise_fails_and_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(module: fx.GraphModule, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda images: module(images.flip(2).roll(9, 1))

    monkeypatch.setattr(embedding, "WAYS", {"eager": WAYS["eager"], "wrong": wrong})
    monkeypatch.setattr("engines.gpu.candidates.WAYS", {"eager": WAYS["eager"], "wrong": wrong})
    monkeypatch.setattr(embedding.Candidates.__init__, "__kwdefaults__", {"ways": embedding.WAYS, "clock": None})
    proof = proved()
    assert not proof.passed
    assert {one.name.split(":")[0] for one in proof.checks if not one.passed} == {"fp16, wrong", "bf16, wrong"}
    assert {row[1] for row in table(proof, "speed")} == {"eager"}


def test_the_floors_are_those_of_the_network() -> None:
    model = random_model(NETWORKS["iresnet18"], 0)
    graph = onnx.ModelProto.FromString(model.content)
    found = layers(graph)
    assert found is not None
    assert sum(layer.macs for layer in found) == count_macs(graph) == multiply_adds(NETWORKS["iresnet18"])
    proof = Proof("embedding", embedding.TITLE)
    embedding._floors(proof, model, {"fp16": 1e12, "copy": 1e12})
    rows = table(proof, "floors")
    assert [row[0] for row in rows] == ["112x112", "56x56", "28x28", "14x14", "7x7", "1x1"]
    assert sum(float(str(row[2])) for row in rows) == pytest.approx(2e-9 * multiply_adds(NETWORKS["iresnet18"]))


def test_faces_of_another_size_are_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/faces.npy"
    np.save(path, np.zeros((3, 96, 96, 3), dtype=np.uint8))
    monkeypatch.setenv(embedding.FACES, path)
    with pytest.raises(EngineError, match="aligned uint8 faces of 112 pixels"):
        embedding._faces(112, 3)
    assert embedding._faces(96, 2).shape == (2, 96, 96, 3)


def test_a_contestant_that_does_not_run_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: Network) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 3))

    monkeypatch.setattr(embedding_peers, "build", broken)
    proof = proved()
    assert proof.passed
    assert sum("shapes cannot be multiplied" in one.why for one in proof.untried) == 4
