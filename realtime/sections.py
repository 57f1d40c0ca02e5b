"""Options in sections: typed, bounded, read from YAML files and ``section.key=value`` pairs.

Enters: a pydantic model of sections, a preset's name or a file, pairs. Leaves: the model, checked and frozen, or one
sentence that names the file, the key and the nearest known one.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from engines.presets import preset_path
from realtime.errors import SettingsError

MAX_CONFIG_BYTES: Final = 1 << 16
"""A configuration is a page of text; a larger file is something else. PyYAML takes a second for so much."""

MAX_KEY_PARTS: Final = 8
"""``section.key`` has two parts; a wrong key with more is read this far, and refused."""

_POWER: Final = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{0,20})?[eE][+-]?[0-9]{1,3}")
"""``5e-4``, which YAML 1.1 takes for text: it wants ``5.0e-4``."""

UNITS: Final = {"_s": "seconds", "_px": "pixels", "_deg": "degrees"}
"""An option's unit is in its name."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=BaseModel)


def load_sections(
    owner: type[S], config: str | None = None, overrides: Iterable[str] = (), *, presets: Sequence[str] = ()
) -> S:
    """Defaults of ``owner``, then the preset or file ``config``, then each ``section.key=value``.

    Raises:
        SettingsError: unreadable file, unknown key (with the nearest known one), wrong type or value out of bounds.
    """
    values: dict[str, dict[str, Any]] = {}
    origins: dict[tuple[str, str], str] = {}
    example = _example(owner, next(iter(owner.model_fields)))
    if config is not None:
        path = preset_path(config) if config in presets else Path(config)
        where = path.name if config in presets else config
        _merge(owner, values, origins, _read_yaml(path, where, presets), where)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {override[:80]}: expected section.key=value, as {example}")
        where = f"--set {override[:80]}"
        nested: Any = _parse_yaml(text, where)
        for part in reversed(key.strip().split(".")[:MAX_KEY_PARTS]):
            nested = {part: nested}
        _merge(owner, values, origins, nested, where)
    return _validate(owner, values, origins)


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which let a small file grow without bound, and without keys that stand twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*name) have no use in a configuration")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{_brief(key.value)} stands twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _PlainLoader)  # a SafeLoader: makes no objects
    except yaml.MarkedYAMLError as err:
        line = "" if err.problem_mark is None else f", line {err.problem_mark.line + 1}"
        raise SettingsError(f"{where}: not usable YAML{line}: {err.problem}") from err
    except yaml.YAMLError as err:
        raise SettingsError(f"{where}: not YAML text") from err
    except RecursionError as err:
        raise SettingsError(f"{where}: nested too deeply for a configuration") from err
    except ValueError as err:  # an impossible date, a number of thousands of digits
        raise SettingsError(f"{where}: holds a value that YAML cannot read ({err})") from err


def _read_yaml(path: Path, where: str, presets: Sequence[str]) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise SettingsError(f"{where}: larger than {MAX_CONFIG_BYTES} bytes; a configuration is a page of YAML")
        text = content.decode("utf-8")
    except FileNotFoundError as err:
        raise SettingsError(f"{where}: no such configuration file; the presets are {', '.join(presets)}") from err
    except OSError as err:
        raise SettingsError(f"{where}: cannot be read ({err.strerror or err})") from err
    except ValueError as err:
        raise SettingsError(f"{where}: is not a text file; a configuration is a page of YAML") from err
    loaded = _parse_yaml(text, where)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(f"{where}: expected sections such as 'detect:', got {type(loaded).__name__}")
    return loaded


def _merge(
    owner: type[BaseModel],
    values: dict[str, dict[str, Any]],
    origins: dict[tuple[str, str], str],
    new: Mapping[Any, Any],
    where: str,
) -> None:
    for section, options in new.items():
        _known(section, owner, owner, where, "")
        if options is None:
            continue
        if not isinstance(options, Mapping):
            raise SettingsError(
                f"{where}: {section} is a section; write its options below it, as {_example(owner, section)}"
            )
        for key, value in options.items():
            _known(key, _section(owner, section), owner, where, f"{section}: ")
            values.setdefault(section, {})[key] = value
            origins[section, key] = where


def _known(key: Any, owner: type[BaseModel], whole: type[BaseModel], where: str, prefix: str) -> None:
    if isinstance(key, str) and key in owner.model_fields:
        return
    sections = [name for name in whole.model_fields if str(key) in _section(whole, name).model_fields]
    near = difflib.get_close_matches(str(key), owner.model_fields, n=1, cutoff=0.5)
    if sections:
        hint = f"{key} belongs to {' or '.join(sections)}, as {sections[0]}.{key}"
    else:
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(owner.model_fields)}"
    raise SettingsError(f"{where}: {prefix}unknown key {_brief(key)}; {hint}")


def _section(whole: type[BaseModel], name: str) -> type[BaseModel]:
    owner = whole.model_fields[name].annotation
    assert isinstance(owner, type)
    assert issubclass(owner, BaseModel)
    return owner


def _example(whole: type[BaseModel], section: str) -> str:
    name, field = next(iter(_section(whole, section).model_fields.items()))
    return f"{section}.{name}={field.default}"


def _brief(value: Any) -> str:
    """A value for a message: a line of it at most, however large it is."""
    return reprlib.repr(value)


def _validate(owner: type[S], values: dict[str, dict[str, Any]], origins: Mapping[tuple[str, str], str]) -> S:
    try:
        return owner.model_validate(_ints_as_floats(values, owner))
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        section, key = str(first["loc"][0]), str(first["loc"][1])
        where = origins.get((section, key), "defaults")
        field = _section(owner, section).model_fields[key]
        raise SettingsError(
            f"{where}: {section}.{key} ({field.description}): {first['msg'].lower()}, "
            f"got {_brief(first.get('input'))}{_unit_hint(key, first.get('input'))}"
        ) from err


def _unit_hint(key: str, got: Any) -> str:
    """For ``timeout_s: 5 s``: the unit belongs to the name, the value is a number alone."""
    unit = next((unit for suffix, unit in UNITS.items() if key.endswith(suffix)), None)
    if unit is None or not isinstance(got, str) or not got.strip()[:1].isdigit():
        return ""
    return f"; write the number alone, it is in {unit}"


def _ints_as_floats(values: dict[str, Any], owner: type[BaseModel]) -> dict[str, Any]:
    """YAML's ``5`` is an int and its ``5e-4`` a text; where a float is wanted neither is a mistake (strict mode would
    refuse both)."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        annotation = owner.model_fields[key].annotation
        if isinstance(value, dict) and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            out[key] = _ints_as_floats(value, annotation)
        elif _accepts(annotation, float) and _is_float(value):
            out[key] = float(value)
        elif type(value) is int and _accepts_text_digit(annotation):
            out[key] = str(value)
        else:
            out[key] = value
    return out


def _is_float(value: Any) -> bool:
    if isinstance(value, str):
        return _POWER.fullmatch(value) is not None
    return type(value) is int and abs(value) < 1 << 53


def _accepts(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or wanted in get_args(annotation)


def _accepts_text_digit(annotation: Any) -> bool:
    return get_origin(annotation) is Literal and all(
        isinstance(arg, str) and arg.isdigit() for arg in get_args(annotation)
    )
