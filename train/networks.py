"""The network that a run's settings name, from the table of engines/ or with numbers of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from engines.networks import NETWORKS, Network
from train.errors import ConfigError
from train.settings import NetworkSettings

CUSTOM: Final = "custom"


def network_of(settings: NetworkSettings, *, input_size: int = 112) -> Network:
    """
    Args:
        settings: section ``network`` of a run.
        input_size: side of the crops, pixels.

    Raises:
        ConfigError: no such network, a custom one without its numbers, or crops that it cannot take.
    """
    try:
        if settings.name != CUSTOM:
            if settings.name not in NETWORKS:
                known = ", ".join((*NETWORKS, CUSTOM))
                raise ConfigError(f"network.name is {settings.name!r}; known are {known}")
            return replace(NETWORKS[settings.name], dimensions=settings.dimensions, input_size=input_size)
        if settings.blocks is None or settings.width is None or len(settings.blocks) != 4:
            raise ConfigError("a custom network needs network.blocks, as [1, 1, 1, 1], and network.width, as 32")
        first, second, third, fourth = settings.blocks
        return Network(
            name=f"{settings.family}-{'-'.join(map(str, settings.blocks))}-w{settings.width}",
            family=settings.family,
            blocks=(first, second, third, fourth),
            width=settings.width,
            expansion=settings.width if settings.family == "mobilefacenet" else 0,
            dimensions=settings.dimensions,
            input_size=input_size,
        )
    except ValueError as err:
        raise ConfigError(f"network: {err}") from err
