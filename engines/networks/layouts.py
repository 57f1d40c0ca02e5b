"""The layers of every network in order, with the names that weights files give them; without torch.

Enters: a ``Network`` and a ``Writer``. Leaves: whatever the writer makes of the layers: the shapes of the weights
(``expected_shapes``), an ONNX graph (``to_onnx``), fresh statistics (``random_weights``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from engines.networks import Network


@dataclass(frozen=True, slots=True)
class Maps:
    """Feature maps between two layers: the tensor's name, its channels, and its side in pixels."""

    name: str
    channels: int
    side: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A convolution without bias and the norm after it, by the names of their weights."""

    name: str
    norm: str
    filters: int
    size: int
    """Side of the window."""
    stride: int = 1
    groups: int = 1
    pad: int

    def side(self, before: int) -> int:
        return (before + 2 * self.pad - self.size) // self.stride + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last layer: [norm,] flatten, linear, norm. By the names of their weights."""

    before: str | None
    linear: str
    bias: bool
    after: str
    dimensions: int


class Writer(Protocol):
    """Takes the layers one after the other."""

    def convolution(self, x: Maps, spec: Convolution) -> Maps: ...

    def norm(self, x: Maps, name: str) -> Maps: ...

    def prelu(self, x: Maps, name: str) -> Maps: ...

    def add(self, x: Maps, y: Maps) -> Maps: ...

    def head(self, x: Maps, head: Head) -> str: ...


def write(network: Network, writer: Writer, x: Maps) -> str:
    """Give every layer to the writer; the name of the embeddings' tensor (N, D)."""
    return _FAMILIES[network.family](network, writer, x)


def _iresnet(network: Network, writer: Writer, x: Maps) -> str:
    x = writer.convolution(x, Convolution(name="conv1", norm="bn1", filters=network.width, size=3, pad=1))
    x = writer.prelu(x, "prelu")
    for stage, count in enumerate(network.blocks):
        for index in range(count):
            x = _block(writer, x, f"layer{stage + 1}.{index}", network.width << stage, 2 if index == 0 else 1)
    return writer.head(x, Head(before="bn2", linear="fc", bias=True, after="features", dimensions=network.dimensions))


def _block(writer: Writer, x: Maps, name: str, filters: int, stride: int) -> Maps:
    y = writer.norm(x, f"{name}.bn1")
    y = writer.convolution(y, Convolution(name=f"{name}.conv1", norm=f"{name}.bn2", filters=filters, size=3, pad=1))
    y = writer.prelu(y, f"{name}.prelu")
    y = writer.convolution(
        y, Convolution(name=f"{name}.conv2", norm=f"{name}.bn3", filters=filters, size=3, pad=1, stride=stride)
    )
    if stride != 1 or x.channels != filters:
        down = f"{name}.downsample"
        x = writer.convolution(
            x, Convolution(name=f"{down}.0", norm=f"{down}.1", filters=filters, size=1, pad=0, stride=stride)
        )
    return writer.add(y, x)


def _mobilefacenet(network: Network, writer: Writer, x: Maps) -> str:
    width, inner, last = network.width, network.expansion, 4 * network.expansion
    first, second, third, fourth = network.blocks
    x = _active(writer, x, "layers.0", width, 3, stride=2)
    if first == 1:
        x = _active(writer, x, "layers.1", width, 3, groups=inner // 2)
    else:
        x = _residual(writer, x, "layers.1", inner, first)
    x = _depth_wise(writer, x, "layers.2", width, inner, stride=2)
    x = _residual(writer, x, "layers.3", inner, second)
    x = _depth_wise(writer, x, "layers.4", 2 * width, 2 * inner, stride=2)
    x = _residual(writer, x, "layers.5", 2 * inner, third)
    x = _depth_wise(writer, x, "layers.6", 2 * width, 4 * inner, stride=2)
    x = _residual(writer, x, "layers.7", 2 * inner, fourth)
    x = _active(writer, x, "conv_sep", last, 1)
    x = _plain(writer, x, "features.layers.0", last, network.last_side, groups=last, pad=0)
    head = Head(
        before=None,
        linear="features.layers.2",
        bias=False,
        after="features.layers.3",
        dimensions=network.dimensions,
    )
    return writer.head(x, head)


def _plain(
    writer: Writer,
    x: Maps,
    name: str,
    filters: int,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    pad: int | None = None,
) -> Maps:
    spec = Convolution(
        name=f"{name}.layers.0",
        norm=f"{name}.layers.1",
        filters=filters,
        size=size,
        stride=stride,
        groups=groups,
        pad=size // 2 if pad is None else pad,
    )
    return writer.convolution(x, spec)


def _active(writer: Writer, x: Maps, name: str, filters: int, size: int, *, stride: int = 1, groups: int = 1) -> Maps:
    return writer.prelu(_plain(writer, x, name, filters, size, stride=stride, groups=groups), f"{name}.layers.2")


def _depth_wise(writer: Writer, x: Maps, name: str, filters: int, inner: int, *, stride: int) -> Maps:
    y = _active(writer, x, f"{name}.layers.0", inner, 1)
    y = _active(writer, y, f"{name}.layers.1", inner, 3, stride=stride, groups=inner)
    y = _plain(writer, y, f"{name}.layers.2", filters, 1)
    return writer.add(y, x) if stride == 1 else y


def _residual(writer: Writer, x: Maps, name: str, inner: int, count: int) -> Maps:
    for index in range(count):
        x = _depth_wise(writer, x, f"{name}.layers.{index}", x.channels, inner, stride=1)
    return x


_FAMILIES: Final = {"iresnet": _iresnet, "mobilefacenet": _mobilefacenet}
