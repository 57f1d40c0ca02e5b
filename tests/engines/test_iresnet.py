"""iresnet as a torch module: what insightface's weights need to find, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from engines.networks import NETWORKS, Network, build, known_network  # noqa: E402
from engines.networks.shapes import expected_shapes, multiply_adds  # noqa: E402

TINY = Network(name="tiny", family="iresnet", blocks=(1, 2, 1, 1), width=4, dimensions=16, input_size=32)
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def counted(network: Network) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the module's state, without memory for its weights."""
    with torch.device("meta"):
        state = build(network).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("network", [*NETWORKS.values(), TINY], ids=lambda network: network.name)
def test_the_module_and_the_list_of_layers_agree_in_every_name_and_shape(network: Network) -> None:
    assert list(counted(network).items()) == list(expected_shapes(network).items())


def test_names_are_those_of_insightface() -> None:
    with torch.device("meta"):
        state = build(known_network("iresnet50")).state_dict()

    def norm(name: str) -> list[str]:
        return [f"{name}.{part}" for part in NORM]

    block = [*norm("bn1"), "conv1.weight", *norm("bn2"), "prelu.weight", "conv2.weight", *norm("bn3")]
    down = ["downsample.0.weight", *norm("downsample.1")]
    expected = ["conv1.weight", *norm("bn1"), "prelu.weight"]
    for stage, count in enumerate((3, 4, 14, 3), 1):
        for index in range(count):
            expected += [f"layer{stage}.{index}.{name}" for name in block + (down if index == 0 else [])]
    expected += [*norm("bn2"), "fc.weight", "fc.bias", *norm("features")]
    assert list(state) == expected
    assert state["conv1.weight"].shape == (64, 3, 3, 3)
    assert state["layer4.0.downsample.0.weight"].shape == (512, 256, 1, 1)
    assert state["fc.weight"].shape == (512, 25088)


def test_iresnet50_has_the_published_size() -> None:
    with torch.device("meta"):
        network = build(known_network("iresnet50"))
    assert sum(values.numel() for values in network.parameters()) == 43_590_848
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 78
    assert multiply_adds(known_network("iresnet50")) == 6_309_330_944


@pytest.mark.parametrize(
    ("name", "millions", "giga"),
    [
        ("iresnet18", 24.03, 2.61),
        ("iresnet34", 34.14, 4.46),
        ("iresnet100", 65.16, 12.09),
        ("iresnet200", 118.83, 23.42),
    ],
)
def test_the_other_depths(name: str, millions: float, giga: float) -> None:
    with torch.device("meta"):
        network = build(known_network(name))
    assert sum(values.numel() for values in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert multiply_adds(known_network(name)) / 1e9 == pytest.approx(giga, abs=0.005)


def test_torch_counts_the_same_multiplications() -> None:
    with FlopCounterMode(display=False) as counter:
        build(TINY).eval()(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == 2 * multiply_adds(TINY)


def test_the_last_scale_stays_one() -> None:
    network = build(TINY)
    scale = network.get_parameter("features.weight")
    assert not scale.requires_grad
    assert torch.equal(scale, torch.ones(16))
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert scale.grad is None
    assert all(values.grad is not None for values in network.parameters() if values.requires_grad)


def test_under_autocast_the_last_layer_and_its_norm_stay_float32() -> None:
    network = build(TINY).eval()
    seen: dict[str, tuple[Any, Any]] = {}
    for name in ("layer4", "fc", "features"):
        network.get_submodule(name).register_forward_hook(
            lambda module, given, made, name=name: seen.update({name: (given[0].dtype, made.dtype)})
        )
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        embeddings = network(torch.randn(2, 3, 32, 32))
    assert seen["layer4"][1] == torch.bfloat16
    assert seen["fc"] == seen["features"] == (torch.float32, torch.float32)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (2, 16)


def test_dropout_is_for_training_only() -> None:
    network = build(TINY, dropout=0.5)
    picture = torch.randn(4, 3, 32, 32)
    assert not torch.equal(network(picture), network(picture))
    network.eval()
    assert torch.equal(network(picture), network(picture))


def test_an_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'iresnet51'; known are iresnet18, .*mobilefacenet"):
        known_network("iresnet51")


@pytest.mark.parametrize("wrong", [{"input_size": 100}, {"blocks": (0, 1, 1, 1)}, {"width": 0}, {"dimensions": -1}])
def test_numbers_that_make_no_network_are_refused(wrong: dict[str, object]) -> None:
    values = {"name": "x", "family": "iresnet", "blocks": (1, 1, 1, 1), "width": 8, **wrong}
    with pytest.raises(ValueError, match=r"^x: "):
        Network(**values)  # type: ignore[arg-type]
