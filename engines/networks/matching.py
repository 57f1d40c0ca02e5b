"""Whether weights belong to a network, and to which one they belong instead.

Enters: arrays by name. Leaves: the network, with the number of dimensions that the weights have, or an error that
knows every array that is missing, too many or of another shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelFileError
from engines.networks import NETWORKS, Network
from engines.networks.shapes import expected_shapes

SHOWN: Final = 3
"""Names of each kind that stand in the sentence; all of them are in ``WeightsMismatch.mismatch``."""

_LAST: Final = {"iresnet": "features.bias", "mobilefacenet": "features.layers.3.bias"}
"""An array as long as an embedding."""

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How a file differs from a network; every name is there."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: tuple[str, ...]
    """As ``fc.weight is 512x512, not 512x25088``."""

    @property
    def any(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class WeightsMismatch(ModelFileError):  # noqa: N818 - reads better where it is raised
    """The weights are not those of the network."""

    def __init__(self, message: str, mismatch: Mismatch) -> None:
        super().__init__(message)
        self.mismatch = mismatch


def match(arrays: Arrays, network: Network, where: str) -> Network:
    """The network with as many dimensions as the weights have; ``where`` names the file.

    Raises:
        WeightsMismatch: an array is missing, too many or of another shape.
    """
    fitting = _with_dimensions_of(arrays, network)
    mismatch = compare(arrays, fitting)
    if not mismatch.any:
        return fitting
    parts = [
        f"{len(names)} {words} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
        for names, words in (
            (mismatch.missing, "missing"),
            (mismatch.unexpected, "unexpected"),
            (mismatch.misshaped, "of another shape"),
        )
        if names
    ]
    owners = fitting_networks(arrays)
    advice = (
        f"these are the weights of {owners[0]}: say so with --network" if owners else "give another file or network"
    )
    raise WeightsMismatch(f"{where}: does not fit {network.name}: {'; '.join(parts)}; {advice}", mismatch)


def guess(arrays: Arrays, where: str) -> Network:
    """The one network of the table that the weights fit.

    Raises:
        ModelFileError: none fits.
    """
    owners = fitting_networks(arrays)
    if not owners:
        raise ModelFileError(
            f"{where}: fits none of {', '.join(NETWORKS)}; name the one that it should fit with --network, and what "
            "differs is listed"
        )
    return match(arrays, NETWORKS[owners[0]], where)


def fitting_networks(arrays: Arrays) -> list[str]:
    """Names of all networks of the table that the weights fit, any number of dimensions."""
    return [name for name, known in NETWORKS.items() if not compare(arrays, _with_dimensions_of(arrays, known)).any]


def compare(arrays: Arrays, network: Network) -> Mismatch:
    """Every difference in names and shapes, in the network's order."""
    expected = expected_shapes(network)
    return Mismatch(
        missing=tuple(name for name in expected if name not in arrays),
        unexpected=tuple(name for name in arrays if name not in expected),
        misshaped=tuple(
            f"{name} is {_shown(arrays[name].shape)}, not {_shown(shape)}"
            for name, shape in expected.items()
            if name in arrays and arrays[name].shape != shape
        ),
    )


def _with_dimensions_of(arrays: Arrays, network: Network) -> Network:
    last = arrays.get(_LAST[network.family])
    if last is None or last.ndim != 1 or not last.size:
        return network
    return replace(network, dimensions=last.size)


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
