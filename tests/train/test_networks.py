"""The network that a run's settings name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engines.networks import NETWORKS, build
from train.errors import ConfigError
from train.networks import CUSTOM, network_of
from train.settings import NetworkSettings


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_engines_is_a_line(name: str) -> None:
    assert network_of(NetworkSettings(name=name)) == NETWORKS[name]


def test_dimensions_and_size_are_the_runs_own() -> None:
    network = network_of(NetworkSettings(name="iresnet18", dimensions=64), input_size=96)
    assert (network.blocks, network.width) == (NETWORKS["iresnet18"].blocks, NETWORKS["iresnet18"].width)
    assert (network.dimensions, network.input_size) == (64, 96)


@pytest.mark.parametrize(
    ("family", "blocks", "width"), [("iresnet", [1, 1, 1, 1], 8), ("mobilefacenet", [1, 1, 1, 1], 8)]
)
def test_a_custom_network_is_built(family: Any, blocks: list[int], width: int) -> None:
    torch.set_num_threads(1)
    settings = NetworkSettings(name=CUSTOM, family=family, blocks=blocks, width=width, dimensions=16)
    network = network_of(settings, input_size=32)
    assert (network.family, network.blocks, network.width) == (family, tuple(blocks), width)
    module = build(network, dropout=0.1).eval()
    with torch.no_grad():
        assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 16)


def test_two_custom_networks_have_two_names() -> None:
    """A checkpoint names its network."""
    names = {
        network_of(NetworkSettings(name=CUSTOM, blocks=blocks, width=width)).name
        for blocks, width in (([1, 1, 1, 1], 8), ([1, 1, 1, 1], 16), ([1, 2, 1, 1], 8))
    }
    assert len(names) == 3


@pytest.mark.parametrize(
    ("values", "size", "message"),
    [
        ({"name": "iresnet51"}, 112, "network.name is 'iresnet51'; known are iresnet18, .*, custom"),
        ({"name": "r50"}, 112, "known are"),
        ({"name": CUSTOM}, 112, r"needs network\.blocks"),
        ({"name": CUSTOM, "blocks": [1, 1, 1, 1]}, 112, r"network\.width"),
        ({"name": CUSTOM, "blocks": [1, 1, 1], "width": 8}, 112, r"network\.blocks, as \[1, 1, 1, 1\]"),
        ({"name": CUSTOM, "blocks": [1, 0, 1, 1], "width": 8}, 112, "every number must be positive"),
        ({"name": "iresnet18"}, 100, "input_size is 100; a multiple of 16 is needed"),
    ],
)
def test_a_network_that_is_none(values: dict[str, Any], size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network_of(NetworkSettings(**values), input_size=size)
