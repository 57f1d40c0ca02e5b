"""A run becomes a file that realtime takes, with a threshold that was measured for it."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.engine import open_engine
from engines.export import load_model
from engines.store import find_model
from tests.train.evaluation_parts import small_run
from tests.train.sets import tiny_set
from tests.train.test_evaluate_command import run
from train.errors import ConfigError, DataError
from train.evaluation.sets import open_verification
from train.export import check_served, export_run, own_set, terms_of
from train.prepared import open_prepared
from train.runs import CHECKPOINT, open_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("trained"), people=20, images=5)


def test_the_threshold_is_what_the_set_says(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    found = run("export", trained, "--output", output, "--fmr", "1e-2", "--name", "mine", "--licence", "ours", "--json")
    assert found.exit_code == 0, found.output
    values = json.loads(found.stdout)
    manifest = load_model(output).manifest
    assert (manifest.name, manifest.licence, manifest.template, manifest.network) == (
        "mine",
        "ours",
        "arcface_112",
        "small",
    )
    assert manifest.threshold_fmr == 1e-2
    assert values["manifest"]["threshold"] == manifest.threshold
    prepared = open_prepared(trained.parent / "set")
    assert prepared.val is not None
    engine = open_engine(str(output), runtime="onnxruntime", precision="fp32")
    rows_ND = engine.run(np.array(prepared.val.crops_NSS3))
    engine.close()
    labels = prepared.val.labels_N
    non_mated = [
        float(((rows_ND[one] - rows_ND[two]) ** 2).sum())
        for one, two in itertools.combinations(range(len(labels)), 2)
        if labels[one] != labels[two]
    ]
    below = sum(distance < manifest.threshold for distance in non_mated)
    assert len(non_mated) == values["point"]["non_mated"] == 20 * 19 // 2 * 25
    assert below <= 0.01 * len(non_mated)
    assert sum(distance < manifest.threshold + 3e-4 for distance in non_mated) >= 0.01 * len(non_mated) - 1
    for words in ("set val: 100 faces of 20 people", "4,750 comparisons", "95 % interval", "train export --fmr 0.01"):
        assert words in manifest.threshold_source
    assert manifest.training_set == "set: 4 people, arcface, 3 steps"


def test_the_file_is_the_network_of_the_run(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    assert run("export", trained, "--output", output, "--fmr", "1e-2").exit_code == 0
    opened = open_run(trained)
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    engine = open_engine(str(output), runtime="onnxruntime", precision="fp32")
    found_ND = engine.run(crops)
    engine.close()
    with torch.no_grad():
        images = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        wanted_ND = torch.nn.functional.normalize(opened.module(images), dim=1).numpy()
    assert (found_ND * wanted_ND).sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_forms_are_asked_for(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    found = run("export", trained, "--output", output, "--fmr", "1e-2", "--mirrored", "--precision", "mixed-fp16")
    assert found.exit_code == 0, found.output
    manifest = find_model(str(output)).manifest
    assert (manifest.mirrored, manifest.precision, manifest.name) == (True, "mixed-fp16", "run")
    assert "use it: realtime --source 0 --set embed.model=" in found.stdout


@pytest.mark.parametrize("option", [("--precision", "int4"), ("--fmr", "0"), ("--fmr", "1.5")])
def test_wrong_options_are_refused_first(option: tuple[str, str], tmp_path: Path) -> None:
    assert run("export", tmp_path / "nowhere", "--output", tmp_path / "model.onnx", *option).exit_code == 2


def test_a_set_that_is_too_small_names_the_rate_that_it_can_measure(trained: Path) -> None:
    opened = open_run(trained)
    with pytest.raises(
        ConfigError, match=r"4,750 .* too few .* 0\.0001, 100,000 are needed; .* --fmr 0\.0022"
    ) as caught:
        export_run(opened, own_set(opened))
    rate = float(str(caught.value).partition("--fmr ")[2].split(",")[0])
    assert export_run(opened, own_set(opened), fmr=rate).point.wanted_fmr == rate


def test_people_that_the_run_has_seen_are_told(trained: Path, tmp_path: Path) -> None:
    opened = open_run(trained)
    names = tuple(f"p{k:03d}/{n}.jpg" for k in range(20) for n in range(5))
    tiny_set(tmp_path / "set", train_people=1, val_people=19, images=5, names=names)
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    manifest["val_subjects"] = [f"p{k:03d}" for k in range(3, 22)]
    (tmp_path / "set" / "manifest.json").write_text(json.dumps(manifest))
    on = open_verification(str(tmp_path / "set"), template="arcface_112", size=112)
    found = export_run(opened, on, fmr=1e-2)
    assert found.seen == ("p003",)
    assert "1 of the people are called as people of the training set" in found.model.manifest.threshold_source
    shown = run("export", trained, "--output", tmp_path / "model.onnx", "--fmr", "1e-2", "--on", tmp_path / "set")
    assert "careful: 1 people" in shown.stdout


def test_box_crops_cannot_be_served(tmp_path: Path) -> None:
    folder = small_run(tmp_path, template="kface_box")
    with pytest.raises(ConfigError, match=r"kface_box .* which realtime cannot make"):
        check_served(open_run(folder))
    found = run("export", folder, "--output", tmp_path / "model.onnx")
    assert isinstance(found.exception, ConfigError)
    assert not (tmp_path / "model.onnx").exists()
    shown = run("evaluate", folder, tmp_path / "set")  # its crops are called arcface_112, so they are another's
    assert isinstance(shown.exception, DataError)
    manifest = tmp_path / "set" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("arcface_112", "kface_box"))
    assert run("evaluate", folder, tmp_path / "set").exit_code == 0  # what cannot be served can be measured


def test_a_set_that_has_changed_since_is_not_taken_for_the_runs_own(trained: Path, tmp_path: Path) -> None:
    opened = open_run(trained)
    with pytest.raises(DataError, match=r"is another set than .* was trained on; name a set with --on"):
        own_set(opened, tiny_set(tmp_path / "other", seed=5))


def test_a_list_that_does_not_say_who_is_who_sets_no_threshold(trained: Path) -> None:
    opened = open_run(trained)
    with pytest.raises(DataError, match="does not say who is who"):
        export_run(opened, replace(own_set(opened), people=None))


def test_a_network_that_tells_nobody_apart_gets_no_threshold(tmp_path: Path) -> None:
    folder = small_run(tmp_path, people=20, images=5)
    prepared = tmp_path / "set"
    crops = np.load(prepared / "crops.npy")
    crops[:] = 128
    np.save(prepared / "crops.npy", crops)
    opened = open_run(folder)
    with pytest.raises(DataError, match="nearly the same embedding, so no threshold"):
        export_run(opened, own_set(opened), fmr=1e-2)


def test_the_name_is_the_folders_of_a_checkpoint_too(trained: Path) -> None:
    assert terms_of(open_run(trained / CHECKPOINT)).name == "run"
    assert terms_of(open_run(trained), name="other").name == "other"
