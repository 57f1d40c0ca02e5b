"""``python -m engines import`` and ``export``: what a person types, what they read, what lies there afterwards."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from engines.__main__ import main
from engines.errors import ModelFileError
from engines.export import load_model
from engines.networks import NETWORKS
from engines.networks.random_weights import random_state
from engines.store import find_model, place_of

torch = pytest.importorskip("torch")

NETWORK = "mobilefacenet"
NOISE = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Run a command with a folder of models of its own; exit code, output, errors without the frame around them."""
    monkeypatch.setenv("REALTIME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REALTIME_DATA", str(tmp_path / "data"))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["engines", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        code = stop.value.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, re.sub(r"[\s│]+", " ", err)

    return run


@pytest.fixture(scope="module")
def arrays() -> dict[str, NDArray[np.float32]]:
    return random_state(NETWORKS[NETWORK], 0)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, NDArray[np.float32]]) -> Path:
    path = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save({f"module.{name}": torch.from_numpy(values) for name, values in arrays.items()}, path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, written by the command itself."""
    path = tmp_path_factory.mktemp("exported") / "random.onnx"
    subprocess.run(
        [sys.executable, "-m", "engines", "export", NETWORK, "--random", "1", "--output", str(path)],
        check=True,
        capture_output=True,
    )
    return path


def embeddings(path: Path) -> NDArray[np.float32]:
    from engines.runtimes import onnxruntime

    return onnxruntime.open_session(path.read_bytes(), str(path), precision="fp32", threads=1).run(NOISE)


def test_weights_become_a_model_with_a_name(call: Call, backbone: Path) -> None:
    code, out, err = call("import", backbone, "--network", NETWORK, "--name", "mine", "--licence", "MIT")
    assert (code, err) == (0, "")
    assert "mine: mobilefacenet (PyTorch file), 8.2 MB" in out
    assert "realtime --source 0 --set embed.model=mine" in out
    model = find_model("mine")
    manifest = model.manifest
    assert manifest.licence == "MIT"
    assert (manifest.template, manifest.input_size, manifest.dimensions) == ("arcface_112", 112, 512)
    assert (manifest.unit_length, manifest.mirrored, manifest.threshold) == (True, False, 1.2)
    assert manifest.threshold_fmr is None
    assert "realtime calibrate" in manifest.threshold_source
    assert np.allclose(np.linalg.norm(embeddings(place_of("mine")), axis=1), 1, atol=1e-5)


def test_the_network_is_found_out_and_gives_the_name(call: Call, backbone: Path) -> None:
    code, out, _ = call("import", backbone, "--json")
    said = json.loads(out)
    assert code == 0
    assert said["name"] == said["manifest"]["network"] == NETWORK
    assert load_model(Path(said["path"])).manifest.model_id == said["model_id"]
    assert call("import", backbone)[0] == 0  # the same once more


def test_what_the_owner_says_goes_into_the_manifest(call: Call, backbone: Path) -> None:
    options = ("--raw", "--mirrored", "--threshold", "300", "--fmr", "1e-5", "--template", "eyes_112")
    code, _, err = call("import", backbone, *options, "--training-set", "K-FACE", "--colour", "bgr")
    assert (code, err) == (0, "")
    manifest = find_model(NETWORK).manifest
    assert (manifest.unit_length, manifest.mirrored, manifest.template) == (False, True, "eyes_112")
    assert (manifest.threshold, manifest.threshold_fmr) == (300, 1e-5)
    assert manifest.threshold_source == "given at the import"
    assert manifest.training_set == "K-FACE"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--raw",), "--raw needs --threshold"),
        (("--fmr", "1e-4"), "give --threshold too"),
        (("--threshold", "-1"), "threshold is -1; squared distances"),
        (("--threshold", "4.5"), "threshold is 4.5; squared distances"),
        (("--threshold", "1", "--fmr", "0"), "fmr is 0; a share"),
        (("--colour", "grey"), "colour is 'grey'; known are rgb, bgr"),
        (("--network", "iresnet51"), "'iresnet51'; known are iresnet18"),
    ],
)
def test_options_that_contradict_each_other(call: Call, backbone: Path, options: tuple[str, ...], words: str) -> None:
    code, _, err = call("import", backbone, *options)
    assert code == 2
    assert words in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--name", "../outside"), "cannot name a model"),
        (("--name", "dlib-resnet-v1"), "is the name of a model that others published"),
        (("--name", "insightface/buffalo_l"), "is the name of a model that others published"),
        (("--template", "dlib_chip_150"), "takes faces of 112 pixels"),
        (("--template", "eyes_113"), "'eyes_113' is not known; known are dlib_chip_150"),
        (("--network", "iresnet18"), "these are the weights of mobilefacenet"),
    ],
)
def test_mistakes_are_one_sentence(call: Call, backbone: Path, options: tuple[str, ...], words: str) -> None:
    code, _, err = call("import", backbone, *options)
    assert code == 1
    assert words in err
    assert err.count("engines: ") == 1


def test_everything_that_does_not_fit_is_listed(
    call: Call, tmp_path: Path, arrays: dict[str, NDArray[np.float32]]
) -> None:
    wrong = {name: torch.from_numpy(values) for name, values in arrays.items()}
    del wrong["features.layers.2.weight"]
    wrong["head.weight"] = torch.ones(3)
    wrong["conv_sep.layers.2.weight"] = torch.ones(3)
    torch.save(wrong, tmp_path / "wrong.pth")
    code, out, err = call("import", tmp_path / "wrong.pth", "--network", NETWORK)
    assert (code, out) == (1, "")
    for line in (
        "missing features.layers.2.weight",
        "unexpected head.weight",
        "misshaped conv_sep.layers.2.weight is 3",
    ):
        assert line in err
    code, out, _ = call("import", tmp_path / "wrong.pth", "--network", NETWORK, "--json")
    said = json.loads(out)
    assert code == 1
    assert said["missing"] == ["features.layers.2.weight"]
    assert said["unexpected"] == ["head.weight"]
    assert "does not fit mobilefacenet" in said["error"]
    _, _, err = call("import", tmp_path / "wrong.pth", "--network", "iresnet18")
    assert "names differ; --json prints all of them" in err


def test_a_name_is_not_given_to_two_models(call: Call, backbone: Path, exported: Path) -> None:
    assert call("import", backbone)[0] == 0
    code, _, err = call("import", exported, "--name", NETWORK)
    assert code == 1
    assert "is the name of another model already; choose another with --name" in err
    place_of(NETWORK).write_bytes(b"damaged")
    assert call("import", exported, "--name", NETWORK)[0] == 0
    assert place_of(NETWORK).read_bytes() == exported.read_bytes()


def test_an_onnx_with_a_manifest_is_taken_as_it_is(call: Call, exported: Path) -> None:
    code, out, _ = call("import", exported, "--name", "taken")
    assert code == 0
    assert "ONNX file" in out
    assert place_of("taken").read_bytes() == exported.read_bytes()
    assert call("import", exported, "--raw")[0] == 2


def test_an_onnx_without_a_manifest_is_pointed_on(call: Call, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    code, _, err = call("import", tmp_path / "foreign.onnx")
    assert code == 1
    assert "python -m engines adopt" in err


def test_a_broken_promise_is_found_by_running_it(call: Call, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    last = next(node for node in model.graph.node if node.op_type == "Div")
    model.graph.node[-1].input[0] = last.input[0]  # unit length is promised and no longer given
    onnx.save(model, str(tmp_path / "broken.onnx"))
    code, _, err = call("import", tmp_path / "broken.onnx", "--name", "broken")
    assert code == 1
    assert "promises embeddings of length 1" in err
    with pytest.raises(ModelFileError):
        find_model("broken")


def test_a_file_that_is_no_weights(call: Call, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>")
    code, _, err = call("import", tmp_path / "page.pth")
    assert code == 1
    assert "is a web page" in err


def test_export_of_weights_gives_what_import_keeps(call: Call, backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    assert call("export", backbone, "--network", NETWORK, "--output", out)[0] == 0
    assert call("import", backbone)[0] == 0
    assert out.read_bytes() == place_of(NETWORK).read_bytes()


def test_export_of_a_network_nobody_trained(call: Call, exported: Path, tmp_path: Path) -> None:
    assert load_model(exported).manifest.training_set
    code, out, _ = call("export", NETWORK, "--random", "1", "--output", tmp_path / "again.onnx")
    assert code == 0
    assert "mobilefacenet-random-1" in out
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("source", ["path", "name", "dlib-resnet"])
def test_export_in_mixed_precision(call: Call, exported: Path, tmp_path: Path, source: str) -> None:
    full, mixed = tmp_path / "full.onnx", tmp_path / "mixed.onnx"
    call("import", exported, "--name", "mine")
    what = {"path": str(exported), "name": "mine"}.get(source, source)
    assert call("export", what, "--output", full)[0] == 0
    assert call("export", what, "--output", mixed, "--precision", "mixed-fp16")[0] == 0
    before, after = load_model(full).manifest, load_model(mixed).manifest
    assert (before.precision, after.precision) == ("fp32", "mixed-fp16")
    assert before.model_id == after.model_id
    assert mixed.stat().st_size < full.stat().st_size
    code, _, err = call("export", mixed, "--output", tmp_path / "x.onnx")
    assert code == 1
    assert "give the fp32 file" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (NETWORK,),
            "is a network without weights; give a file of weights with --network mobilefacenet, or --random 0",
        ),
        (("iresnet-51",), "no model or file is named 'iresnet-51'"),
        (("dlib-resnet", "--random", "0"), "--random cannot be given here: this exports dlib's network"),
        ((NETWORK, "--random", "0", "--licence", "MIT"), "--licence cannot be given here: this exports random weights"),
        (("x.onnx", "--network", NETWORK), "--network cannot be given here: this exports a finished model"),
        (("x.pth", "--precision", "int8"), "precision is 'int8'; known are fp32, mixed-fp16"),
    ],
)
def test_wrong_wishes_at_export(call: Call, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = call("export", *arguments, "--output", tmp_path / "out.onnx")
    assert code == 2
    assert words in err
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_file_and_a_missing_folder(call: Call, exported: Path, tmp_path: Path) -> None:
    assert call("export", tmp_path / "none.onnx", "--output", tmp_path / "out.onnx")[0] == 1
    assert call("export", tmp_path / "none.pth", "--output", tmp_path / "out.onnx")[0] == 1
    code, _, err = call("export", exported, "--output", tmp_path / "no" / "folder.onnx")
    assert code == 1
    assert "cannot be written (No such file or directory)" in err


def test_the_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; sys.argv = ['engines', 'import', '--help']\n"
        "from engines.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'openvino', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip().splitlines()[-1] == "[]"
