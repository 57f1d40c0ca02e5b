from __future__ import annotations

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.__main__ import main
from engines.engine import open_model
from engines.errors import ModelFileError
from engines.export import ModelFile, load_model
from engines.intake.adopt import Terms, adopt, read_file
from engines.intake.foreign import normalises_itself
from engines.models import ForeignInput
from engines.store import find_model, place_of
from tests.engines.foreign_networks import DIMENSIONS, content, network
from tests.paths import SHARED, needs_shared

TERMS = Terms(name="theirs")
RAW = Terms(name="theirs", unit_length=False, threshold=9.0)
TOLERANCE = 1e-6
"""Of unit embeddings; the network behind is the same, and so is the order of the arithmetic before it."""


@pytest.fixture(scope="module")
def faces() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)


def by_hand(original: bytes, images_NHWC: NDArray[Any], *, layout: str = "nchw", output: str | None = None) -> Any:
    """The original file on float32 images, one by one."""
    session = onnxruntime.InferenceSession(original, providers=["CPUExecutionProvider"])
    images = images_NHWC.transpose(0, 3, 1, 2) if layout == "nchw" else images_NHWC
    name = session.get_inputs()[0].name
    rows = [session.run(output and [output], {name: np.ascontiguousarray(image[None])})[0] for image in images]
    return np.concatenate(rows)


def arcface(faces_NSS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (faces_NSS3.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)


def unit(embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(embeddings_ND / np.linalg.norm(embeddings_ND, axis=1, keepdims=True), dtype=np.float32)


def run(model: ModelFile, faces_NSS3: NDArray[np.uint8]) -> NDArray[np.float32]:
    engine = open_model(model, runtime="onnxruntime", precision="fp32")
    embeddings = engine.run(faces_NSS3)
    engine.close()
    return embeddings


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"batch": 1},
        {"batch": 4},
        {"batch": 1, "flatten": "Reshape"},
        {"opset": 9, "ir": 4},
        {"opset": 11, "ir": 6, "batch": 1, "flatten": "Reshape"},
        {"opset": 11, "ir": 3},
        {"opset": 17, "ir": 8},
        {"opset": 20, "ir": 9},
        {"side": "any"},
    ],
    ids=str,
)
def test_an_adopted_network_answers_as_before(form: dict[str, Any], faces: NDArray[np.uint8]) -> None:
    original = content(**form)
    model = adopt(original, "theirs.onnx", TERMS)
    dynamic = content(**{**form, "batch": "batch", "flatten": "Flatten"})
    assert np.abs(run(model, faces) - unit(by_hand(dynamic, arcface(faces)))).max() <= TOLERANCE
    assert model.manifest.weights_sha256 == hashlib.sha256(original).hexdigest()
    assert (model.manifest.input_size, model.manifest.dimensions) == (112, DIMENSIONS)
    saved = onnx.ModelProto.FromString(model.content)
    onnx.checker.check_model(saved, full_check=True)
    assert saved.opset_import[0].version == max(17, form.get("opset", 13))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("mirrored", [False, True], ids=["plain", "mirrored"])
def test_layout_colour_and_mirror(layout: str, colour: str, mirrored: bool, faces: NDArray[np.uint8]) -> None:
    original = content(layout=layout)
    reading = ForeignInput(layout=layout, mean=100.0, std=50.0, colour=colour)
    terms = Terms(name="theirs", unit_length=False, mirrored=mirrored, threshold=9.0)
    views = [faces, faces[:, :, ::-1]] if mirrored else [faces]
    wanted = []
    for view in views:
        values = (view.astype(np.float32) - 100) / 50
        wanted.append(by_hand(original, values[..., ::-1] if colour == "bgr" else values, layout=layout))
    got = run(adopt(original, "theirs.onnx", terms, reading=reading), faces)
    assert np.abs(got - np.mean(wanted, axis=0)).max() <= 1e-5  # lengths are about 10


def test_unlike_settings_are_unlike_models(faces: NDArray[np.uint8]) -> None:
    """A test of the tests: what they vary matters to the answers."""
    original = content()
    answers = [
        run(adopt(original, "f", RAW, reading=reading), faces)
        for reading in (ForeignInput(), ForeignInput(colour="bgr"), ForeignInput(mean=0.0), ForeignInput(std=255.0))
    ]
    for i, one in enumerate(answers):
        assert all(np.abs(one - other).max() > 0.1 for other in answers[:i])


@pytest.mark.parametrize(
    ("form", "itself"),
    [({}, False), ({"first": "Sub"}, True), ({"first": "Div"}, True), ({"first": "Sub", "layout": "nhwc"}, True)],
)
def test_auto_leaves_a_graph_alone_that_normalises_itself(
    form: dict[str, Any], itself: bool, faces: NDArray[np.uint8]
) -> None:
    original, layout = content(**form), form.get("layout", "nchw")
    assert normalises_itself(network(**form), "input.1") == itself
    values = faces.astype(np.float32) if itself else arcface(faces)
    got = run(adopt(original, "f", TERMS, reading=ForeignInput(layout=layout)), faces)
    assert np.abs(got - unit(by_hand(original, values, layout=layout))).max() <= TOLERANCE


def test_a_number_wins_over_auto(faces: NDArray[np.uint8]) -> None:
    original = content(first="Sub")
    got = run(adopt(original, "f", TERMS, reading=ForeignInput(mean=0.0, std=128.0)), faces)
    assert np.abs(got - unit(by_hand(original, faces.astype(np.float32) / np.float32(128)))).max() <= TOLERANCE


def test_torch_exports_are_adopted(tmp_path: Path, faces: NDArray[np.uint8]) -> None:
    torch = pytest.importorskip("torch")

    class Small(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(
                torch.nn.Conv2d(3, 4, 3, stride=8), torch.nn.BatchNorm2d(4), torch.nn.PReLU(4)
            )
            self.fc = torch.nn.Linear(4 * 14 * 14, 8)

        def forward(self, x: Any) -> Any:
            x = self.body(x)
            return self.fc(x.view(x.size(0), -1))

    torch.manual_seed(0)
    module = Small().eval()
    path = tmp_path / "torch.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(1, 3, 112, 112),), str(path), opset_version=17, dynamo=False)
    got = run(adopt(path.read_bytes(), "torch.onnx", TERMS), faces)
    with torch.no_grad():
        wanted = module(torch.from_numpy(arcface(faces).transpose(0, 3, 1, 2).copy())).numpy()
    assert np.abs(got - unit(wanted)).max() <= TOLERANCE


def test_local_functions_are_inlined(faces: NDArray[np.uint8]) -> None:
    model = network(opset=17, ir=8)
    model.functions.append(
        helper.make_function(
            "mine", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
        )
    )
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node[-1].output[0] = "half"
    model.graph.node.append(helper.make_node("Twice", ["half"], ["embeddings"], domain="mine"))
    adopted = adopt(model.SerializeToString(), "f", RAW)
    assert not onnx.ModelProto.FromString(adopted.content).functions
    assert np.abs(run(adopted, faces) - 2 * by_hand(content(opset=17, ir=8), arcface(faces))).max() <= 1e-4


def test_several_outputs_need_a_name(faces: NDArray[np.uint8]) -> None:
    original = content(outputs=2)
    with pytest.raises(
        ModelFileError, match=r"several outputs, embeddings float Nx16, other1 float Nx16; .*--output-name"
    ):
        adopt(original, "f.onnx", TERMS)
    with pytest.raises(ModelFileError, match=r"has no output 'fc1'; its outputs are embeddings"):
        adopt(original, "f.onnx", TERMS, output="fc1")
    got = run(adopt(original, "f.onnx", TERMS, output="other1"), faces)
    assert np.abs(got - unit(by_hand(original, arcface(faces), output="other1"))).max() <= TOLERANCE


def test_names_of_ours_in_a_foreign_graph_do_no_harm(faces: NDArray[np.uint8]) -> None:
    model = network()
    for node in model.graph.node:
        node.input[:] = ["faces" if name == "input.1" else name for name in node.input]
    model.graph.input[0].name = "faces"
    assert model.graph.output[0].name == "embeddings"
    got = run(adopt(model.SerializeToString(), "f", TERMS), faces)
    assert np.abs(got - unit(by_hand(content(), arcface(faces)))).max() <= TOLERANCE


def with_input(kind: int, shape: list[Any]) -> bytes:
    model = network()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input.1", kind, shape))
    return bytes(model.SerializeToString())


def with_output(shape: list[Any] | None) -> bytes:
    model = network()
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, shape))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("original", "words"),
    [
        (b"", "is not an ONNX model"),
        (b"hello", "is not a whole ONNX file"),
        (b"<html><body>404</body></html>", "is not a whole ONNX file"),
        (content()[:-20], "is not a whole ONNX file"),
        (with_input(TensorProto.UINT8, ["N", 3, 112, 112]), "takes input.1 uint8 Nx3x112x112; one float32 image"),
        (with_input(45, ["N", 3, 112, 112]), "takes input.1 no type Nx3x112x112; one float32 image"),
        (with_input(TensorProto.FLOAT, ["N", 3, 112]), "an image input has 4 axes"),
        (with_input(TensorProto.FLOAT, ["N", 1, 112, 112]), "is no square RGB image in nchw$"),
        (with_input(TensorProto.FLOAT, ["N", 3, 112, 96]), "is no square RGB image in nchw$"),
        (content(layout="nhwc"), "is no square RGB image in nchw; say --layout nhwc"),
        (content(side=96), "takes images of 96x96, which the alignment template 'arcface_112' does not give"),
        (with_output(["N", 4, 4]), "is not an embedding network: it gives embeddings float Nx4x4"),
    ],
)
def test_what_is_no_embedding_network_is_refused(original: bytes, words: str) -> None:
    with pytest.raises(ModelFileError, match=r"^theirs\.onnx: .*" + words) as caught:
        adopt(original, "theirs.onnx", TERMS)
    assert "\n" not in str(caught.value)


def test_an_output_of_unknown_shape_is_looked_at() -> None:
    assert adopt(with_output(None), "f", TERMS).manifest.dimensions == DIMENSIONS


def test_an_output_that_only_claims_to_be_one_is_refused() -> None:
    model = network()
    del model.graph.node[3:]
    model.graph.node[-1].output[0] = "embeddings"
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, None))
    with pytest.raises(
        ModelFileError, match=r"is not an embedding network: it gives float32 of shape \(3, 4, 14, 14\)"
    ):
        adopt(model.SerializeToString(), "f", TERMS)


def test_a_batch_that_cannot_be_freed_is_said() -> None:
    model = network(batch=1)
    model.graph.node[-1].output[0] = "free"
    model.graph.initializer.append(helper.make_tensor("as_traced", TensorProto.INT64, [2], [1, DIMENSIONS]))
    model.graph.node.append(helper.make_node("Expand", ["free", "as_traced"], ["wide"]))
    model.graph.node.append(helper.make_node("ReduceMean", ["wide"], ["embeddings"], axes=[0], keepdims=1))
    with pytest.raises(ModelFileError, match="was exported for batches of 1 only; gives embeddings of shape"):
        adopt(model.SerializeToString(), "f.onnx", TERMS)


def test_one_of_ours_is_not_adopted_twice() -> None:
    ours = adopt(content(), "f", TERMS)
    with pytest.raises(ModelFileError, match="has a realtime manifest already"):
        adopt(ours.content, "ours.onnx", TERMS)


def test_custom_operators_and_broken_weights_are_refused() -> None:
    model = network()
    model.graph.node.append(helper.make_node("Magic", ["embeddings"], ["more"], domain="com.somebody"))
    with pytest.raises(ModelFileError, match=r"operators outside ONNX \(com\.somebody\.Magic\)"):
        adopt(model.SerializeToString(), "f", TERMS)
    model = network()
    broken = np.full(DIMENSIONS, np.nan, dtype=np.float32)
    next(one for one in model.graph.initializer if one.name == "bias").raw_data = broken.tobytes()
    with pytest.raises(ModelFileError, match="its weights 'bias' hold NaN"):
        adopt(model.SerializeToString(), "f", TERMS)


def with_data(folder: Path, location: str = "theirs.data") -> Path:
    """The network with its weights in another file."""
    path = folder / "theirs.onnx"
    onnx.save_model(
        network(), str(path), save_as_external_data=True, all_tensors_to_one_file=True, location="theirs.data",
        size_threshold=100,
    )  # fmt: skip
    if location != "theirs.data":
        model = onnx.load_model(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_file_are_taken_in(tmp_path: Path, faces: NDArray[np.uint8]) -> None:
    path = with_data(tmp_path)
    model = adopt(path.read_bytes(), str(path), TERMS, folder=tmp_path)
    assert np.abs(run(model, faces) - unit(by_hand(content(), arcface(faces)))).max() <= TOLERANCE
    both = path.read_bytes() + (tmp_path / "theirs.data").read_bytes()
    assert model.manifest.weights_sha256 == hashlib.sha256(both).hexdigest()


@pytest.mark.parametrize(
    "location", ["../theirs.data", "/etc/hostname", "a/b", "..", ".", "", "C:theirs.data", "a\\b", "x\0y"]
)
def test_weights_elsewhere_are_not_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "inside").mkdir()
    path = with_data(tmp_path / "inside", location)
    (tmp_path / "theirs.data").write_bytes((tmp_path / "inside" / "theirs.data").read_bytes())
    with pytest.raises(ModelFileError, match="outside its own folder"):
        adopt(path.read_bytes(), str(path), TERMS, folder=path.parent)


def test_weights_that_are_missing_linked_or_cut_are_said(tmp_path: Path) -> None:
    path = with_data(tmp_path)
    data = tmp_path / "theirs.data"
    whole = data.read_bytes()
    with pytest.raises(ModelFileError, match=r"'theirs\.data', which is not beside it"):
        adopt(path.read_bytes(), str(path), TERMS)
    data.write_bytes(whole[:-100])
    with pytest.raises(ModelFileError, match=r"'theirs\.data' ends before its weights"):
        adopt(path.read_bytes(), str(path), TERMS, folder=tmp_path)
    data.unlink()
    with pytest.raises(ModelFileError, match="which is not beside it"):
        adopt(path.read_bytes(), str(path), TERMS, folder=tmp_path)
    (tmp_path / "elsewhere").write_bytes(whole)
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelFileError, match="which is not beside it"):
        adopt(path.read_bytes(), str(path), TERMS, folder=tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_adopted_or_refused(data: st.DataObject) -> None:
    """Flips in the small half of the file, where the structure is."""
    damaged = bytearray(content())
    end = len(damaged)
    places = st.one_of(st.integers(0, 300), st.integers(max(0, end - 900), end - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=3)):
        damaged[place] = value
    problem = ""
    try:
        adopt(bytes(damaged), "damaged.onnx", TERMS)
    except ModelFileError as err:
        problem = str(err)
    assert problem == "" or problem.startswith("damaged.onnx: ")


@needs_shared[0]
@needs_shared[1]
def test_a_face_detector_is_refused() -> None:
    path = SHARED / "models" / "face_detection_yunet_2026may.onnx"
    with pytest.raises(ModelFileError, match=r"is not an embedding network: it gives cls_8 float 1xNx1.* and 8 more"):
        adopt(read_file(path), str(path), TERMS)


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        read_file(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_file(tmp_path)
    huge = tmp_path / "huge.onnx"
    huge.touch()
    with huge.open("r+b") as file:
        file.truncate(1 << 32)
    with pytest.raises(ModelFileError, match="larger than an ONNX file can be"):
        read_file(huge)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["engines", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    code = stop.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def theirs(tmp_path: Path) -> str:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(content(batch=1))
    return str(path)


def test_the_command_writes_a_file(
    theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "ours.onnx"
    options = (
        "--mean",
        "127.5",
        "--std",
        "128",
        "--threshold",
        "1.1",
        "--fmr",
        "1e-4",
        "--licence",
        "MIT",
        "--mirrored",
    )
    assert call(monkeypatch, "adopt", theirs, "--output", str(output), *options) == 0
    manifest = load_model(output).manifest
    assert (manifest.name, manifest.threshold, manifest.threshold_fmr, manifest.licence) == ("theirs", 1.1, 1e-4, "MIT")
    assert manifest.mirrored
    assert manifest.unit_length
    assert "embed.model=" + str(output) in capsys.readouterr().out


def test_the_command_keeps_a_name(
    theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REALTIME_CACHE", str(tmp_path / "cache"))
    assert call(monkeypatch, "adopt", theirs, "--name", "mine/best", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["path"] == str(place_of("mine/best"))
    assert find_model("mine/best").manifest.model_id == printed["model_id"]
    assert find_model("mine/best").manifest.threshold_source.startswith("not calibrated")
    assert call(monkeypatch, "adopt", theirs, "--name", "mine/best") == 0  # the same again
    assert call(monkeypatch, "adopt", theirs, "--name", "mine/best", "--mirrored") == 1
    assert call(monkeypatch, "adopt", theirs, "--name", "edgeface/base") == 1
    assert capsys.readouterr().err.count("is the name of another model already; choose another with --name") == 2


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "give either --name"),
        (("--name", "a", "--output", "b"), 2, "give either --name"),
        (("--name", "a", "--fmr", "1e-4"), 2, "give --threshold too"),
        (("--name", "a", "--raw"), 2, "--raw needs --threshold"),
        (("--name", "a", "--layout", "hwc"), 2, "known are nchw, nhwc"),
        (("--name", "a", "--colour", "grey"), 2, "known are rgb, bgr"),
        (("--name", "a", "--mean", "half"), 2, "--mean is 'half'"),
        (("--name", "a", "--mean", "nan"), 2, "a value of the scale"),
        (("--name", "a", "--std", "0"), 2, "a value above 0"),
        (("--name", "../a"), 1, "cannot name a model"),
        (("--name", "a", "--threshold", "-1"), 2, "are from 0 to 4"),
        (("--name", "a", "--threshold", "99"), 2, "are from 0 to 4"),
        (("--name", "a", "--threshold", "1", "--fmr", "7"), 2, "between 0 and 1"),
        (("--output", "/no/such/folder/a.onnx"), 1, "cannot be written"),
    ],
)
def test_wrong_options_are_one_sentence(
    theirs: str,
    options: tuple[str, ...],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "adopt", theirs, *options) == code
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert words in said
    assert "Traceback" not in said
