"""The torch2trt runtime against a stand-in that watches torch by the names that the real one watches."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from engines.errors import EngineError, ModelFileError, RuntimeMissing
from engines.export import ModelFile
from engines.gpu.trt_build import LoadedPlan
from engines.graphs.anatomy import split
from engines.runtimes import tensorrt, torch2trt
from engines.store import CACHE_VARIABLE, default_model
from tests.engines.fake_tensorrt import FakeTensorRt, ICudaEngine
from tests.engines.test_mixed_precision import SIDE, Network, cosines, network
from tests.engines.test_tensorrt import reference

MODEL = network(["bn", "residual", "relu", "conv"])
SMALL = MODEL.SerializeToString()

WATCHED = (
    *((functional, name) for name in ("conv2d", "prelu", "batch_norm", "linear", "max_pool2d", "avg_pool2d", "relu")),
    *((torch, name) for name in ("relu", "add", "sub", "mul", "div", "mean", "flatten", "matmul")),
)
"""Some of the names that the real one's converters are registered for (its native_converters.py)."""


class TRTModule(torch.nn.Module):
    """As the real one: reads its input through the address of a contiguous copy that may be gone by then."""

    def __init__(self, engine: ICudaEngine | None, input_names: list[str], output_names: list[str]) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.is_contiguous()
        assert x.dtype == torch.float32
        assert self.engine is not None
        session = self.engine.session
        return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


class FakeTorch2Trt(types.ModuleType):
    """The module; ``body`` is the ONNX of what it will be asked to convert."""

    TRTModule = TRTModule

    def __init__(self, trt: FakeTensorRt) -> None:
        super().__init__("torch2trt")
        self.__spec__ = ModuleSpec("torch2trt", None)
        self._trt = trt
        self.body = split(MODEL)[1]
        self.conversions = 0
        self.builds = True

    def torch2trt(self, module: torch.nn.Module, inputs: list[torch.Tensor], **options: Any) -> TRTModule:
        names = {"input_names": ["images"], "output_names": ["embeddings"]}
        assert options == {"fp16_mode": True, "max_batch_size": 256, **names}
        self.conversions += 1
        answer = self._traced(module, inputs[0])
        whole = reference_of(self.body)(inputs[0].numpy())
        assert np.allclose(answer.numpy(), whole, atol=1e-4)
        if not self.builds:
            return TRTModule(None, **names)
        head = json.dumps({"version": self._trt.__version__, "profiles": []}).encode()
        plan = LoadedPlan(self._trt)
        assert plan.load(head + b"\n" + self.body.SerializeToString())
        return TRTModule(plan.engine, **names)

    def _traced(self, module: torch.nn.Module, example: torch.Tensor) -> torch.Tensor:
        """Every value from the input on must come from a watched call; it would be a constant otherwise."""
        assert example.dtype == torch.float32
        example._trt = "input"  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in WATCHED:
                patch.setattr(owner, name, _watching(getattr(owner, name)))
            answer: torch.Tensor = module(example)
        assert answer._trt  # type: ignore[attr-defined]
        return answer


def _watching(method: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*args: Any, **options: Any) -> Any:
        assert not any(isinstance(value, list) for value in (*args, *options.values())), "it reads lists as one number"
        answer = method(*args, **options)
        if any(hasattr(value, "_trt") for value in args):
            answer._trt = method.__name__
        return answer

    return watched


def reference_of(part: onnx.ModelProto) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    return lambda values: reference(part.SerializeToString(), values)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTorch2Trt:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    trt = FakeTensorRt("10.16.1.11")
    made = FakeTorch2Trt(trt)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "torch2trt", made)
    cuda = SimpleNamespace(
        init=lambda: None,
        current_device=lambda: 0,
        get_device_name=lambda: "NVIDIA Stand-in",
        get_device_capability=lambda: (9, 0),
    )
    shim = SimpleNamespace(cuda=cuda, device=lambda *_: torch.device("cpu"), zeros=torch.zeros)
    for module in (tensorrt, torch2trt):
        monkeypatch.setattr(module, "cuda_torch", lambda runtime: shim)
    return made


def opened(model: bytes = SMALL) -> Any:
    return torch2trt.open_session(model, "small.onnx", precision="fp16", threads=1)


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def test_a_network_is_converted_once_and_gives_the_references_embeddings(fake: FakeTorch2Trt) -> None:
    assert not torch2trt.ready(SMALL, "fp16")
    for _ in range(2):
        session = opened()
        for count in (1, 3, 20):
            answer = session.run(faces(count, seed=count))
            assert answer.dtype == np.float32
            assert cosines(answer, reference(SMALL, faces(count, seed=count))).min() >= 0.99999
        session.close()
    assert fake.conversions == 1
    assert torch2trt.ready(SMALL, "fp16")
    with pytest.raises(EngineError, match="closed"):
        session.run(faces(1))


def test_the_body_of_a_mirrored_network_gets_twice_the_batch(fake: FakeTorch2Trt) -> None:
    model = mirrored(MODEL)
    fake.body = split(model)[1]
    session = opened(model.SerializeToString())
    assert session.max_batch == 128
    images = faces(5)
    both = reference(SMALL, images), reference(SMALL, images[:, :, ::-1].copy())
    assert np.allclose(session.run(images), np.mean(both, axis=0), atol=1e-4)


def mirrored(model: onnx.ModelProto) -> onnx.ModelProto:
    """The mean over a face and its mirror image, around a small network."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for node in graph.node:
        node.input[:] = ["both" if name == "faces" else name for name in node.input]
        node.output[:] = ["pairs" if name == "embeddings" else name for name in node.output]
    numbers = {"last": [-1], "before": [-SIDE - 1], "axis": [2], "shape": [2, -1, 12]}
    for name, values in numbers.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, dtype=np.int64), name))
    before = [
        onnx.helper.make_node("Slice", ["faces", "last", "before", "axis", "last"], ["flipped"]),
        onnx.helper.make_node("Concat", ["faces", "flipped"], ["both"], axis=0),
    ]
    after = [
        onnx.helper.make_node("Reshape", ["pairs", "shape"], ["halves"]),
        onnx.helper.make_node("ReduceMean", ["halves"], ["embeddings"], axes=[0], keepdims=0),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def test_what_torch2trt_does_not_watch_is_refused_before_it_becomes_a_constant(fake: FakeTorch2Trt) -> None:
    made = Network()
    made.pad()
    with pytest.raises(ModelFileError, match=r"small.onnx: torch2trt does not convert 'pad'"):
        opened(made.finish().SerializeToString())
    assert fake.conversions == 0


def test_a_network_that_does_not_come_apart_is_refused(fake: FakeTorch2Trt) -> None:
    made = Network()
    detector = made.graph.finish(made.x, ["N", 8, SIDE, SIDE], "test")
    with pytest.raises(ModelFileError, match=r"small.onnx: the graph has no convolutions that end in a matrix"):
        opened(detector.SerializeToString())


def test_a_conversion_that_fails_says_why(fake: FakeTorch2Trt, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AttributeError("'Tensor' object has no attribute '_trt'")

    monkeypatch.setattr(fake, "torch2trt", fail)
    with pytest.raises(ModelFileError, match=r"small.onnx: torch2trt cannot convert it \('Tensor' object"):
        opened()
    monkeypatch.undo()


def test_an_engine_that_was_not_built_is_an_error(fake: FakeTorch2Trt) -> None:
    fake.builds = False
    with pytest.raises(EngineError, match=r"small.onnx: torch2trt built no engine"):
        opened()
    assert not torch2trt.ready(SMALL, "fp16")


def test_it_runs_fp16_alone() -> None:
    assert torch2trt.obstacle("fp16") is None
    assert [torch2trt.obstacle(each) for each in ("fp32", "int8", "bf16")] == ["torch2trt runs fp16 only"] * 3


def test_with_tensorrt_11_it_is_refused_and_not_imported(fake: FakeTorch2Trt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "11.4.0.106")
    with pytest.raises(RuntimeMissing, match=r"cannot be imported with TensorRT 11.4, .*; use the runtime tensorrt"):
        torch2trt.version()
    with pytest.raises(RuntimeMissing, match="TensorRT 11"):
        opened()
    assert fake.conversions == 0


def test_what_is_missing_is_said_with_what_to_do(fake: FakeTorch2Trt, monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch2trt.version() == "of unknown version on TensorRT 10.16.1.11, NVIDIA Stand-in"
    monkeypatch.setitem(sys.modules, "torch2trt", None)
    with pytest.raises(RuntimeMissing, match=r"pip install git\+https://github.com/NVIDIA-AI-IOT/torch2trt"):
        torch2trt.version()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(RuntimeMissing, match="pip install 'tensorrt<11'"):
        torch2trt.version()


def test_its_version_is_told_without_importing_it(tmp_path: Path, fake: FakeTorch2Trt, monkeypatch: Any) -> None:
    (tmp_path / "torch2trt.py").write_text("raise AttributeError('trt.CalibrationAlgoType')\n")
    monkeypatch.delitem(sys.modules, "torch2trt")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "TensorRT 10.16" in torch2trt.version()
    with pytest.raises(RuntimeMissing, match=r"does not load with TensorRT 10.16.* \(trt.CalibrationAlgoType\)"):
        opened()


@pytest.mark.gpu
@pytest.mark.tensorrt
def test_the_real_one() -> None:
    try:
        torch2trt.version()
    except RuntimeMissing as err:
        pytest.skip(str(err))
    session = opened()
    assert cosines(session.run(faces(9)), reference(SMALL, faces(9))).min() >= 0.999


def test_the_embedded_network_is_said_not_to_be_one_for_it(fake: FakeTorch2Trt) -> None:
    """Its shortcuts grow by padding, which torch2trt knows on two axes alone."""
    model: ModelFile = default_model()
    with pytest.raises(ModelFileError, match="torch2trt does not convert 'pad'"):
        opened(model.content)
