from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engines.engine import open_engine
from engines.errors import ModelFileError
from engines.export import check_model, load_model, read_manifest, with_manifest, write_atomically
from engines.manifest import METADATA_KEY, Manifest
from engines.store import default_model

TEXT = st.text(max_size=40)
MANIFESTS = st.builds(
    Manifest,
    name=TEXT,
    network=TEXT,
    weights_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    template=TEXT,
    input_size=st.just(8),
    dimensions=st.just(4),
    unit_length=st.booleans(),
    mirrored=st.booleans(),
    threshold=st.floats(1e-6, 4),
    threshold_fmr=st.none() | st.floats(0, 1),
    threshold_source=TEXT,
    licence=TEXT,
    training_set=st.none() | TEXT,
    tools=TEXT,
)
MANIFEST = Manifest(
    name="tiny",
    network="mean",
    weights_sha256="0" * 64,
    template="arcface_112",
    input_size=8,
    dimensions=4,
    unit_length=False,
    mirrored=False,
    threshold=1.0,
    threshold_fmr=None,
    threshold_source="none",
    licence="MIT",
)


def tiny(
    shape: list[Any] | None = None, kind: int = TensorProto.UINT8, output: list[Any] | None = None, inputs: int = 1
) -> onnx.ModelProto:
    """A model of one product: (N, 8, 8, 3) uint8 -> (N, 4) float32."""
    shape = ["N", 8, 8, 3] if shape is None else shape
    values = [helper.make_tensor_value_info(f"in{i}", kind, shape) for i in range(inputs)]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [192, 4], np.ones((192, 4), np.float32).tobytes(), raw=True)
    rows = helper.make_tensor("rows", TensorProto.INT64, [2], [-1, 192])
    nodes = [
        helper.make_node("Cast", ["in0"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["x", "rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["out"]),
    ]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 4] if output is None else output)
    graph = helper.make_graph(nodes, "tiny", values, [out], initializer=[weights, rows])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@settings(deadline=None)
@given(manifest=MANIFESTS)
def test_a_manifest_comes_back_from_the_file(manifest: Manifest) -> None:
    assert check_model(with_manifest(tiny(), manifest), "file").manifest == manifest


@given(first=MANIFESTS, second=MANIFESTS)
def test_a_manifest_comes_back_from_json(first: Manifest, second: Manifest) -> None:
    assert Manifest.from_json(first.to_json(), "file") == first
    same = all(
        getattr(first, name) == getattr(second, name)
        for name in ("weights_sha256", "template", "dimensions", "unit_length", "mirrored")
    )
    assert (first.model_id == second.model_id) == same


def test_a_file_of_ones_own_runs(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(with_manifest(tiny(), MANIFEST))
    assert read_manifest(path) == MANIFEST
    for runtime in ("onnxruntime", "auto"):
        embeddings = open_engine(path, runtime=runtime).run(np.full((2, 8, 8, 3), 2, dtype=np.uint8))
        assert embeddings.tolist() == [[384.0] * 4] * 2


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (tiny(kind=TensorProto.FLOAT), r"should take uint8 faces .*FLOAT Nx8x8x3"),
        (tiny(shape=["N", 3, 8, 8]), r"should take uint8 faces \(Nx8x8x3.*UINT8 Nx3x8x8"),
        (tiny(shape=[1, 8, 8, 3]), "UINT8 1x8x8x3"),
        (tiny(shape=["N", "H", "W", 3]), "UINT8 NxNxNx3"),
        (tiny(inputs=2), "UINT8 Nx8x8x3; UINT8 Nx8x8x3"),
        (tiny(output=["N", 5]), r"should give float32 embeddings \(Nx4"),
        (tiny(output=["N", 4, 1]), "FLOAT Nx4x1"),
    ],
    ids=["float", "channels first", "one face only", "any size", "two inputs", "five dimensions", "three axes"],
)
def test_a_graph_that_breaks_its_promise_is_refused(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelFileError, match=words + ".*export the model again"):
        check_model(with_manifest(model, MANIFEST), "file.onnx")


def test_a_model_without_a_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(tiny().SerializeToString())
    with pytest.raises(ModelFileError, match=r"foreign\.onnx: holds no realtime manifest.*python -m engines adopt"):
        open_engine(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "cannot be read"),
        ("[1]", "cannot be read"),
        ("not json", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"schema": 99}', "has schema 99"),
        ('{"schema": "new"}', "cannot be read"),
        (replace(MANIFEST).to_json().replace('"MIT"', '"MIT", "extra": 1'), "unknown manifest field 'extra'"),
        (MANIFEST.to_json().replace("1.0", "-1.0"), "cannot be read"),
        (MANIFEST.to_json().replace("1.0", "NaN"), "cannot be read"),
        (MANIFEST.to_json().replace('"dimensions": 4', '"dimensions": "4"'), "cannot be read"),
    ],
)
def test_a_wrong_manifest_is_refused(text: str, words: str) -> None:
    model = tiny()
    helper.set_model_props(model, {METADATA_KEY: text})
    with pytest.raises(ModelFileError, match=words):
        check_model(model.SerializeToString(), "file.onnx")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT, lambda inner: st.lists(inner, max_size=2)
)


@given(name=st.sampled_from([field.name for field in fields(Manifest)]), value=JSON_VALUES)
def test_a_field_of_any_type_is_taken_or_refused(name: str, value: object) -> None:
    text = json.dumps({**asdict(MANIFEST), name: value})
    problem = ""
    try:
        manifest = Manifest.from_json(text, "file")
    except ModelFileError as err:
        problem = str(err)
    assert problem.startswith("file: ") or type(getattr(manifest, name)) in (type(value), float)


def nested(tensor: TensorProto) -> onnx.ModelProto:
    """The tensor in an attribute of a node of a subgraph."""
    model = tiny()
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)
    return model


@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_weights_outside_the_file_are_refused_and_not_opened(tmp_path: Path, place: str) -> None:
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[192, 4])
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../../../etc/hostname")
    if place == "initializer":
        model = tiny()
        model.graph.initializer[0].CopyFrom(outside)
    else:
        model = nested(outside)
    path = tmp_path / "traversal.onnx"
    path.write_bytes(with_manifest(model, MANIFEST))
    with pytest.raises(ModelFileError, match="weights lie in other files"):
        load_model(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    whole = with_manifest(tiny(), MANIFEST)
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole)), st.integers(0, 255)), max_size=6)):
        if place < len(damaged):
            damaged[place] = value
    problem = ""
    try:
        check_model(bytes(damaged), "damaged.onnx")
    except ModelFileError as err:
        problem = str(err)
    assert problem == "" or problem.startswith("damaged.onnx: ")


@pytest.mark.parametrize("content", [b"", b"\0", b"plain text", b"\x89PNG\r\n\x1a\n" + b"\0" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"other\.onnx: is not"):
        load_model(path)


@pytest.mark.parametrize("name", ["backbone.pth", "x.safetensors"])
def test_weights_are_no_model_and_say_what_makes_them_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelFileError, match=rf"{name}: holds weights.*python -m engines import .*{name}"):
        open_engine(tmp_path / name)


def test_missing_dat_and_folder_are_refused(tmp_path: Path, resnet_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        load_model(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(tmp_path)
    with pytest.raises(ModelFileError, match="python -m engines export"):
        load_model(resnet_path)
    huge = tmp_path / "huge.onnx"
    huge.touch()
    os.truncate(huge, 1 << 40)
    with pytest.raises(ModelFileError, match="more than an ONNX file can have"):
        load_model(huge)


def test_the_default_model_is_written_the_same_twice(cache: Path) -> None:
    first = default_model().content
    for path in (cache / "models").glob("*.onnx"):
        path.unlink()
    assert default_model().content == first


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
