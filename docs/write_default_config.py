"""Writes configs/default.yaml and configs/train_default.yaml from the models in realtime/settings.py and
train/settings.py; tests hold them together.

Run it as ``make docs`` after an option was added or changed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from realtime.sections import UNITS
from realtime.settings import Settings
from train.settings import FitSettings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

HEADER = """\
# Every option with its meaning, unit and default. Copy what you want to change into a file of your own:
#
#   realtime --source 0 --config mine.yaml
#   realtime --source 0 --set detect.every=5
#
# A key that is not in this list is refused, with the nearest one that is. Written by docs/write_default_config.py.
"""


TRAINING_HEADER = """\
# Every option of a training run with its meaning, unit and default. Copy what you want to change into your own file:
#
#   python -m train fit mine.yaml
#   python -m train fit kface_r50 --set optimiser.lr=0.01
#
# A key that is not in this list is refused, with the nearest one that is. Written by docs/write_default_config.py.
"""


def default_yaml(defaults: BaseModel | None = None, header: str = HEADER) -> str:
    """The whole file, as it should be; of ``Settings`` if no other model is given."""
    defaults = defaults or Settings()
    parts = [header]
    for section in type(defaults).model_fields:
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
    for name, text in (
        ("default.yaml", default_yaml()),
        ("train_default.yaml", default_yaml(FitSettings(), TRAINING_HEADER)),
    ):
        (CONFIGS / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name} written\n")


if __name__ == "__main__":
    main()
