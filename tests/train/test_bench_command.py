"""`python -m train bench` runs dry on a processor; a loss that differs fails it, a loop that does not run is noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from engines.proofs.record import Proof
from train.__main__ import app
from train.benchmark import plain, run
from train.benchmark.ours import made_up, our_step
from train.benchmark.plain import ArcFaceHead, Step, plain_step
from train.fit.crops import Part

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "CLASSES", 50)


def proved() -> Proof:
    proof = Proof("training", run.TITLE, dry_run=True)
    run.prove(proof, CPU)
    return proof


def test_every_loop_is_timed_and_the_losses_are_the_processors() -> None:
    proof = proved()
    assert proof.passed
    assert len(proof.checks) == 2
    speed = next(table for table in proof.tables if table.name == "speed")
    names = ["ours, bf16", "autocast bf16, as people write it", "fp32, as people write it"]
    assert [row[:2] for row in speed.rows][:6] == [(name, batch) for name in names for batch in (4, 8)]
    assert len(next(table for table in proof.tables if table.name == "profile").rows) == 15


def test_losses_that_differ_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*args: Any, **options: Any) -> Step:
        step = our_step(*args, **options)
        return lambda part: step(part) * (1.1 if options["precision"] == "bf16" else 1.0)

    monkeypatch.setattr(run, "our_step", other)
    assert [one.name for one in proved().checks if not one.passed] == ["losses of a small network, 8 steps in bf16"]


def test_a_loop_that_does_not_run_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> Step:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run, "plain_step", full)
    proof = proved()
    assert proof.passed
    assert {one.why for one in proof.untried} == {"CUDA out of memory"}
    assert len(proof.untried) == 6


def test_the_written_loop_learns_what_ours_does() -> None:
    """The same loss at the first step: the head's centres differ, so only its size is compared; and it falls."""
    part = made_up(16, 32, 50, CPU)
    step = plain_step(run.SMALL, 50, CPU)
    losses = [float(step(part)) for _ in range(12)]
    assert losses[-1] < losses[0]
    assert losses[0] == pytest.approx(float(our_step(run.SMALL, 50, CPU, precision="fp32")(part)), rel=0.2)


def test_the_written_head_is_the_papers() -> None:
    head = ArcFaceHead(3, 4)
    embeddings = torch.nn.functional.normalize(head.weight.detach()[:1]) * 7
    logits = head(embeddings, torch.tensor([0]))[0].detach()
    assert float(logits[0]) == pytest.approx(plain.SCALE * torch.cos(torch.tensor(plain.MARGIN)).item(), rel=1e-2)
    cosine: Tensor = torch.nn.functional.cosine_similarity(embeddings[0], head.weight[1].detach(), dim=0)
    assert float(logits[1]) == pytest.approx(plain.SCALE * float(cosine), rel=1e-4)


def test_made_up_crops_are_the_same_for_a_seed() -> None:
    one, other = made_up(3, 8, 5, CPU, seed=2), made_up(3, 8, 5, CPU, seed=2)
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in Part.__dataclass_fields__)
    assert not torch.equal(one.crops_MSSC, made_up(3, 8, 5, CPU, seed=3).crops_MSSC)


def test_the_command_keeps_a_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "--dry-run", "--json", str(tmp_path / "training.json")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "training.json").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from train.__main__ import main

    monkeypatch.setattr("sys.argv", ["train", "bench"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "--dry-run" in capfd.readouterr().err
