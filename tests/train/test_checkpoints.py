"""A checkpoint comes back bit by bit, survives what happens to disks, and runs nothing that it holds."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.train.checkpoint_parts import NETWORK, small_checkpoint
from tests.train.several_ranks import on_ranks
from train.checkpoints import KEY, TENSORS, Checkpoint, SetFacts, check_same_run, load_checkpoint, save_checkpoint
from train.errors import CheckpointError
from train.settings import FitSettings, LossSettings
from train.sharding.centres import ClassCentres
from train.sharding.ranks import Ranks


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    for part in dataclasses.fields(Checkpoint):
        ours, theirs = getattr(found, part.name), getattr(expected, part.name)
        if part.name not in TENSORS:
            plain = dataclasses.asdict if isinstance(ours, SetFacts) else lambda value: value
            assert plain(ours) == plain(theirs), part.name
        elif theirs is None:
            assert ours is None
        else:
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                assert ours[name].dtype == value.dtype
                assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("ema", [False, True])
def test_what_is_saved_comes_back(tmp_path: Path, ema: bool) -> None:
    checkpoint = small_checkpoint()
    if ema:
        checkpoint = replace(checkpoint, ema={name: value + 1 for name, value in checkpoint.backbone.items()})
    save_checkpoint(tmp_path / "checkpoint.pt", checkpoint)
    save_checkpoint(tmp_path / "checkpoint.pt", checkpoint)
    assert_same(load_checkpoint(tmp_path / "checkpoint.pt"), checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_only_a_tensor_is_saved_not_what_it_is_a_piece_of(tmp_path: Path) -> None:
    large = torch.zeros(1_000_000)
    save_checkpoint(tmp_path / "checkpoint.pt", small_checkpoint(momentum={"a": large[:10]}))
    assert (tmp_path / "checkpoint.pt").stat().st_size < 1_000_000
    assert torch.equal(load_checkpoint(tmp_path / "checkpoint.pt").momentum["a"], large[:10])


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes: what a full disk does to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path, share: float) -> None:
    path = tmp_path / "checkpoint.pt"
    good = small_checkpoint()
    save_checkpoint(path, good)
    with (
        disk_of(int(path.stat().st_size * share)),
        pytest.raises(CheckpointError, match=r"cannot be saved .*the one before it is kept"),
    ):
        save_checkpoint(path, small_checkpoint(step=13))
    assert [found.name for found in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert_same(load_checkpoint(path), good)


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be saved"):
        save_checkpoint(tmp_path / "gone" / "checkpoint.pt", small_checkpoint())


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / ".checkpoint.pt.0123.part"
    left.write_bytes(b"half")
    save_checkpoint(tmp_path / "checkpoint.pt", small_checkpoint())
    assert not left.exists()


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "checkpoint.pt"
    save_checkpoint(path, small_checkpoint())
    return path.read_bytes()


@given(place=st.floats(0, 1, exclude_max=True), cut=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_seen_or_without_effect(tmp_path: Path, good_bytes: bytes, place: float, cut: bool) -> None:
    at = int(place * len(good_bytes))
    path = tmp_path / "checkpoint.pt"
    if cut:
        path.write_bytes(good_bytes[:at])
    else:
        path.write_bytes(good_bytes[:at] + bytes([good_bytes[at] ^ 0x10]) + good_bytes[at + 1 :])
    try:
        found = load_checkpoint(path)
    except CheckpointError as err:
        assert "checkpoint.pt" in str(err)  # noqa: PT017 - either outcome is right
    else:  # a byte between the members, such as padding
        assert not cut
        assert_same(found, small_checkpoint())


def test_a_flipped_bit_in_the_zips_directory_is_seen(tmp_path: Path, good_bytes: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    start = good_bytes.index(b"PK\x01\x02")
    for at in range(start, len(good_bytes), 29):
        path.write_bytes(good_bytes[:at] + bytes([good_bytes[at] ^ 0x10]) + good_bytes[at + 1 :])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_a_flipped_bit_in_a_weight_is_seen(tmp_path: Path, good_bytes: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    weight = small_checkpoint().backbone["conv1.weight"].numpy().tobytes()
    at = good_bytes.index(weight) + 5
    path.write_bytes(good_bytes[:at] + bytes([good_bytes[at] ^ 1]) + good_bytes[at + 1 :])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


class Exploit:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def saved(path: Path, whole: Any) -> Path:
    torch.save(whole, path)
    return path


def test_code_inside_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="not loaded"):
        load_checkpoint(saved(tmp_path / "a.pt", {KEY: 1, "header": Exploit()}))
    (tmp_path / "b.pt").write_bytes(pickle.dumps({KEY: 1, "header": Exploit()}))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "b.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    whole = {KEY: 1, "header": "{}", "backbone": {"a": torch.zeros(1).expand(1 << 30)}}
    with pytest.raises(CheckpointError, match="claims more bytes"):
        load_checkpoint(saved(tmp_path / "a.pt", whole))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10_000_000))
    with pytest.raises(CheckpointError, match="compressed"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        ({"a": torch.zeros(1)}, "is not a checkpoint of `train fit`"),
        ([1, 2], "is not a checkpoint of `train fit`"),
        ({KEY: 99}, "schema 99"),
        ({KEY: 1}, "another version"),
        ({KEY: 1, "header": "{"}, "another version"),
        ({KEY: 1, "header": "[" * 100_000}, "another version"),
        ({KEY: 1, "header": json.dumps({"network": {"name": "x"}, "data": {}})}, "another version"),
        ({KEY: 1, "header": '{"network": {"blocks": []}, "data": {}}', "backbone": [1]}, "another version"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, whole: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(saved(tmp_path / "a.pt", whole))


def test_an_unknown_setting_of_a_later_version_is_said(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", small_checkpoint())
    whole = torch.load(tmp_path / "a.pt", weights_only=True)
    header = json.loads(whole["header"])
    header["settings"]["loss"]["new"] = 1
    with pytest.raises(CheckpointError, match="another version"):
        load_checkpoint(saved(tmp_path / "a.pt", whole | {"header": json.dumps(header)}))


def test_missing_and_empty_files_and_folders_are_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_checkpoint(tmp_path)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match="cut short"):
        load_checkpoint(tmp_path / "empty.pt")


def test_a_run_goes_on_only_from_its_own_kind() -> None:
    checkpoint = small_checkpoint()

    def check(**changes: Any) -> None:
        same: dict[str, Any] = {
            "settings": checkpoint.settings,
            "network": checkpoint.network,
            "data": checkpoint.data,
        }
        check_same_run(checkpoint, "run/checkpoint.pt", **same | changes)

    check()
    with pytest.raises(CheckpointError, match=r"another network \(width 4, not 8\)"):
        check(network=replace(NETWORK, width=8))
    with pytest.raises(CheckpointError, match=r"was made on the set faces .*this is others"):
        check(data=replace(checkpoint.data, name="others", digest="e" * 64))
    with pytest.raises(CheckpointError, match=r"loss\.sub_centers 2, not 1"):
        check(settings=FitSettings())
    with pytest.raises(CheckpointError, match=r"loss\.kind arcface, not cosface"):
        check(settings=FitSettings(loss=LossSettings(kind="cosface", sub_centers=2)))


KINDS = {
    "sub-centres": LossSettings(sub_centers=2),
    "softmax": LossSettings(kind="softmax"),
    "adaface": LossSettings(kind="adaface"),
    "triplet": LossSettings(kind="triplet"),
}


def heads(ranks: Ranks, seed: int) -> dict[str, tuple[ClassCentres, dict[str, torch.Tensor]]]:
    found = {}
    for name, loss in KINDS.items():
        head = ClassCentres(5, 8, loss, ranks, seed=seed)
        found[name] = head, {key: torch.zeros_like(value) for key, value in head.named_parameters()}
    return found


def passed_on(ranks: Ranks, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """From what one process has saved into the ranks' centres, and out again."""
    found = {}
    for name, (head, momentum) in heads(ranks, seed=2).items():
        head.load_whole_state(load_checkpoint(folder / f"{name}.pt").centres, momentum)
        assert len(head.weight) < 5 * head.loss.sub_centers
        found[name] = head.whole_state(momentum)
    return found


def test_centres_are_the_same_bits_on_one_two_and_one_ranks(tmp_path: Path) -> None:
    before = {}
    for name, (head, momentum) in heads(Ranks.alone(), seed=1).items():
        for value in momentum.values():
            value.normal_()
        before[name] = head.whole_state(momentum)
        save_checkpoint(tmp_path / f"{name}.pt", small_checkpoint(centres=before[name]))
    for found in on_ranks(2, passed_on, tmp_path):
        for name, (head, momentum) in heads(Ranks.alone(), seed=3).items():
            head.load_whole_state(found[name], momentum)
            after = head.whole_state(momentum)
            assert after.keys() == before[name].keys()
            assert all(torch.equal(after[key], value) for key, value in before[name].items())


def test_engines_find_the_network_in_a_checkpoint(tmp_path: Path) -> None:
    from engines.networks.weights import read_weights

    save_checkpoint(tmp_path / "checkpoint.pt", small_checkpoint())
    weights = read_weights(tmp_path / "checkpoint.pt")
    assert "conv1.weight" in weights.arrays
    assert weights.form == "PyTorch file, its 'backbone'"


def test_it_is_a_plain_torch_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", small_checkpoint())
    content = io.BytesIO((tmp_path / "checkpoint.pt").read_bytes())
    assert KEY in torch.load(content, weights_only=True)
