"""Where configs/ is: beside the packages in a checkout, inside the wheel after an install."""

from __future__ import annotations

from pathlib import Path


def configs_dir() -> Path:
    """The folder of YAML presets that this installation carries."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "configs"


def preset_names() -> list[str]:
    """Names that ``--config NAME`` finds; model tables are not presets."""
    return sorted(path.stem for path in configs_dir().glob("*.yaml") if path.stem != "models")


def preset_path(name: str) -> Path:
    return configs_dir() / f"{name}.yaml"
