"""Writes configs/default.yaml from the models in realtime/settings.py; a test holds the two together.

Run it as ``make docs`` after an option was added or changed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from realtime.sections import UNITS
from realtime.settings import Settings

TARGET = Path(__file__).resolve().parents[1] / "configs" / "default.yaml"

HEADER = """\
# Every option with its meaning, unit and default. Copy what you want to change into a file of your own:
#
#   realtime --source 0 --config mine.yaml
#   realtime --source 0 --set detect.every=5
#
# A key that is not in this list is refused, with the nearest one that is. Written by docs/write_default_config.py.
"""


def default_yaml() -> str:
    """The whole file, as it should be."""
    defaults = Settings()
    parts = [HEADER]
    for section in Settings.model_fields:
        owner = getattr(defaults, section)
        parts.append(f"\n{section}:\n")
        for key, field in type(owner).model_fields.items():
            parts.append(f"  # {_comment(key, field)}\n  {key}: {_scalar(getattr(owner, key))}\n")
    return "\n".join(line.rstrip() for line in "".join(parts).splitlines()) + "\n"


def _comment(key: str, field: FieldInfo) -> str:
    text = str(field.description)
    unit = next((unit for suffix, unit in UNITS.items() if key.endswith(suffix)), "")
    if unit and unit not in text:
        text += f", {unit}"
    return text + _bounds(field)


def _bounds(field: FieldInfo) -> str:
    """`` (1 to 1000)``, or the words that may stand here."""
    choices = [word for part in _members(field.annotation) if get_origin(part) is Literal for word in get_args(part)]
    if choices:
        return f" ({' | '.join(choices)})"
    limits = {
        name: f"{getattr(item, name):.12g}"
        for item in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(item, name)
    }
    words = {"ge": "", "gt": "above ", "le": "to ", "lt": "below "}
    text = " ".join(f"{words[name]}{limit}" for name, limit in limits.items())
    return f" ({text})" if text else ""


def _members(annotation: Any) -> tuple[Any, ...]:
    return (annotation,) if get_origin(annotation) is Literal else (annotation, *get_args(annotation))


def _scalar(value: Any) -> str:
    """One YAML value; an empty one is left out, as a person would write it."""
    return "" if value is None else yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def main() -> None:
    TARGET.write_text(default_yaml(), encoding="utf-8")
    sys.stdout.write(f"{TARGET.name} written\n")


if __name__ == "__main__":
    main()
