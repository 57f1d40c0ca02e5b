"""Every option of the program: names, types, units, defaults and bounds.

Enters: YAML files and ``key=value`` pairs. Leaves: one checked, frozen ``Settings``. ``configs/default.yaml`` lists the
same options with their comments; a test holds the two together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.presets import preset_names, preset_path
from realtime.errors import SettingsError

MAX_CONFIG_BYTES = 1 << 20
"""A configuration is a page of text; a larger file is something else."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CaptureSettings(Section):
    timeout_s: float = Field(default=5.0, gt=0, le=600, description="a stream silent for so long is lost, seconds")
    reconnect_max_s: float = Field(default=30.0, ge=1, le=3600, description="longest wait between two tries, seconds")
    transport: Literal["tcp", "udp"] = Field(default="tcp", description="RTSP transport")
    width: int | None = Field(default=None, ge=16, le=16384, description="asked of a webcam, pixels")
    height: int | None = Field(default=None, ge=16, le=16384, description="asked of a webcam, pixels")
    fps: float | None = Field(default=None, gt=0, le=1000, description="asked of a webcam, frames a second")
    as_live: bool = Field(default=False, description="play files at their own pace, newest frame only, as a camera")
    loop: bool = Field(default=False, description="start a file again at its end (with as_live: a camera for tests)")


class DetectSettings(Section):
    kind: Literal["hog", "cnn", "yunet"] = Field(default="hog", description="which detector")
    model: str | None = Field(default=None, description="file of the detector, for yunet")
    min_face_px: int = Field(default=60, ge=12, le=4096, description="smallest face wanted, pixels of a 720p frame")
    every: int = Field(default=10, ge=1, le=1000, description="frames between looks at the whole frame")
    min_score: float | None = Field(default=None, description="detector score below which a box is ignored")
    threads: int = Field(default=2, ge=1, le=64, description="detector threads")


class TrackSettings(Section):
    enabled: bool = Field(default=True, description="follow faces between detections by optical flow")
    max_missed: int = Field(default=3, ge=0, le=100, description="looks in a row that may miss a face before it is lost")
    min_iou: float = Field(default=0.3, gt=0, lt=1, description="overlap at which a detection is a track's")


class AlignSettings(Section):
    landmarks: Literal["5", "68"] = Field(default="5", description="dlib's 5 points (CC0) or 68 (non-commercial data)")


class EmbedSettings(Section):
    model: str | None = Field(default=None, description="an ONNX file with a manifest; the embedded dlib network if empty")
    runtime: Literal["auto", "onnxruntime", "openvino"] = Field(default="auto", description="what runs the model")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="arithmetic of the runtime")
    threads: int = Field(default=1, ge=1, le=64, description="threads of the model")
    max_batch: int = Field(default=8, ge=1, le=1024, description="faces of one micro-batch")


class IdentitySettings(Section):
    threshold: float | None = Field(
        default=None, gt=0, le=4, description="squared L2 below which a name is given; the model's own if empty"
    )
    margin: float = Field(default=0.04, ge=0, le=4, description="how much nearer the best person must be than the second")
    verify_every_s: float = Field(default=1.0, gt=0, le=3600, description="a named face is looked at again so often")
    retry_every_s: float = Field(default=0.5, gt=0, le=3600, description="an unknown face is looked at again so often")


class ShowSettings(Section):
    font: str | None = Field(default=None, description="a font file for names; found or shipped if empty")
    width: int = Field(default=1280, ge=160, le=16384, description="of the window at start, pixels")
    height: int = Field(default=720, ge=120, le=16384, description="of the window at start, pixels")
    crf: int = Field(default=23, ge=0, le=51, description="quality of written video, lower is better")
    preset: str = Field(default="veryfast", pattern="^[a-z]+$", description="x264's speed of written video")


class GallerySettings(Section):
    store_crops: bool = Field(default=True, description="keep the aligned crop of a reference, for another model later")
    min_face_px: int = Field(default=40, ge=12, le=4096, description="narrower faces are not enrolled, pixels")
    min_sharpness: float = Field(default=0.0, ge=0, le=1e6, description="blurrier crops are not enrolled")
    max_yaw_deg: float = Field(default=45.0, gt=0, le=90, description="faces turned further are not enrolled, degrees")


class Settings(Section):
    """All sections; ``Settings()`` is what runs without a configuration."""

    capture: CaptureSettings = CaptureSettings()
    detect: DetectSettings = DetectSettings()
    track: TrackSettings = TrackSettings()
    align: AlignSettings = AlignSettings()
    embed: EmbedSettings = EmbedSettings()
    identity: IdentitySettings = IdentitySettings()
    gallery: GallerySettings = GallerySettings()
    show: ShowSettings = ShowSettings()


def load_settings(config: str | None = None, overrides: Iterable[str] = ()) -> Settings:
    """Defaults, then the preset or file ``config``, then each ``section.key=value``.

    Raises:
        SettingsError: unreadable file, unknown key (with the nearest known one), wrong type or value out of bounds.
    """
    values: dict[str, Any] = {}
    where = "defaults"
    if config is not None:
        path = preset_path(config) if config in preset_names() else Path(config)
        where = str(path.name if config in preset_names() else config)
        _merge(values, _read_yaml(path, where), where)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {override}: expected section.key=value, as detect.every=3")
        try:
            value = yaml.safe_load(text) if text.strip() else None
        except yaml.YAMLError as err:
            raise SettingsError(f"--set {override}: the value is not valid YAML") from err
        nested: Any = value
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        _merge(values, nested, f"--set {key.strip()}")
    return _validate(values, where)


def _read_yaml(path: Path, where: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise SettingsError(f"{where}: larger than {MAX_CONFIG_BYTES} bytes; a configuration is a page of YAML")
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise SettingsError(
            f"{where}: no such configuration file; the presets are {', '.join(preset_names())}"
        ) from err
    except (OSError, UnicodeDecodeError) as err:
        raise SettingsError(f"{where}: cannot be read as text ({err})") from err
    except yaml.YAMLError as err:
        line = getattr(getattr(err, "problem_mark", None), "line", None)
        raise SettingsError(f"{where}: not valid YAML{'' if line is None else f', line {line + 1}'}") from err
    except RecursionError as err:
        raise SettingsError(f"{where}: nested too deeply for a configuration") from err
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(f"{where}: expected sections such as 'detect:', got {type(loaded).__name__}")
    return loaded


def _merge(values: dict[str, Any], new: Mapping[Any, Any], where: str) -> None:
    for section, options in new.items():
        _known(section, Settings, where, "")
        if options is None:
            continue
        if not isinstance(options, Mapping):
            raise SettingsError(f"{where}: {section} is a section; write its options below it, as {_example(section)}")
        owner = Settings.model_fields[section].annotation
        assert owner is not None
        for key in options:
            _known(key, owner, where, f"{section}: ")
        values.setdefault(section, {}).update(options)


def _known(key: Any, owner: type[BaseModel], where: str, prefix: str) -> None:
    if key in owner.model_fields:
        return
    near = difflib.get_close_matches(str(key), owner.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(owner.model_fields)}"
    raise SettingsError(f"{where}: {prefix}unknown key {str(key)!r}; {hint}")


def _example(section: str) -> str:
    owner = Settings.model_fields[section].annotation
    assert owner is not None
    name, field = next(iter(owner.model_fields.items()))
    return f"{section}.{name}={field.default}"


def _validate(values: dict[str, Any], where: str) -> Settings:
    try:
        return Settings.model_validate(_ints_as_floats(values, Settings))
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        got = first.get("input")
        raise SettingsError(f"{key}: {first['msg'].lower()}, got {got!r} ({where}; see configs/default.yaml)") from err


def _ints_as_floats(values: dict[str, Any], owner: type[BaseModel]) -> dict[str, Any]:
    """YAML's ``5`` is an int; where a float is wanted that is no mistake (strict mode would refuse it)."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        annotation = owner.model_fields[key].annotation
        if isinstance(value, dict) and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            out[key] = _ints_as_floats(value, annotation)
        elif type(value) is int and _accepts(annotation, float):
            out[key] = float(value)
        elif type(value) is int and _accepts_text_digit(annotation):
            out[key] = str(value)
        else:
            out[key] = value
    return out


def _accepts(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or wanted in get_args(annotation)


def _accepts_text_digit(annotation: Any) -> bool:
    return get_origin(annotation) is Literal and all(isinstance(arg, str) and arg.isdigit() for arg in get_args(annotation))
