"""int8 forms of models: made, kept, shipped, refused; and the command."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from engines import activation_ranges, plans
from engines import quantise as quantiser
from engines.__main__ import app
from engines.activation_ranges import shipped_ranges
from engines.dlib.detector import CnnDetector
from engines.errors import EngineError, ModelFileError
from engines.export import ModelFile, load_model
from engines.networks import Network
from engines.networks.model_files import in_precision, random_model
from engines.parity import cosines, drawn_faces
from engines.quantise import MIN_FACES, Calibration, keep, quantise, quantised, quantised_or_build
from engines.runtimes import describe_runtimes, runtime_module
from engines.store import CACHE_VARIABLE, default_model

INT8 = [info.name.split()[0] for info in describe_runtimes() if info.available and info.name.endswith("int8")]
IRESNET = Network(name="tiny", family="iresnet", blocks=(1, 1, 1, 1), width=8, dimensions=16)
MOBILE = Network(name="tiny-mbf", family="mobilefacenet", blocks=(1, 1, 1, 1), width=8, expansion=8, dimensions=16)


@pytest.fixture(scope="module")
def tiny() -> ModelFile:
    return random_model(IRESNET, 0)


@pytest.fixture(scope="module")
def faces() -> NDArray[np.uint8]:
    return drawn_faces(112, 24)


@pytest.fixture(scope="module")
def int8(tiny: ModelFile, faces: NDArray[np.uint8]) -> ModelFile:
    return quantise(tiny, faces, source="drawn")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(model: ModelFile, faces: NDArray[np.uint8], runtime: str, precision: str) -> NDArray[np.float32]:
    session = runtime_module(runtime).open_session(model.content, "test", precision=precision, threads=1)
    try:
        return session.run(faces)
    finally:
        session.close()


@pytest.mark.parametrize("runtime", INT8)
@pytest.mark.parametrize("network", [IRESNET, MOBILE], ids=lambda network: network.family)
def test_networks_keep_their_answers(network: Network, runtime: str, faces: NDArray[np.uint8]) -> None:
    model = random_model(network, 3)
    answers = run(quantise(model, faces, source="drawn"), faces, runtime, "int8")
    assert cosines(answers, run(model, faces, "onnxruntime", "fp32")).min() > 0.95


@pytest.mark.parametrize("runtime", INT8)
def test_the_embedded_descriptor_needs_no_faces(runtime: str, chips: NDArray[np.uint8]) -> None:
    model = default_model()
    form = quantised(model)
    assert form is not None
    assert "LFW" in form.manifest.calibrated_on
    answers = run(form, chips, runtime, "int8")
    assert cosines(answers, run(model, chips, "onnxruntime", "fp32")).min() > 0.99
    assert np.allclose(np.linalg.norm(answers, axis=1), 1, atol=4e-3)
    alone = np.concatenate([run(form, chip[None], runtime, "int8") for chip in chips[:2]])
    assert np.abs(alone - answers[:2]).max() < 2e-3


def test_shipped_ranges_hold_for_every_form_of_the_descriptor(chips: NDArray[np.uint8]) -> None:
    plain = default_model(unit_length=False, mirrored=False)
    form = quantised(plain)
    assert form is not None
    assert cosines(run(form, chips, INT8[0], "int8"), run(plain, chips, "onnxruntime", "fp32")).min() > 0.99


def test_the_manifest_says_what_changed(tiny: ModelFile, int8: ModelFile) -> None:
    assert int8.manifest.precision == "int8"
    assert int8.manifest.calibrated_on == "24 faces (drawn)"
    assert "int8" in int8.manifest.tools
    assert int8.manifest.model_id == tiny.manifest.model_id
    untouched = replace(int8.manifest, precision="fp32", calibrated_on="", tools=tiny.manifest.tools)
    assert untouched == tiny.manifest


def test_the_same_faces_give_the_same_bytes(tiny: ModelFile, int8: ModelFile, faces: NDArray[np.uint8]) -> None:
    view = np.concatenate([faces, faces])[: len(faces)]
    view.flags.writeable = False
    assert quantise(tiny, view, source="drawn", threads=2).content == int8.content


def test_the_descriptor_is_a_quarter_of_its_size() -> None:
    form = quantised(default_model())
    assert form is not None
    assert len(form.content) < len(default_model().content) / 3.5


def test_many_faces_are_thinned_out_and_progress_is_told(
    tiny: ModelFile, faces: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantiser, "FACES", 18)
    told: list[int] = []
    made = quantise(tiny, faces, source="drawn", progress=told.append)
    assert sum(told) == 18
    assert made.manifest.calibrated_on == "18 faces (drawn)"


def test_faces_that_will_not_do_are_refused(tiny: ModelFile, faces: NDArray[np.uint8]) -> None:
    for wrong, words in (
        (faces[: MIN_FACES - 1], f"{MIN_FACES - 1} faces are too few .* at least {MIN_FACES}"),
        (faces[:0], "0 faces are too few"),
        (np.repeat(faces[:1], 20, axis=0), "all 20 faces .* are the same"),
        (faces[:, :100], r"uint8 of shape \(24, 100, 112, 3\).*\(N, 112, 112, 3\)"),
        (faces.astype(np.float32), "float32"),
    ):
        with pytest.raises(EngineError, match=words):
            quantise(tiny, wrong, source="drawn")


def test_only_fp32_files_are_quantised(tiny: ModelFile, int8: ModelFile, faces: NDArray[np.uint8]) -> None:
    mixed = in_precision(tiny, "mixed-fp16")
    for other in (int8, mixed):
        with pytest.raises(ModelFileError, match="made from the fp32 file"):
            quantise(other, faces, source="drawn")
    assert quantised(int8) is int8
    assert quantised(mixed) is None
    with pytest.raises(ModelFileError, match="made from the fp32 file"):
        quantised_or_build(mixed, Calibration(faces=lambda: faces))


def test_built_once_and_found_again(own_cache: Path, tiny: ModelFile, faces: NDArray[np.uint8]) -> None:
    assert quantised(tiny) is None
    asked: list[int] = []

    def give() -> NDArray[np.uint8]:
        asked.append(1)
        return faces

    forms: list[ModelFile] = []
    calibration = Calibration(faces=give)
    threads = [threading.Thread(target=lambda: forms.append(quantised_or_build(tiny, calibration))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert len({form.content for form in forms}) == 1
    found = quantised(tiny)
    assert found is not None
    assert found.content == forms[0].content
    assert quantised(random_model(IRESNET, 1)) is None, "another model has none"


def test_faces_that_are_insisted_on_are_those_that_count(own_cache: Path, chips: NDArray[np.uint8]) -> None:
    model = default_model()
    named = Calibration(faces=lambda: chips, source="named", origin="a folder")
    assert quantised(model) is not None, "shipped ranges"
    assert quantised(model, named) is None
    assert quantised_or_build(model, named).manifest.calibrated_on == "24 faces (named)"
    assert quantised(model, named) is not None
    other = quantised(model)
    assert other is not None
    assert "named" not in other.manifest.calibrated_on


def test_without_faces_there_is_a_sentence(own_cache: Path, tiny: ModelFile) -> None:
    with pytest.raises(EngineError, match="python -m engines quantise"):
        quantised_or_build(tiny, None)


def test_a_damaged_form_is_made_again(own_cache: Path) -> None:
    model = default_model()
    first = quantised(model)
    kept = next((plans.plans_dir() / quantiser.KIND).glob("*.plan"))
    kept.write_bytes(kept.read_bytes()[:-9])
    again = quantised(model)
    assert first is not None
    assert again is not None
    assert first.content == again.content


def test_faces_of_the_users_win_over_shipped_ranges(own_cache: Path, chips: NDArray[np.uint8]) -> None:
    model = default_model()
    mine = quantise(model, chips, source="mine")
    keep(model, mine)
    found = quantised(model)
    assert found is not None
    assert found.manifest.calibrated_on == "24 faces (mine)"


def test_a_damaged_file_of_ranges_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped_ranges("0" * 64) is None
    (tmp_path / "int8").mkdir()
    monkeypatch.setattr(activation_ranges, "configs_dir", lambda: tmp_path)
    for text in ("", "[]", '{"weights_sha256": "0"}', '{"weights_sha256": "%s", "ranges": 1}' % ("0" * 64)):
        (tmp_path / "int8" / "bad.json").write_text(text)
        with pytest.raises(ModelFileError, match=r"bad\.json: cannot be read"):
            shipped_ranges("0" * 64 if "ranges" in text else "0")


def test_the_command_keeps_writes_and_tells(
    own_cache: Path, tmp_path: Path, tiny: ModelFile, faces: NDArray[np.uint8]
) -> None:
    file, crops, out, ranges = (tmp_path / name for name in ("tiny.onnx", "crops.npy", "int8.onnx", "ranges.json"))
    file.write_bytes(tiny.content)
    np.save(crops, faces)
    runner = CliRunner()
    kept = runner.invoke(app, ["quantise", str(file), "--faces", str(crops)])
    assert kept.exit_code == 0, kept.output
    assert "24 faces (crops.npy" in kept.stdout
    assert "verify" in kept.stdout
    assert quantised(tiny) is not None
    written = runner.invoke(app, ["quantise", str(file), "--faces", str(crops), "--output", str(out), "--json"])
    assert json.loads(written.stdout)["model_id"] == tiny.manifest.model_id
    assert load_model(out).manifest.precision == "int8"
    told = runner.invoke(app, ["quantise", str(file), "--faces", str(crops), "--ranges", str(ranges), "--limit", "16"])
    assert told.exit_code == 0, told.output
    values = json.loads(ranges.read_text())
    assert values["weights_sha256"] == tiny.manifest.weights_sha256
    assert "Conv0.in" in values["ranges"]
    assert values["calibrated_on"].startswith("16 faces")


def test_the_command_says_what_is_wrong(tmp_path: Path, tiny: ModelFile, faces: NDArray[np.uint8]) -> None:
    few = tmp_path / "few.npy"
    np.save(few, faces[:3, :, :, :])
    file = tmp_path / "tiny.onnx"
    file.write_bytes(tiny.content)
    runner = CliRunner()
    with pytest.raises(EngineError, match="3 faces are too few"):
        runner.invoke(app, ["quantise", str(file), "--faces", str(few)], catch_exceptions=False)
    both = runner.invoke(app, ["quantise", "--faces", str(few), "--output", "a", "--ranges", "b"])
    assert both.exit_code == 2
    assert runner.invoke(app, ["quantise", "--detector", "--faces", str(few)]).exit_code == 2
    crops, nowhere = tmp_path / "crops.npy", tmp_path / "no" / "x.onnx"
    np.save(crops, faces)
    for arguments, words in (
        (["--detector", "--faces", str(few), "--ranges", str(tmp_path / "r.json")], "folder or tar of photos"),
        ([str(file), "--faces", str(crops), "--output", str(nowhere)], "cannot be written"),
    ):
        with pytest.raises(EngineError, match=words):
            runner.invoke(app, ["quantise", *arguments], catch_exceptions=False)


def test_the_detectors_ranges_come_from_photos(
    tmp_path: Path, astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    photos = tmp_path / "photos"
    photos.mkdir()
    for index, side in enumerate((200, 200, 12)):
        cv2.imwrite(str(photos / f"{index}.png"), np.ascontiguousarray(astronaut[:side, 100 : 100 + side, ::-1]))
    (photos / "notes.txt").write_text("no photo")
    ranges = tmp_path / "int8" / "mine.json"
    ranges.parent.mkdir()
    told = CliRunner().invoke(app, ["quantise", "--detector", "--faces", str(photos), "--ranges", str(ranges)])
    assert told.exit_code == 0, told.output
    assert "Conv7.out" not in json.loads(ranges.read_text())["ranges"], "the scores are left whole"
    monkeypatch.setattr(activation_ranges, "configs_dir", lambda: tmp_path)
    boxes_N4, _ = CnnDetector(precision="int8").detect(astronaut)
    assert len(boxes_N4) == 1


@pytest.mark.parametrize("runtime", INT8)
def test_the_int8_detector_finds_the_same_face(runtime: str, astronaut: NDArray[np.uint8]) -> None:
    whole = CnnDetector(runtime="onnxruntime", precision="fp32")
    detector = CnnDetector(runtime=runtime, precision="int8")
    assert detector.runtime == f"{runtime} int8, 1 thread"
    for frame in (astronaut, astronaut[:300, 60:420]):
        (box,), (score,) = whole.detect(frame)
        (found,), (again,) = detector.detect(frame)
        inner = np.prod(np.minimum(box[2:], found[2:]) - np.maximum(box[:2], found[:2]))
        outer = np.prod(box[2:] - box[:2]) + np.prod(found[2:] - found[:2]) - inner
        assert inner / outer > 0.5
        assert abs(score - again) < 0.1
    assert not len(detector.detect(np.zeros((5, 5, 3), dtype=np.uint8))[0])


def test_auto_never_takes_an_int8_detector() -> None:
    assert "int8" not in CnnDetector().runtime


def test_a_detector_without_known_ranges_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation_ranges, "configs_dir", lambda: tmp_path)
    with pytest.raises(ModelFileError, match="no int8 ranges are known"):
        CnnDetector(precision="int8")


def test_a_graph_that_cannot_be_quantised_names_the_file(tiny: ModelFile, faces: NDArray[np.uint8]) -> None:
    graph = onnx.ModelProto.FromString(tiny.content)
    graph.opset_import[0].version = 12
    with pytest.raises(ModelFileError, match=r"old\.onnx: .*opset 13"):
        quantise(ModelFile(graph.SerializeToString(), tiny.manifest, "old.onnx"), faces, source="drawn")
