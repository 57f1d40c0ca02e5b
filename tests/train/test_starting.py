"""Weights to start from, and class centres from means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.errors import ModelFileError
from engines.networks import build
from engines.networks.matching import WeightsMismatch
from tests.train.checkpoint_parts import NETWORK, small_checkpoint
from tests.train.sets import tiny_set
from tests.train.several_ranks import on_ranks
from train.checkpoints import save_checkpoint
from train.errors import CheckpointError, ConfigError
from train.prepared import open_prepared
from train.runs import CHECKPOINT
from train.settings import LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks
from train.starting import centres_from_means, class_means, load_backbone


@pytest.mark.parametrize("kind", ["file", "folder", "checkpoint"])
def test_a_network_starts_from_weights(tmp_path: Path, kind: str) -> None:
    checkpoint = small_checkpoint()
    if kind == "file":
        torch.save(checkpoint.backbone, path := tmp_path / "backbone.pth")
    else:
        save_checkpoint(tmp_path / CHECKPOINT, checkpoint)
        path = tmp_path if kind == "folder" else tmp_path / CHECKPOINT
    module = build(NETWORK)
    weights = load_backbone(module, NETWORK, path)
    assert all(torch.equal(value, checkpoint.backbone[name]) for name, value in module.state_dict().items())
    assert weights.arrays.keys() <= checkpoint.backbone.keys()


def test_safetensors_are_taken(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(small_checkpoint().backbone, tmp_path / "backbone.safetensors")
    load_backbone(build(NETWORK), NETWORK, tmp_path / "backbone.safetensors")


def test_weights_that_do_not_fit_are_said(tmp_path: Path) -> None:
    torch.save(small_checkpoint().backbone, path := tmp_path / "backbone.pth")
    wider, longer = replace(NETWORK, width=8), replace(NETWORK, dimensions=16)
    with pytest.raises(WeightsMismatch, match="does not fit tiny"):
        load_backbone(build(wider), wider, path)
    with pytest.raises(ConfigError, match=r"set network\.dimensions=8"):
        load_backbone(build(longer), longer, path)
    with pytest.raises(ModelFileError, match="does not exist"):
        load_backbone(build(NETWORK), NETWORK, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"holds no checkpoint\.pt"):
        load_backbone(build(NETWORK), NETWORK, tmp_path)


def colours(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An embedding of three numbers: the mean colour."""
    means: NDArray[np.float32] = crops.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 4, 1000])
def test_class_means_are_those_of_all_at_once(tmp_path: Path, batch: int) -> None:
    split = open_prepared(tiny_set(tmp_path, train_people=3, images=5, size=16)).train
    whole = colours(np.asarray(split.crops_NSS3)).astype(np.float64)
    expected = np.stack([whole[split.labels_N == label].mean(axis=0) for label in range(3)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    told: list[tuple[int, int]] = []
    found = class_means(colours, split, batch=batch, progress=lambda *done: told.append(done))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert told[-1] == (15, 15)


def test_a_subject_without_crops_has_no_mean(tmp_path: Path) -> None:
    split = open_prepared(tiny_set(tmp_path, train_people=3, images=5, size=16)).train
    emptied = replace(split, subjects=(*split.subjects, "nobody"))
    assert not class_means(colours, emptied)[3].any()


def means_on_ranks(ranks: Ranks, folder: Path) -> Any:
    return class_means(colours, open_prepared(folder / "set").train, ranks)


def test_ranks_share_the_work_of_class_means(tmp_path: Path) -> None:
    tiny_set(tmp_path / "set", train_people=3, images=5, size=16)
    expected = class_means(colours, open_prepared(tmp_path / "set").train)
    for found in on_ranks(2, means_on_ranks, tmp_path):
        torch.testing.assert_close(found, expected)


def test_centres_start_at_the_means_and_are_as_long_as_fresh_ones() -> None:
    means = torch.nn.functional.normalize(torch.randn(6, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    means[5] = 0
    centres = centres_from_means(means, sub_centers=3, seed=1).view(6, 3, 64)
    torch.testing.assert_close(torch.nn.functional.normalize(centres[:5, 0], dim=1), means[:5])
    cosines = torch.cosine_similarity(centres[:5], means[:5, None], dim=2)
    assert cosines[:, 1:].max() < 1 - 1e-4
    assert cosines.min() > 0.98
    fresh = ClassCentres(6, 64, LossSettings(sub_centers=3), Ranks.alone(), seed=1)
    assert centres.norm(dim=2).mean().item() == pytest.approx(fresh.weight.norm(dim=1).mean().item(), rel=0.1)
    fresh.load_whole(centres.flatten(0, 1))
    assert torch.equal(centres, centres_from_means(means, sub_centers=3, seed=1).view(6, 3, 64))
