"""A run opened for reading: finished, half-way, or a checkpoint alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engines.errors import ModelFileError
from tests.train.checkpoint_parts import NETWORK, SUBJECTS, small_checkpoint
from train.checkpoints import save_checkpoint
from train.errors import CheckpointError
from train.runs import BACKBONE, CHECKPOINT, is_run, open_run


def test_a_checkpoint_has_all_that_others_need(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    save_checkpoint(tmp_path / CHECKPOINT, checkpoint)
    for path in (tmp_path, tmp_path / CHECKPOINT):
        assert is_run(path)
        run = open_run(path)
        assert (run.network, run.subjects, run.template, run.size) == (NETWORK, SUBJECTS, "arcface_112", 32)
        assert (run.set_name, run.step) == ("faces", 12)
        assert not run.module.training
        assert run.centres_CKD is not None
        assert run.centres_CKD.shape == (5, 2, 8)
        assert torch.equal(run.centres_CKD[3, 1], checkpoint.centres["weight"][7])
        assert run.module(torch.zeros(1, 3, 32, 32)).shape == (1, 8)
        for name, value in run.module.state_dict().items():
            assert torch.equal(value, checkpoint.backbone[name])
        assert not any("num_batches_tracked" in name for name in run.weights.arrays)
        assert len(run.weights.sha256) == 64


def test_the_running_mean_goes_before_the_last_weights(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    mean = {name: value * 2 for name, value in checkpoint.backbone.items() if value.is_floating_point()}
    save_checkpoint(tmp_path / CHECKPOINT, replace(checkpoint, ema=mean))
    run = open_run(tmp_path)
    assert torch.equal(run.module.state_dict()["conv1.weight"], mean["conv1.weight"])
    assert "running mean" in run.weights.form


def test_a_finished_run_has_the_weights_it_left(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    save_checkpoint(tmp_path / CHECKPOINT, checkpoint)
    best = {name: value + 1 for name, value in checkpoint.backbone.items()}
    torch.save(best, tmp_path / BACKBONE)
    assert torch.equal(open_run(tmp_path).module.state_dict()["fc.bias"], best["fc.bias"])
    assert torch.equal(open_run(tmp_path / CHECKPOINT).module.state_dict()["fc.bias"], checkpoint.backbone["fc.bias"])


def test_a_loss_without_centres_gives_none(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / CHECKPOINT, small_checkpoint(centres={"weight": torch.zeros(0, 8)}))
    assert open_run(tmp_path).centres_CKD is None


def test_centres_that_do_not_fit_their_subjects_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / CHECKPOINT, small_checkpoint(centres={"weight": torch.zeros(3, 8)}))
    with pytest.raises(CheckpointError, match="do not fit its 5 subjects"):
        open_run(tmp_path)


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no checkpoint\.pt"):
        open_run(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        open_run(tmp_path / "gone")


def test_weights_of_another_network_beside_a_checkpoint_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / CHECKPOINT, small_checkpoint())
    torch.save(small_checkpoint(replace(NETWORK, width=8)).backbone, tmp_path / BACKBONE)
    with pytest.raises(CheckpointError, match=r"backbone\.pth: is not of the network tiny"):
        open_run(tmp_path)
    (tmp_path / BACKBONE).write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelFileError):
        open_run(tmp_path)
