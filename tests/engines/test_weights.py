"""Files of weights as they come: whole, wrapped, foreign, damaged, hostile."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import save_file  # noqa: E402

from engines.errors import ModelFileError, RuntimeMissing  # noqa: E402
from engines.networks import NETWORKS, build, known_network  # noqa: E402
from engines.networks.matching import WeightsMismatch, compare, fitting_networks, guess, match  # noqa: E402
from engines.networks.shapes import expected_shapes  # noqa: E402
from engines.networks.weights import read_weights  # noqa: E402

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3) / 3
STATE = OrderedDict({"fc.weight": torch.from_numpy(VALUES), "bn.num_batches_tracked": torch.tensor(7)})


def save(path: Path, content: object = STATE, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    """The one sentence that a file gets."""
    with pytest.raises(ModelFileError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


class Hostile:
    """A pickle of this makes a file when it is loaded the careless way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def prefixed(prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in STATE.items()}


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (STATE, "PyTorch file"),
        (dict(STATE), "PyTorch file"),
        (prefixed("module."), "PyTorch file"),
        (prefixed("_orig_mod.module."), "PyTorch file"),
        ({"state_dict": STATE, "epoch": 3}, "PyTorch file, its 'state_dict'"),
        ({"model": STATE, "loss": torch.tensor(0.5)}, "PyTorch file, its 'model'"),
        ({"backbone": prefixed("module.")}, "PyTorch file, its 'backbone'"),
        ({"model": {"state_dict": STATE}}, "PyTorch file, its 'model.state_dict'"),
        (
            {"state_dict_backbone": STATE, "state_dict_softmax_fc": {"weight": torch.ones(9)}, "state_optimizer": {}},
            "PyTorch file, its 'state_dict_backbone'",
        ),
        ({"state_dict": {**prefixed("backbone."), "head.weight": torch.ones(4)}}, "PyTorch file, its 'state_dict'"),
        (
            {"model": STATE, "best": np.float64(0.5), "args": argparse.Namespace(lr=0.1), "seen": np.int64(3)},
            "PyTorch file, its 'model'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old form"])
def test_the_network_is_found_wherever_it_is(tmp_path: Path, content: object, form: str, old: bool) -> None:
    weights = read_weights(save(tmp_path / "model.pt", content, _use_new_zipfile_serialization=not old))
    assert list(weights.arrays) == ["fc.weight"]
    assert np.array_equal(weights.arrays["fc.weight"], VALUES)
    assert weights.arrays["fc.weight"].flags.writeable
    assert weights.form == form


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    path = save(tmp_path / "model.pt")
    assert read_weights(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_every_float_becomes_float32(tmp_path: Path, kind: Any, name: str) -> None:
    path = tmp_path / name
    state = {"module.fc.weight": torch.from_numpy(VALUES).to(kind)}
    save(path, state) if name.endswith(".pt") else save_file(state, path)
    array = read_weights(path).arrays["fc.weight"]
    assert array.dtype == np.float32
    assert np.array_equal(array, state["module.fc.weight"].float().numpy())


def test_the_content_tells_the_format_not_the_name(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.from_numpy(VALUES)}, tmp_path / "weights.pth")
    assert read_weights(tmp_path / "weights.pth").form == "safetensors file"
    assert read_weights(save(tmp_path / "weights.safetensors")).form == "PyTorch file"


def test_code_is_named_and_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = {**STATE, "more": Hostile(trace)}
    files = [
        save(tmp_path / "new.pth", content),
        save(tmp_path / "old.pth", content, _use_new_zipfile_serialization=False),
        *(write(tmp_path / f"{p}.pth", pickle.dumps({"a": Hostile(trace)}, protocol=p)) for p in range(2, 6)),
    ]
    for path in files:
        message = refusal(path)
        assert "holds code (" in message
        assert "Path.touch" in message or "getattr" in message
        assert "not run" in message
    assert not trace.exists()


def test_a_whole_pickled_model_says_what_to_save(tmp_path: Path) -> None:
    for old in (False, True):
        path = save(tmp_path / "model.pt", torch.nn.Linear(2, 2), _use_new_zipfile_serialization=not old)
        assert "whole pickled model" in (message := refusal(path))
        assert "model.state_dict()" in message


def test_torchscript_says_what_to_save(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    assert "TorchScript" in refusal(tmp_path / "script.pt")


def cut(share: float, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = save(folder / "whole.pth", {"w": torch.ones(5000)}, **options)
        return write(folder / "half.pth", path.read_bytes()[: int(path.stat().st_size * share)])

    return make


def cut_safetensors(folder: Path) -> Path:
    save_file({"w": torch.ones(5000)}, folder / "whole.safetensors")
    return write(folder / "half.safetensors", (folder / "whole.safetensors").read_bytes()[:10_000])


def as_onnx(folder: Path) -> Path:
    graph = helper.make_graph([], "empty", [], [])
    return write(folder / "model.pth", helper.make_model(graph, producer_name="pytorch").SerializeToString())


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "models.pth", "w") as archive:
        archive.writestr("w600k_r50.onnx", b"model")
    return folder / "models.pth"


def deflated(folder: Path) -> Path:
    """A torch file whose storages are packed: the least a bomb would need."""
    plain = io.BytesIO()
    torch.save({"w": torch.zeros(100_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return folder / "bomb.pth"


def expanded(folder: Path) -> Path:
    return save(folder / "wide.pth", {"w": torch.zeros(1).expand(1 << 20, 1 << 20)})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: f / "none.pth", "does not exist; give the path"),
        (lambda f: f, "is not a file"),
        (lambda f: write(f / "a.pth", b""), "is empty; download"),
        (cut(0.5), r"is cut off or damaged \(\d+ bytes\); download"),
        (cut(0.99), r"is cut off or damaged"),
        (cut(0.5, _use_new_zipfile_serialization=False), "is cut off, damaged or no PyTorch file"),
        (cut(0.02, _use_new_zipfile_serialization=False), "is cut off, damaged or no PyTorch file"),
        (cut_safetensors, "is cut off or damaged"),
        (lambda f: write(f / "a.pth", b"<!DOCTYPE html><html>"), "is a web page, not weights.*in a browser"),
        (lambda f: write(f / "a.pth", b"\xef\xbb\xbf\r\n <HTML><body>"), "is a web page"),
        (
            lambda f: write(f / "a.pth", b"version https://git-lfs.github.com/spec/v1\n"),
            "git-lfs pointer.*git lfs pull",
        ),
        (as_onnx, "is an ONNX model under another name; rename"),
        (lambda f: write(f / "a.pth", b"\x1f\x8b\x08\0"), "packed with gzip; unpack"),
        (lambda f: write(f / "a.h5", b"\x89HDF\r\n\x1a\n"), "Keras"),
        (lambda f: write(f / "a.pth", b"Not Found"), r"is neither a PyTorch file nor safetensors; give a \.pt"),
        (zipped, "is a zip without PyTorch weights; unpack it"),
        (deflated, "is compressed, which torch.save never does"),
        (expanded, "claim more values than the file has bytes"),
        (lambda f: save(f / "a.pth", {"epoch": 3, "args": {"lr": 0.1}}), "holds no weights by name, but epoch, args"),
        (lambda f: save(f / "a.pth", torch.ones(3)), "holds no weights by name, but Tensor"),
        (lambda f: save(f / "a.pth", [torch.ones(3)]), "holds no weights by name, but list"),
        (lambda f: save(f / "a.pth", {}), "holds no weights by name"),
        (lambda f: save(f / "a.pth", {"model": {"model": {"model": {"model": {}}}}}), "holds no weights by name"),
        (lambda f: save(f / "a.pth", {"fc.bias": torch.tensor([1.0, float("nan")])}), "fc.bias holds NaN or infinity"),
        (lambda f: save(f / "a.pth", {"fc.bias": torch.tensor([1e300]).double()}), r"fc\.bias holds"),
        (lambda f: save(f / "a.pth", {"w": torch.ones(2).to_sparse()}), "w is no plain tensor"),
        (lambda f: save(f / "a.pth", {"w": torch.ones(2, dtype=torch.complex64)}), "w is no plain tensor"),
    ],
)
def test_every_other_file_gets_one_sentence(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    assert re.search(words, refusal(make(tmp_path)))


@pytest.mark.parametrize(
    ("state", "words"),
    [({}, "holds no weights"), ({"w": torch.ones(2, dtype=torch.int8)}, "w is of type I8; save")],
)
def test_safetensors_without_floats_is_refused(tmp_path: Path, state: dict[str, Any], words: str) -> None:
    save_file(state, tmp_path / "a.safetensors")
    assert words in refusal(tmp_path / "a.safetensors")


WHOLE: dict[str, bytes] = {}


def whole(name: str) -> bytes:
    """A small file of each form, written once."""
    if not WHOLE:
        for key, new in (("zip", True), ("old", False)):
            buffer = io.BytesIO()
            torch.save({"state_dict": STATE}, buffer, _use_new_zipfile_serialization=new)
            WHOLE[key] = buffer.getvalue()
        from safetensors.torch import save as to_bytes

        WHOLE["safetensors"] = to_bytes({"fc.weight": torch.from_numpy(VALUES)})
    return WHOLE[name]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=st.sampled_from(["zip", "old", "safetensors"]), data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path: Path, form: str, data: st.DataObject) -> None:
    content = whole(form)
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content)), st.integers(0, 255)), max_size=4)):
        if place < len(damaged):
            damaged[place] = value
    path = write(tmp_path / "damaged.pth", bytes(damaged))
    try:
        weights = read_weights(path)
    except ModelFileError as err:
        assert str(err).startswith(f"{path}: ")  # noqa: PT017
    else:
        assert all(values.dtype == np.float32 for values in weights.arrays.values())


def test_without_torch_the_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "model.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeMissing, match=r"torch does not load .*pip install torch"):
        read_weights(path)
    with pytest.raises(RuntimeMissing, match="pip install torch"):
        build(known_network("mobilefacenet"))


def test_a_torch_that_could_be_made_to_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "model.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(RuntimeMissing, match=r"torch 2\.5\.1\+cpu is too old to read weights safely"):
        read_weights(path)


def zeros(name: str, **changes: Any) -> dict[str, NDArray[np.float32]]:
    """A state of the right names and shapes that costs no memory."""
    shapes = expected_shapes(known_network(name)) | changes
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items() if shape is not None}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_table_is_recognised(name: str) -> None:
    arrays = zeros(name)
    assert fitting_networks(arrays) == [name]
    assert guess(arrays, "file") == match(arrays, NETWORKS[name], "file") == NETWORKS[name]


def test_the_number_of_dimensions_is_that_of_the_weights() -> None:
    changes = {
        name: (256, *shape[1:])
        for name, shape in expected_shapes(NETWORKS["iresnet50"]).items()
        if shape[0] == 512 and name.startswith(("fc.", "features."))
    }
    assert match(zeros("iresnet50", **changes), NETWORKS["iresnet50"], "file").dimensions == 256


def test_the_wrong_network_is_named() -> None:
    with pytest.raises(
        WeightsMismatch, match=r"file: does not fit iresnet50: .*unexpected.*the weights of iresnet100"
    ) as caught:
        match(zeros("iresnet100"), NETWORKS["iresnet50"], "file")
    mismatch = caught.value.mismatch
    assert not mismatch.missing
    assert len(mismatch.unexpected) == len(expected_shapes(NETWORKS["iresnet100"])) - len(
        expected_shapes(NETWORKS["iresnet50"])
    )


def test_every_difference_is_listed() -> None:
    arrays = zeros("iresnet18", **{"fc.weight": (512, 512), "bn2.weight": None, "conv1.weight": (), "head": (3,)})
    mismatch = compare(arrays, NETWORKS["iresnet18"])
    assert mismatch.missing == ("bn2.weight",)
    assert mismatch.unexpected == ("head",)
    assert mismatch.misshaped == (
        "conv1.weight is a single number, not 64x3x3x3",
        "fc.weight is 512x512, not 512x25088",
    )
    with pytest.raises(
        WeightsMismatch, match=r"1 missing \(bn2\.weight\); 1 unexpected \(head\); 2 of another shape"
    ) as caught:
        match(arrays, NETWORKS["iresnet18"], "file")
    assert caught.value.mismatch == mismatch
    with pytest.raises(ModelFileError, match=r"fits none of iresnet18, .*--network"):
        guess(arrays, "file")


@given(name=st.sampled_from(["iresnet18", "mobilefacenet"]), data=st.data())
def test_one_changed_array_never_fits(name: str, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(expected_shapes(NETWORKS[name]))))
    change = data.draw(st.sampled_from([None, (), (3, 5, 7)]))
    arrays = zeros(name, **{key: change})
    with pytest.raises(WeightsMismatch, match=re.escape(key)):
        match(arrays, NETWORKS[name], "file")
