"""``python -m train evaluate``: one report for a run, a .pth, an ONNX file and the embedded descriptor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from engines.errors import EngineError
from engines.networks.random_weights import random_state
from engines.store import default_model
from engines.verification.faces import read_faces
from engines.verification.pairs import read_pairs
from engines.verification.run import verify
from engines.verification.tar import tar_listed
from tests.paths import SHARED
from tests.train.evaluation_parts import small_run
from train.commands import evaluate, export
from train.errors import CheckpointError, ConfigError, DataError
from train.evaluation.models import opened, run_model
from train.evaluation.sets import open_verification
from train.evaluation.verification import verify_set
from train.runs import open_run

app = typer.Typer()
evaluate.register(app)
export.register(app)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def values(*arguments: str | Path) -> Any:
    found = run("evaluate", *arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("trained"), people=12, images=6)


def test_a_run_and_its_file_get_the_same_report(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(run_model(open_run(trained)).content)
    prepared = trained.parent / "set"
    of_run, of_file = values(trained, prepared), values(tmp_path / "model.onnx", prepared)
    assert of_run["sets"] == [{**of_file["sets"][0], "all": of_run["sets"][0]["all"]}]
    assert of_run["sets"][0]["all"]["points"] == of_file["sets"][0]["all"]["points"]
    assert of_run["model"]["threshold"] is None  # nobody has measured it
    assert of_file["model"]["threshold"] == 1.2
    assert of_run["sets"][0]["faces"] == 72


def test_weights_alone_get_the_report_too(tmp_path: Path, trained: Path) -> None:
    from engines.networks import NETWORKS

    network = NETWORKS["mobilefacenet"]
    state = {name: torch.from_numpy(array) for name, array in random_state(network, 0).items()}
    torch.save(state, tmp_path / "weights.pth")
    prepared = trained.parent / "set"
    found = values(tmp_path / "weights.pth", prepared)
    assert found["model"]["network"] == "mobilefacenet"
    with (
        pytest.raises(EngineError, match="these are the weights of mobilefacenet"),
        opened(str(tmp_path / "weights.pth"), network="iresnet18"),
    ):
        pass
    with pytest.raises(ConfigError, match="known are"), opened(str(tmp_path / "weights.pth"), network="resnet"):
        pass


def test_options_show_in_the_report(trained: Path, tmp_path: Path) -> None:
    prepared = trained.parent / "set"
    (tmp_path / "list.txt").write_text(
        "".join(
            f"p{k:03d}/0000.jpg p{k:03d}/0001.jpg 1\np{k:03d}/0000.jpg p{k + 1:03d}/0000.jpg 0\n" for k in range(4, 15)
        )
    )
    found = run(
        "evaluate",
        trained,
        prepared,
        "--pairs",
        tmp_path / "list.txt",
        "--flip",
        "--identification",
        "--output",
        tmp_path / "out",
    )
    assert found.exit_code == 0, found.output
    for words in ("22 pairs", "averaged with its mirror image", "rank-1", "at the best threshold", "report.html"):
        assert words in found.stdout
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["sets"][0]["flip"]
    assert written["sets"][0]["folds"] == "dealt"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("nowhere.onnx", "set"), EngineError, "nowhere.onnx"),
        (("RUN", "nowhere"), DataError, "nowhere: no such file or folder"),
        (("RUN", "SET", "--network", "iresnet18"), ConfigError, "says its network"),
        (("FOLDER", "SET"), CheckpointError, "holds no checkpoint"),
        (("RUN", "SET", "--runtime", "abacus"), ConfigError, "abacus"),
    ],
)
def test_mistakes_are_sentences(trained: Path, arguments: tuple[str, ...], error: type[Exception], words: str) -> None:
    places = {"RUN": str(trained), "SET": str(trained.parent / "set"), "FOLDER": str(trained.parent)}
    found = run("evaluate", *(places.get(each, each) for each in arguments))
    assert isinstance(found.exception, error), found.output
    assert words in str(found.exception)
    assert "\n" not in str(found.exception)


def test_an_align_option_is_a_pair(trained: Path) -> None:
    found = run("evaluate", trained, trained.parent / "set", "--align", "cnn")
    assert found.exit_code == 2
    assert "expected key=value" in found.stderr


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="measurement data (../shared/data) is not here")
def test_the_embedded_descriptor_has_the_figures_of_the_engines(tmp_path: Path) -> None:
    """Same crops, same list, same digits: photos of five people, half of them flipped over to make it hard."""
    people = sorted((SHARED / "johns").iterdir())
    for person in people:
        for number, photo in enumerate(sorted(person.iterdir())[:10], start=1):
            place = tmp_path / "people" / person.name / f"{person.name}_{number:04d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = cv2.imread(str(photo))
            cv2.imwrite(str(place), pixels[::-1] if number % 2 else pixels)
    lines = ["10\t5"]
    for fold in range(10):
        names = [person.name for person in people]
        lines += [f"{name}\t{fold + 1}\t{(fold + 2 + k % 2) % 10 + 1}" for k, name in enumerate(names)]
        lines += [f"{name}\t{fold + 1}\t{names[k - 1]}\t{fold + 1}" for k, name in enumerate(names)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    model, pairs = default_model(), read_pairs(tmp_path / "pairs.txt")
    faces = read_faces(tmp_path / "people", template=model.manifest.template, size=model.manifest.input_size)
    theirs = verify(model, [], faces, pairs=pairs).rates
    spec = f"{tmp_path / 'people'},{tmp_path / 'pairs.txt'}"
    wanted = open_verification(spec, template=model.manifest.template, size=model.manifest.input_size)
    with opened("dlib-resnet-v1", runtime="onnxruntime") as ours:
        found = verify_set(ours.embed, wanted, rates=(1e-1, 4e-2), threshold=ours.threshold)
    assert theirs is not None
    assert theirs.listed is not None
    assert theirs.accuracy is not None
    assert theirs.accuracy.mean < 1
    assert found.accuracy == theirs.accuracy
    assert found.eer == theirs.accuracy.eer
    assert [(point.rate, point.tar, point.threshold) for point in found.points] == [
        (point.rate, point.tar, point.threshold) for point in tar_listed(theirs.listed, (1e-1, 4e-2))
    ]
    assert found.over_all is not None
    assert found.over_all.fmr_at == theirs.everybody.fmr_at
    assert found.over_all.non_mated == theirs.everybody.non_mated
