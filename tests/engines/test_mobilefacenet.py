"""MobileFaceNet as a torch module: what insightface's weights need to find, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from engines.networks import Network, build, known_network  # noqa: E402
from engines.networks.shapes import multiply_adds  # noqa: E402

TINY = Network(
    name="tiny", family="mobilefacenet", blocks=(1, 1, 2, 1), width=8, expansion=8, dimensions=16, input_size=32
)
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def test_names_are_those_of_insightface() -> None:
    with torch.device("meta"):
        state = build(known_network("mobilefacenet")).state_dict()

    def plain(name: str) -> list[str]:
        return [f"{name}.layers.0.weight", *(f"{name}.layers.1.{part}" for part in NORM)]

    def active(name: str) -> list[str]:
        return [*plain(name), f"{name}.layers.2.weight"]

    def depth_wise(name: str) -> list[str]:
        return [*active(f"{name}.layers.0"), *active(f"{name}.layers.1"), *plain(f"{name}.layers.2")]

    expected = [*active("layers.0"), *active("layers.1")]
    for place, count in ((2, 4), (4, 6), (6, 2)):
        expected += depth_wise(f"layers.{place}")
        for index in range(count):
            expected += depth_wise(f"layers.{place + 1}.layers.{index}")
    expected += [*active("conv_sep"), *plain("features.layers.0"), "features.layers.2.weight"]
    expected += [f"features.layers.3.{part}" for part in NORM]
    assert list(state) == expected
    assert state["layers.1.layers.0.weight"].shape == (128, 2, 3, 3)
    assert state["layers.6.layers.1.layers.0.weight"].shape == (512, 1, 3, 3)
    assert state["features.layers.0.layers.0.weight"].shape == (512, 1, 7, 7)


def test_it_has_the_published_size() -> None:
    with torch.device("meta"):
        network = build(known_network("mobilefacenet"))
        large = build(known_network("mobilefacenet-large"))
    assert sum(values.numel() for values in network.parameters()) == 2_059_520
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 49
    assert multiply_adds(known_network("mobilefacenet")) / 1e9 == pytest.approx(0.438, abs=0.001)
    assert "layers.1.layers.1.layers.0.layers.0.weight" in large.state_dict()


def test_torch_counts_the_same_multiplications() -> None:
    with FlopCounterMode(display=False) as counter:
        build(TINY).eval()(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == 2 * multiply_adds(TINY)


def test_under_autocast_the_end_stays_float32() -> None:
    network = build(TINY).eval()
    seen: dict[str, Any] = {}
    for name in ("layers.7", "conv_sep", "features"):
        network.get_submodule(name).register_forward_hook(
            lambda module, given, made, name=name: seen.update({name: made.dtype})
        )
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        embeddings = network(torch.randn(2, 3, 32, 32))
    assert seen == {"layers.7": torch.bfloat16, "conv_sep": torch.float32, "features": torch.float32}
    assert embeddings.shape == (2, 16)


def test_every_parameter_learns_and_dropout_is_for_training_only() -> None:
    network = build(TINY, dropout=0.5)
    picture = torch.randn(4, 3, 32, 32)
    assert not torch.equal(network(picture), network(picture))
    network(picture).square().sum().backward()
    assert all(values.grad is not None for values in network.parameters())
    network.eval()
    assert torch.equal(network(picture), network(picture))
