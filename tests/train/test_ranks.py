"""Joining a run of several processes, and what is said when that fails."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from tests.train.several_ranks import environment, free_port
from train.errors import ConfigError, RankLost
from train.sharding.ranks import Ranks

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_torchrun_a_process_is_alone() -> None:
    ranks = Ranks.from_environment("cpu")
    assert (ranks.rank, ranks.size, ranks.device, ranks.first) == (0, 1, torch.device("cpu"), True)


def test_one_process_of_torchrun_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Ranks.from_environment("cpu").size == 1
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "RANK is ''"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK is '-1'"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2 of WORLD_SIZE 2"),
    ],
)
def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        Ranks.from_environment("cpu")


@pytest.mark.parametrize("wish", ["gpu", "mps:x", "meta", "cuda:x"])
def test_a_device_that_is_none_is_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.device is"):
        Ranks.from_environment(wish)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        Ranks.from_environment("cuda")


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ranks.from_environment("auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Ranks.from_environment("auto").device == torch.device("cuda", 0)
    assert Ranks.from_environment("cuda:1").device == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="GPU 2 is wanted, this machine has 2"):
        Ranks.from_environment("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="start fewer ranks"):
        Ranks.from_environment("cuda")
    with pytest.raises(ConfigError, match="each rank takes a GPU of its own"):
        Ranks.from_environment("cuda:1")


def test_ranks_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    for name, value in environment(0, 2, port).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RankLost, match=rf"rank 0 of 2 found no others at 127\.0\.0\.1:{port} within 1 s"):
        Ranks.from_environment("cpu", timeout_s=1)


def test_a_rank_that_dies_ends_the_others_with_a_sentence() -> None:
    code = textwrap.dedent(
        """
        import os, sys, torch
        from train.errors import RankLost
        from train.sharding.collectives import gathered_rows
        from train.sharding.ranks import Ranks

        ranks = Ranks.from_environment("cpu", timeout_s=60)
        rows = gathered_rows(torch.ones(2, 3, requires_grad=True), ranks)
        ranks.wait()
        if not ranks.first:
            os._exit(3)
        try:
            rows.sum().backward()
        except RankLost as err:
            ranks.close()
            ranks.close()
            sys.exit(f"said: {err}")
        """
    )
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | environment(rank, 2, port), stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 3]
    assert "said: rank 0 of 2 lost the others" in said[0]
    assert "go on from the last checkpoint" in said[0]
