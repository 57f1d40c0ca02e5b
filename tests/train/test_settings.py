"""configs/ and train/settings.py agree; a mistake in a run's options gets one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engines.presets import configs_dir, preset_names, training_preset_names
from realtime.errors import SettingsError
from realtime.settings import load_settings
from tests.scripts import script
from train.losses.margins import MARGINS
from train.settings import FitSettings, LossSettings, load_fit_settings

SECTIONS = {name: type(getattr(FitSettings(), name)) for name in FitSettings.model_fields}
KEYS = [(section, key) for section, owner in SECTIONS.items() for key in owner.model_fields]


def refusal(config: Path | None = None, *overrides: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_fit_settings(None if config is None else str(config), overrides)
    return str(caught.value)


def test_the_default_file_says_what_the_models_say() -> None:
    text = (configs_dir() / "train_default.yaml").read_text()
    writer = script("write_default_config")
    assert text == writer.default_yaml(FitSettings(), writer.TRAINING_HEADER), "run `make docs`"
    listed = yaml.safe_load(text)
    assert {section: list(options) for section, options in listed.items()} == {
        section: list(owner.model_fields) for section, owner in SECTIONS.items()
    }
    assert load_fit_settings("train_default") == FitSettings()


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_option_has_a_description(section: str, key: str) -> None:
    assert SECTIONS[section].model_fields[key].description


@pytest.mark.parametrize("name", training_preset_names())
def test_a_preset_loads_and_shows_its_own_command(name: str) -> None:
    settings = load_fit_settings(name)
    if name != "train_default":
        assert settings != FitSettings(), "a preset that changes nothing"
        assert f"python -m train fit {name}" in (configs_dir() / f"{name}.yaml").read_text()


def test_presets_are_the_ones_that_the_readme_promises() -> None:
    assert {"kface_r50_onegpu", "kface_r50", "kface_smoke"} <= set(training_preset_names())


def test_the_two_programs_do_not_offer_each_others_presets() -> None:
    assert not set(preset_names()) & set(training_preset_names())
    assert "models" not in training_preset_names()
    with pytest.raises(SettingsError, match="no such configuration file; the presets are"):
        load_settings("kface_r50")
    assert "no such configuration file; the presets are kface_r50" in refusal(Path("webcam"))


def test_the_tutorials_values_stand_in_its_preset() -> None:
    settings = load_fit_settings("kface_r50_onegpu")
    assert (settings.network.name, settings.network.dimensions) == ("iresnet50", 512)
    assert (settings.loss.kind, settings.loss.sample_rate) == ("arcface", 1)
    assert (settings.optimiser.lr, settings.optimiser.momentum, settings.optimiser.weight_decay) == (0.02, 0.9, 5e-4)
    assert (settings.run.batch, settings.run.precision, settings.schedule.epochs) == (16, "fp32", 20)


@pytest.mark.parametrize("kind", ["softmax", "norm_softmax", "sphereface", "cosface", "arcface", "cm1", "cm2"])
def test_every_loss_of_the_papers_table_is_a_line(kind: str) -> None:
    assert load_fit_settings(None, [f"loss.kind={kind}"]).loss == LossSettings(kind=kind)  # type: ignore[arg-type]
    assert kind in MARGINS


@pytest.mark.parametrize("line", ["loss.intra=1", "loss.inter=1", "loss.triplet=1", "loss.sub_centers=3"])
def test_and_so_is_every_addition_to_them(line: str) -> None:
    assert load_fit_settings(None, [line]) != FitSettings()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("optimizer:\n  lr: 1\n", ["mine.yaml: unknown key 'optimizer'", "did you mean 'optimiser'?"]),
        ("loss:\n  sub_centres: 3\n", ["unknown key 'sub_centres'", "did you mean 'sub_centers'?"]),
        ("lr: 0.1\n", ["unknown key 'lr'", "optimiser.lr"]),
        ("loss:\n  kind: arcfase\n", ["loss.kind", "'arcface'", "'arcfase'"]),
        ("loss:\n  sample_rate: 0\n", ["loss.sample_rate", "greater than 0"]),
        ("loss:\n  sample_rate: 1.5\n", ["loss.sample_rate", "less than or equal to 1"]),
        ("run:\n  batch: 1\n", ["run.batch", "greater than or equal to 2"]),
        ("run:\n  batch: sixteen\n", ["run.batch", "valid integer", "'sixteen'"]),
        ("optimiser:\n  lr: .inf\n", ["optimiser.lr", "finite"]),
        ("network:\n  blocks: 3\n", ["network.blocks", "valid list"]),
        ("evaluate:\n  sets: val\n", ["evaluate.sets", "valid list"]),
        ("evaluate:\n  sets: [1]\n", ["evaluate.sets", "valid string"]),
        ("data: sets/kface\n", ["data is a section"]),
    ],
)
def test_a_mistake_gets_one_sentence_with_what_and_where(tmp_path: Path, text: str, parts: list[str]) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(text)
    message = refusal(config)
    assert [part for part in parts if part not in message] == []
    assert "\n" not in message
    assert len(message) < 500


def choices() -> list[tuple[str, str]]:
    fields = [(f"{section}.{key}", SECTIONS[section].model_fields[key].annotation) for section, key in KEYS]
    return [(name, word) for name, kind in fields if get_origin(kind) is Literal for word in get_args(kind)]


@pytest.mark.parametrize(("option", "word"), choices())
def test_every_choice_can_be_typed(option: str, word: str) -> None:
    """A word that YAML reads as something else (off, no) could not."""
    section, key = option.split(".")
    assert getattr(getattr(load_fit_settings(None, [f"{option}={word}"]), section), key) == word


def test_what_a_person_types() -> None:
    settings = load_fit_settings(
        "kface_r50",
        ["data.path=sets/a b", "evaluate.sets=[val, lfw.bin]", "network.blocks=[1, 1, 1, 1]", "run.ema=0.5"],
    )
    assert settings.data.path == "sets/a b"
    assert settings.evaluate.sets == ["val", "lfw.bin"]
    assert settings.network.blocks == [1, 1, 1, 1]
    assert settings.run.ema == 0.5


@given(st.sampled_from(KEYS))
def test_a_default_written_out_and_read_again_is_the_default(option: tuple[str, str]) -> None:
    section, key = option
    value = getattr(getattr(FitSettings(), section), key)
    written = "" if value is None else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]
    assert load_fit_settings(None, [f"{section}.{key}={written}"]) == FitSettings()
