"""A stand-in for the module ``tensorrt`` that computes on the CPU, for the flow around the real one.

Its names and their signatures are held to the real bindings by ``test_tensorrt_names``. It is as strict as the real one
where that matters here: only strongly typed networks, a uint8 input that nothing but a cast reads, one type on both
sides of a sum, shapes within the profile, addresses and scratch memory set before a run, plans of its own version only.
Memory is read and written through the addresses that it is given; ONNX Runtime computes.
"""

from __future__ import annotations

import ctypes
import json
import types
import weakref
from collections.abc import Callable, Iterator
from enum import IntEnum
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import onnx
import onnxruntime

SAME_TYPES = ("Add", "Mul", "Sub", "Div", "Conv", "PRelu", "Gemm", "MatMul", "Concat", "Max")


class Dims(tuple[int, ...]):
    """As the real one: a sequence of numbers."""


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

    def phase_finish(self, phase_name: str) -> None: ...

    def step_complete(self, phase_name: str, step: int) -> bool: ...


class ITensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.shape = Dims(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)


class INetworkDefinition:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt
        self.model = onnx.ModelProto()

    def get_input(self, index: int) -> ITensor:
        return ITensor(self.model.graph.input[index])


class ParserError:
    def __init__(self, node: onnx.NodeProto, desc: str) -> None:
        self._node = node
        self._desc = desc

    def node_operator(self) -> str:
        return self._node.op_type

    def node_name(self) -> str:
        return self._node.name

    def desc(self) -> str:
        return self._desc


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def parse(self, model: bytes, path: str | None = None) -> bool:
        parsed = onnx.ModelProto.FromString(model)
        graph = onnx.shape_inference.infer_shapes(parsed, strict_mode=True).graph
        types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        for node in graph.node:
            read = [types[name] for name in node.input if name in types]
            if onnx.TensorProto.UINT8 in read and node.op_type != "Cast":
                self._errors.append(ParserError(node, "uint8 is not supported.\nsecond line"))
            elif node.op_type in self._network.trt.unknown_operators:
                self._errors.append(ParserError(node, "no importer registered for op"))
            elif node.op_type in SAME_TYPES and len(set(read)) > 1:
                self._errors.append(ParserError(node, "inputs are of different types"))
        self._network.model = parsed
        return not self._errors

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = [tuple(min), tuple(opt), tuple(max)]


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"."


class IBuilderConfig:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self.progress_monitor: Any = None
        self.profiles: list[IOptimizationProfile] = []
        self.cache: ITimingCache | None = None
        self.pools: dict[Any, int] = {}
        self.cleared: set[Any] = set()

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.pools[pool] = pool_size

    def clear_flag(self, flag: Any) -> None:
        self.cleared.add(flag)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        (shapes,) = profile.shapes.values()
        if not shapes[0] <= shapes[1] <= shapes[2]:
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        self._trt.timing_caches.append(bytes(serialized_timing_cache))
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache.content.startswith(b"foreign"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self.cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._trt = FakeTensorRt.current
        self._logger = logger
        self._trt.demand_driver(logger)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return INetworkDefinition(self._trt)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._trt)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        self._trt.builds += 1
        assert config.cache is not None
        assert config.pools
        for step in range(3):
            self._trt.during_build(config.progress_monitor, step)
            if not config.progress_monitor.step_complete("tactics", step):
                return None
        if self._trt.build_error:
            self._logger.log(ILogger.Severity.ERROR, self._trt.build_error)
            return None
        profiles = [next(iter(profile.shapes.values())) for profile in config.profiles]
        head = json.dumps({"version": self._trt.__version__, "profiles": profiles}).encode()
        return head + b"\n" + network.model.SerializeToString()


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._trt = FakeTensorRt.current
        self._logger = logger
        self._trt.demand_driver(logger)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        head, _, model = serialized_engine.partition(b"\n")
        try:
            plan = json.loads(head)
        except ValueError:
            plan = {"version": "none"}
        if plan["version"] != self._trt.__version__ or self._trt.refuses_plans:
            self._logger.log(ILogger.Severity.ERROR, "Serialization assertion failed: version tag does not match\n")
            return None
        return ICudaEngine(self._trt, self._logger, plan["profiles"], model, serialized_engine)


class ICudaEngine:
    def __init__(self, trt: FakeTensorRt, logger: ILogger, profiles: list[Any], model: bytes, plan: bytes) -> None:
        self._plan = plan
        self.trt = trt
        self.logger = logger
        self.profiles = profiles
        graph = onnx.ModelProto.FromString(model).graph
        self._tensors = [graph.output[0], graph.input[0]]  # the real one promises no order
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    @property
    def num_io_tensors(self) -> int:
        return 2

    def get_tensor_name(self, index: int) -> str:
        return str(self._tensors[index].name)

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.OUTPUT if name == self._tensors[0].name else TensorIOMode.INPUT

    def get_tensor_shape(self, name: str) -> Dims:
        return ITensor(next(value for value in self._tensors if value.name == name)).shape

    def serialize(self) -> bytes:
        return self._plan

    def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        if self.trt.context_error:
            self.logger.log(ILogger.Severity.ERROR, self.trt.context_error)
            return None
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._profile: int | None = None
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._memory = 0
        self.captured = False
        engine.trt.contexts.append(weakref.ref(self))

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._profile = profile_index
        return profile_index < len(self._engine.profiles)

    def set_input_shape(self, name: str, shape: Any) -> bool:
        assert self._profile is not None
        assert not self.captured, "a captured context's shape changes"
        low, _, high = self._engine.profiles[self._profile]
        self._shape = tuple(shape)
        return all(a <= b <= c for a, b, c in zip(low, self._shape, high, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return memory != 0

    def update_device_memory_size_for_shapes(self) -> int:
        assert self._shape is not None
        return 1024 * self._shape[0]

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory
        assert self._shape is not None
        assert size >= 1024 * self._shape[0]
        self._memory = memory

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._memory
        trt = self._engine.trt
        if trt.execute_error:
            self._engine.logger.log(ILogger.Severity.ERROR, trt.execute_error)
            return False
        if trt.capturing is None:
            self._compute()
        else:
            self.captured = True
            trt.capturing.append(weakref.WeakMethod(self._compute))  # a graph does not keep its context
        return True

    def _compute(self) -> None:
        names = [self._engine.get_tensor_name(index) for index in (1, 0)]
        assert self._shape is not None
        faces = _at(self._addresses[names[0]], self._shape, np.uint8)
        answer = self._engine.session.run(None, {names[0]: faces})[0]
        _at(self._addresses[names[1]], answer.shape, np.float32)[...] = answer
        self._engine.trt.executed.append(len(faces))


def _at(address: int, shape: tuple[int, ...], kind: Any) -> Any:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype=kind).reshape(shape)


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class BuilderFlag(IntEnum):
    TF32 = 7


class TensorIOMode(IntEnum):
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(IntEnum):
    USER_MANAGED = 2


CLASSES: tuple[type, ...] = (
    *(ILogger, IProgressMonitor, ITensor, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile),
    *(ITimingCache, IBuilderConfig, Builder, Runtime, ICudaEngine, IExecutionContext, NetworkDefinitionCreationFlag),
    *(MemoryPoolType, BuilderFlag, TensorIOMode, ExecutionContextAllocationStrategy),
)


class FakeTensorRt(types.ModuleType):
    """The module; its switches make it fail as the real one does."""

    current: FakeTensorRt

    def __init__(self, version: str) -> None:
        super().__init__("tensorrt")
        self.__spec__ = ModuleSpec("tensorrt", None)
        self.__version__ = version
        self.builds = 0
        self.build_error = self.context_error = self.execute_error = ""
        self.driver = True
        self.refuses_plans = False
        self.unknown_operators: set[str] = set()
        self.during_build: Callable[[Any, int], None] = lambda monitor, step: None
        self.contexts: list[weakref.ref[IExecutionContext]] = []
        self.executed: list[int] = []
        self.timing_caches: list[bytes] = []
        self.capturing: list[Any] | None = None
        for kind in CLASSES:
            setattr(self, kind.__name__, kind)
        FakeTensorRt.current = self

    def demand_driver(self, logger: ILogger) -> None:
        """As the real bindings: a TypeError, and the reason in the log."""
        if not self.driver:
            logger.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")


def members() -> Iterator[tuple[str, str]]:
    """(class, member) of all that the stand-in offers in the real one's name."""
    own = {
        "trt",
        "model",
        "shapes",
        "content",
        "profiles",
        "cache",
        "pools",
        "cleared",
        "logger",
        "session",
        "captured",
    }
    for kind in CLASSES:
        for name in vars(kind):
            if not name.startswith("_") and name not in own:
                yield kind.__name__, name
