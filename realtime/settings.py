"""Every option of the program: names, types, units, defaults and bounds.

Enters: YAML files and ``key=value`` pairs. Leaves: one checked, frozen ``Settings``. ``configs/default.yaml`` lists the
same options with their comments; a test holds the two together.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.presets import preset_names, preset_path
from realtime.errors import SettingsError

MAX_CONFIG_BYTES: Final = 1 << 16
"""A configuration is a page of text; a larger file is something else. PyYAML takes a second for so much."""

MAX_KEY_PARTS: Final = 8
"""``section.key`` has two parts; a wrong key with more is read this far, and refused."""

UNITS: Final = {"_s": "seconds", "_px": "pixels", "_deg": "degrees"}
"""An option's unit is in its name."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        default="auto", description="arithmetic of the cnn; int8 is quicker, and its boxes jump more"
    )
    min_face_px: int = Field(default=60, ge=12, le=4096, description="smallest face wanted, pixels of a 720p frame")
    every: int = Field(default=15, ge=1, le=1000, description="frames between coarse looks at the whole frame")
    coarse_face_px: int = Field(default=160, ge=12, le=4096, description="smallest face of a coarse look, at 720p")
    fine_every_s: float = Field(default=2.5, gt=0, le=3600, description="seconds between looks for min_face_px")
    min_score: float | None = Field(default=None, description="detector score below which a box is ignored")
    threads: int = Field(default=2, ge=1, le=64, description="detector threads")


class TrackSettings(Section):
    enabled: bool = Field(default=True, description="follow faces between detections by optical flow")
    max_missed: int = Field(
        default=3, ge=0, le=100, description="looks in a row that may miss a face before it is lost"
    )
    min_iou: float = Field(default=0.3, gt=0, lt=1, description="overlap at which a detection is a track's")


class AlignSettings(Section):
    landmarks: Literal["5", "68"] = Field(default="5", description="dlib's 5 points (CC0) or 68 (non-commercial data)")


class EmbedSettings(Section):
    model: str | None = Field(
        default=None, description="an ONNX file or the name of a fetched model; the embedded dlib network if empty"
    )
    runtime: Literal[
        "auto", "tensorrt", "torch-cuda", "onnxruntime-cuda", "openvino", "onnxruntime", "torch", "torch2trt"
    ] = Field(default="auto", description="what runs the model")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        default="auto", description="arithmetic of the runtime"
    )
    calibration: str | None = Field(
        default=None, description="folder of faces that int8 is made from; shipped ranges or those enrolled if empty"
    )
    require_gpu: bool = Field(default=False, description="stop where no NVIDIA GPU can run the model, and say why")
    on_gpu_loss: Literal["fall_back", "stop"] = Field(
        default="fall_back", description="when the GPU fails in mid-run: go on without it, or stop"
    )
    threads: int = Field(default=1, ge=1, le=64, description="threads of the model, where it runs on the processor")
    max_batch: int = Field(default=8, ge=1, le=1024, description="faces of one micro-batch")


class IdentitySettings(Section):
    threshold: float | None = Field(
        default=None, gt=0, le=4, description="squared L2 below which a name is given; the model's own if empty"
    )
    margin: float = Field(
        default=0.04, ge=0, le=4, description="how much nearer the best person must be than the second"
    )
    min_views: int = Field(default=2, ge=1, le=100, description="views that must agree before a name is given")
    eager_views: int = Field(default=6, ge=1, le=100, description="views that an unnamed face gets in quick succession")
    hindsight_s: float = Field(default=0.5, ge=0, le=10, description="files only: names reach back so far, seconds")
    keep: float = Field(default=1.15, ge=1, le=2, description="a name once given stands up to this many thresholds")
    support: float = Field(
        default=2.2, ge=1, le=10, description="a single view beyond this many thresholds doubts a name"
    )
    same_face: float = Field(
        default=1.3, gt=0, le=10, description="a doubtful track's view this far off is another face"
    )
    same_face_sure: float = Field(default=3.0, gt=0, le=10, description="any track's view this far off is another face")
    verify_every_s: float = Field(default=1.0, gt=0, le=3600, description="a named face is looked at again so often")
    retry_every_s: float = Field(default=0.5, gt=0, le=3600, description="an unknown face is looked at again so often")


class ShowSettings(Section):
    font: str | None = Field(default=None, description="a font file for names; found or shipped if empty")
    width: int = Field(default=1280, ge=160, le=16384, description="of the window at start, pixels")
    height: int = Field(default=720, ge=120, le=16384, description="of the window at start, pixels")
    crf: int = Field(default=23, ge=0, le=51, description="quality of written video, lower is better")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = Field(
        default="veryfast", description="x264's speed of written video"
    )


class GallerySettings(Section):
    store_crops: bool = Field(default=True, description="keep the aligned crop of a reference, for another model later")
    min_face_px: int = Field(default=40, ge=12, le=4096, description="narrower faces are not enrolled, pixels")
    min_sharpness: float = Field(default=7.0, ge=0, le=1e6, description="blurrier crops are not enrolled")
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
    values: dict[str, dict[str, Any]] = {}
    origins: dict[tuple[str, str], str] = {}
    if config is not None:
        path = preset_path(config) if config in preset_names() else Path(config)
        where = path.name if config in preset_names() else config
        _merge(values, origins, _read_yaml(path, where), where)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {override[:80]}: expected section.key=value, as detect.every=3")
        where = f"--set {override[:80]}"
        nested: Any = _parse_yaml(text, where)
        for part in reversed(key.strip().split(".")[:MAX_KEY_PARTS]):
            nested = {part: nested}
        _merge(values, origins, nested, where)
    return _validate(values, origins)


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


def _read_yaml(path: Path, where: str) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise SettingsError(f"{where}: larger than {MAX_CONFIG_BYTES} bytes; a configuration is a page of YAML")
        text = content.decode("utf-8")
    except FileNotFoundError as err:
        raise SettingsError(
            f"{where}: no such configuration file; the presets are {', '.join(preset_names())}"
        ) from err
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
    values: dict[str, dict[str, Any]], origins: dict[tuple[str, str], str], new: Mapping[Any, Any], where: str
) -> None:
    for section, options in new.items():
        _known(section, Settings, where, "")
        if options is None:
            continue
        if not isinstance(options, Mapping):
            raise SettingsError(f"{where}: {section} is a section; write its options below it, as {_example(section)}")
        for key, value in options.items():
            _known(key, _section(section), where, f"{section}: ")
            values.setdefault(section, {})[key] = value
            origins[section, key] = where


def _known(key: Any, owner: type[BaseModel], where: str, prefix: str) -> None:
    if isinstance(key, str) and key in owner.model_fields:
        return
    sections = [name for name in Settings.model_fields if str(key) in _section(name).model_fields]
    near = difflib.get_close_matches(str(key), owner.model_fields, n=1, cutoff=0.5)
    if sections:
        hint = f"{key} belongs to {' or '.join(sections)}, as {sections[0]}.{key}"
    else:
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(owner.model_fields)}"
    raise SettingsError(f"{where}: {prefix}unknown key {_brief(key)}; {hint}")


def _section(name: str) -> type[BaseModel]:
    owner = Settings.model_fields[name].annotation
    assert isinstance(owner, type)
    assert issubclass(owner, BaseModel)
    return owner


def _example(section: str) -> str:
    name, field = next(iter(_section(section).model_fields.items()))
    return f"{section}.{name}={field.default}"


def _brief(value: Any) -> str:
    """A value for a message: a line of it at most, however large it is."""
    return reprlib.repr(value)


def _validate(values: dict[str, dict[str, Any]], origins: Mapping[tuple[str, str], str]) -> Settings:
    try:
        return Settings.model_validate(_ints_as_floats(values, Settings))
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        section, key = str(first["loc"][0]), str(first["loc"][1])
        where = origins.get((section, key), "defaults")
        field = _section(section).model_fields[key]
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
    """YAML's ``5`` is an int; where a float is wanted that is no mistake (strict mode would refuse it)."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        annotation = owner.model_fields[key].annotation
        if isinstance(value, dict) and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            out[key] = _ints_as_floats(value, annotation)
        elif type(value) is int and _accepts(annotation, float) and abs(value) < 1 << 53:
            out[key] = float(value)
        elif type(value) is int and _accepts_text_digit(annotation):
            out[key] = str(value)
        else:
            out[key] = value
    return out


def _accepts(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or wanted in get_args(annotation)


def _accepts_text_digit(annotation: Any) -> bool:
    return get_origin(annotation) is Literal and all(
        isinstance(arg, str) and arg.isdigit() for arg in get_args(annotation)
    )
