"""configs/*.yaml and realtime/settings.py agree; wrong configurations get one sentence; hostile ones do no harm."""

from __future__ import annotations

import string
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engines.presets import configs_dir, preset_names
from engines.runtimes import MODULES, PRECISIONS
from realtime.errors import SettingsError
from realtime.sections import MAX_CONFIG_BYTES, UNITS
from realtime.settings import DetectSettings, EmbedSettings, Settings, load_settings
from tests.scripts import script

SECTIONS = {name: type(getattr(Settings(), name)) for name in Settings.model_fields}


def refusal(config: Path | None = None, *overrides: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(None if config is None else str(config), overrides)
    return str(caught.value)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


# the file and the models


def test_default_yaml_lists_every_option_with_its_default() -> None:
    listed = yaml.safe_load((configs_dir() / "default.yaml").read_text())
    assert {section: list(options) for section, options in listed.items()} == {
        section: list(owner.model_fields) for section, owner in SECTIONS.items()
    }, "run `make docs`"
    assert load_settings("default") == Settings(), "run `make docs`"


def test_default_yaml_says_what_the_models_say() -> None:
    written = script("write_default_config").default_yaml()
    assert (configs_dir() / "default.yaml").read_text() == written, "run `make docs`"


def test_every_option_has_a_description_and_its_unit() -> None:
    comments = script("write_default_config").default_yaml()
    for section, owner in SECTIONS.items():
        for key, field in owner.model_fields.items():
            assert field.description, f"{section}.{key} has no description"
            for suffix, unit in UNITS.items():
                if key.endswith(suffix):
                    line = comments.split(f"\n  {key}:")[0].rsplit("\n", 1)[-1]
                    assert unit in line, f"{section}.{key}"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_loads_and_names_itself_in_its_example(name: str) -> None:
    settings = load_settings(name)
    if name != "default":
        assert settings != Settings(), "a preset that changes nothing"
        assert f"--config {name}" in (configs_dir() / f"{name}.yaml").read_text()


def test_presets_are_the_ones_that_the_readme_promises() -> None:
    assert {"default", "webcam", "cameras", "accurate", "light"} <= set(preset_names())


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().detect.every = 3  # type: ignore[misc]


# what wins


def test_set_wins_over_the_file_and_the_file_over_the_default(config: Path) -> None:
    config.write_text("detect:\n  every: 7\n  threads: 3\n")
    settings = load_settings(str(config), ["detect.every=9"])
    assert (settings.detect.every, settings.detect.threads, settings.detect.kind) == (9, 3, "hog")


def test_a_preset_can_be_changed_with_set() -> None:
    settings = load_settings("webcam", ["capture.fps=15"])
    assert (settings.capture.fps, settings.capture.width) == (15.0, 1280)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("capture.timeout_s=3", "capture", "timeout_s", 3.0),
        ("capture.as_live=true", "capture", "as_live", True),
        ("align.landmarks=68", "align", "landmarks", "68"),
        ("detect.model=a file.onnx", "detect", "model", "a file.onnx"),
        ("detect.min_score=-0.5", "detect", "min_score", -0.5),
        ("identity.threshold=", "identity", "threshold", None),
        (" detect.every = 4", "detect", "every", 4),
        ("embed.model=a=b.onnx", "embed", "model", "a=b.onnx"),
    ],
)
def test_set_reads_what_a_person_types(override: str, section: str, key: str, value: object) -> None:
    assert getattr(getattr(load_settings(None, [override]), section), key) == value


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "detect:\n", "---\n...\n", "\ufeffdetect:\n  every: 3\n"])
def test_an_empty_file_an_empty_section_and_a_windows_file_are_fine(config: Path, text: str) -> None:
    config.write_text(text, encoding="utf-8")
    assert load_settings(str(config)).detect.every == (3 if "every" in text else Settings().detect.every)


# mistakes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("detect:\n  min_scor: 1\n", ["mine.yaml: detect: unknown key 'min_scor'", "did you mean 'min_score'?"]),
        ("detekt:\n  every: 1\n", ["unknown key 'detekt'", "did you mean 'detect'?"]),
        ("every: 3\n", ["unknown key 'every'", "detect.every"]),
        ("zzz: 3\n", ["unknown key 'zzz'", "known are capture, detect"]),
        ("3: 3\n", ["unknown key 3"]),
        ("capture:\n  timeout_s: 5 s\n", ["capture.timeout_s", "valid number", "'5 s'", "in seconds"]),
        ("detect:\n  min_face_px: 60px\n", ["detect.min_face_px", "'60px'", "in pixels"]),
        ("detect:\n  every: 2.5\n", ["detect.every", "valid integer", "2.5"]),
        ("detect:\n  every: true\n", ["detect.every", "valid integer", "True"]),
        ("detect:\n  every: 0\n", ["detect.every", "greater than or equal to 1", "got 0"]),
        ("detect:\n  kind: dog\n", ["detect.kind", "'hog', 'cnn' or 'yunet'", "'dog'"]),
        ("track:\n  enabled: 1\n", ["track.enabled", "valid boolean"]),
        ("detect:\n  min_score: .nan\n", ["detect.min_score", "finite"]),
        ("detect: 3\n", ["detect is a section", "detect.kind=hog"]),
        ("- detect\n", ["expected sections such as 'detect:'", "list"]),
        ("just text\n", ["expected sections such as 'detect:'", "str"]),
        ("detect: [unclosed\n", ["mine.yaml", "YAML, line"]),
        ("detect:\n  every: 1\ndetect:\n  every: 2\n", ["line 3", "'detect' stands twice"]),
        ("!!python/object/apply:os.system ['true']\n", ["mine.yaml", "YAML, line 1"]),
        ("capture:\n  timeout_s: 2001-99-99\n", ["mine.yaml", "cannot read"]),
        ("capture:\n  fps: " + "9" * 400 + "\n", ["capture.fps"]),
        ("capture:\n  fps: " + "9" * 9000 + "\n", ["mine.yaml", "cannot read"]),
    ],
)
def test_a_mistake_gets_one_sentence_with_what_and_where(config: Path, text: str, parts: list[str]) -> None:
    config.write_text(text)
    message = refusal(config)
    assert [part for part in parts if part not in message] == []
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("detect.every", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("detect.evry=3", "did you mean 'every'?"),
        ("every=3", "detect.every"),
        ("detect=3", "detect is a section"),
        ("detect.every.more=3", "valid integer"),
        ("detect.every=[", "YAML"),
        ("detect.every=" + "[" * 5000, "nested too deeply"),
        ("a" * 5000 + "=1", "unknown key"),
        ("." * 5000 + "=1", "unknown key"),
    ],
)
def test_a_wrong_set_is_said_with_set(override: str, part: str) -> None:
    message = refusal(None, override)
    assert part in message
    assert "--set" in message
    assert len(message) < 500


def test_a_mistake_in_set_is_not_blamed_on_the_file(config: Path) -> None:
    config.write_text("detect:\n  threads: 3\n")
    assert refusal(config, "detect.every=x").startswith("--set detect.every=x: ")


# files that are no configuration


def test_a_missing_file_lists_the_presets(config: Path) -> None:
    assert "cameras" in refusal(config)
    assert "no such configuration file" in refusal(config)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path)


def test_a_name_that_is_no_path_is_refused() -> None:
    assert "cannot be read" in refusal(Path("x" * 5000))


def test_a_binary_file_is_refused(config: Path) -> None:
    config.write_bytes(bytes(range(256)) * 4)
    assert "not a text file" in refusal(config)


def test_a_huge_file_is_refused_unread(config: Path) -> None:
    with config.open("wb") as file:
        file.truncate(MAX_CONFIG_BYTES * 1000)
    assert f"larger than {MAX_CONFIG_BYTES} bytes" in refusal(config)


def test_a_device_without_end_is_refused() -> None:
    zero = Path("/dev/zero")
    if not zero.exists():
        pytest.skip("this system has no /dev/zero")
    assert "larger than" in refusal(zero)


def test_deep_nesting_is_refused(config: Path) -> None:
    config.write_text("[" * 20_000)
    assert "nested too deeply" in refusal(config)


ALIASES = "aliases (*name) have no use"


@pytest.mark.parametrize("text", ["a: &a {detect: *a}\n", "&a [*a]\n", "? &a [*a]\n: 1\n"])
def test_a_file_that_contains_itself_is_refused(config: Path, text: str) -> None:
    config.write_text(text)
    assert ALIASES in refusal(config)


@pytest.mark.parametrize("link", ["[{}]", "{{<<: [{}]}}"], ids=["nine lists of nine", "nine merges of nine"])
def test_a_small_file_that_would_grow_without_bound_is_refused(config: Path, link: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 30):
        lines.append(f"a{level}: &a{level} " + link.format(", ".join([f"*a{level - 1}"] * 9)))
    config.write_text("\n".join(lines))
    assert ALIASES in refusal(config)


# whatever is typed


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
keys = st.sampled_from([key for owner in SECTIONS.values() for key in owner.model_fields]) | st.text(max_size=10)
options = st.dictionaries(keys, leaves | st.lists(leaves, max_size=3), max_size=4)
documents = st.dictionaries(st.sampled_from(list(SECTIONS)) | st.text(max_size=10), options | leaves, max_size=4)


def taken_or_refused(config: Path | None, *overrides: str) -> str:
    """Empty where the settings load, else the sentence; anything but these two is a fault."""
    try:
        load_settings(None if config is None else str(config), overrides)
    except SettingsError as err:
        return str(err) or "an empty message"
    return ""


@given(documents)
def test_any_document_is_taken_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, document: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    assert len(taken_or_refused(path)) < 600


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    assert len(taken_or_refused(path)) < 600


@given(st.text(max_size=60), st.text(alphabet=string.printable, max_size=60))
def test_any_set_is_taken_or_refused_with_a_sentence(key: str, value: str) -> None:
    assert len(taken_or_refused(None, f"{key}={value}", f"detect.{value}")) < 600


@given(st.sampled_from([(s, k) for s, owner in SECTIONS.items() for k in owner.model_fields]))
def test_a_default_written_out_and_read_again_is_the_default(option: tuple[str, str]) -> None:
    section, key = option
    value = getattr(getattr(Settings(), section), key)
    written = "" if value is None else yaml.safe_dump(value).split("\n")[0]
    assert load_settings(None, [f"{section}.{key}={written}"]) == Settings()


def test_every_runtime_and_precision_of_the_engines_can_be_set() -> None:
    assert get_args(EmbedSettings.model_fields["runtime"].annotation) == ("auto", *MODULES)
    assert get_args(EmbedSettings.model_fields["precision"].annotation) == ("auto", *PRECISIONS)
    assert set(get_args(DetectSettings.model_fields["precision"].annotation)) < {"auto", *PRECISIONS}
