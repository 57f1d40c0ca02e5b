"""Where configs/ is: beside the packages in a checkout, inside the wheel after an install."""

from __future__ import annotations

from pathlib import Path
from typing import Final


def configs_dir() -> Path:
    """The folder of YAML presets that this installation carries."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "configs"


TRAINING: Final = ("train_", "kface_", "lfw_")
"""How presets of training begin: with the set that they are for, or with the word itself."""


def preset_names() -> list[str]:
    """Names that ``realtime --config NAME`` finds; model tables and presets of training are none."""
    return [name for name in _names() if name != "models" and not name.startswith(TRAINING)]


def training_preset_names() -> list[str]:
    """Names that ``python -m train fit NAME`` finds."""
    return [name for name in _names() if name.startswith(TRAINING)]


def _names() -> list[str]:
    return sorted(path.stem for path in configs_dir().glob("*.yaml"))


def preset_path(name: str) -> Path:
    return configs_dir() / f"{name}.yaml"
