"""Every name, method and signature of TensorRT that engines/ uses, looked up in its real bindings, old and new.

What is used is collected twice: from the source, and from the stand-in of the flow tests, which has no member that the
source does not call. Then our own code runs on the real bindings as far as it goes without a GPU.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import EnumMeta
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from tests.engines import fake_tensorrt
from tests.tensorrt_bindings import PACKAGES, Unavailable, run_with

ROOT: Final = Path(__file__).resolve().parents[2]

SOURCES: Final = [
    *(ROOT / "engines" / "gpu" / name for name in ("trt_build.py", "trt_session.py", "torch2trt_session.py")),
    *(ROOT / "engines" / "runtimes" / name for name in ("tensorrt.py", "torch2trt.py")),
]

OBJECTS: Final = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "faces": "ITensor",
    "config": "IBuilderConfig",
    "_config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "parser": "OnnxParser",
    "err": "ParserError",
    "severity": "ILogger.Severity",
    "_runtime": "Runtime",
    "engine": "ICudaEngine",
    "_context": "IExecutionContext",
}
"""What the variables of those sources hold."""

GONE: Final = (
    ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
    *(("BuilderFlag", name) for name in ("FP16", "BF16", "INT8", "FP8", "INT4", "FP4", "OBEY_PRECISION_CONSTRAINTS")),
    *(("IBuilderConfig", name) for name in ("int8_calibrator", "set_calibration_profile", "algorithm_selector")),
    *(("Builder", name) for name in ("platform_has_fast_fp16", "platform_has_fast_int8", "platform_has_tf32")),
    *(("ICudaEngine", name) for name in ("device_memory_size", "get_device_memory_size_for_profile")),
    *(("", name) for name in ("IInt8Calibrator", "IInt8EntropyCalibrator2", "CalibrationAlgoType")),
    *(("OnnxParser", "supports_model"), ("IExecutionContext", "all_shape_inputs_specified")),
)
"""In 10.16, not in 11: (class, member)."""

DUMP = """
import json, tensorrt as trt
def members(kind):
    return {name: (getattr(kind, name).__doc__ or "") if callable(getattr(kind, name)) else None for name in dir(kind)}
kinds = {name: value for name, value in vars(trt).items() if isinstance(value, type)}
kinds["ILogger.Severity"] = trt.ILogger.Severity
print(json.dumps({"version": trt.__version__, "kinds": {name: members(kind) for name, kind in kinds.items()}}))
"""

AS_FAR_AS_IT_GOES = """
import logging, tensorrt as trt
from engines.errors import DeviceLost
from engines.runtimes import tensorrt as runtime
from engines.gpu.trt_build import LoadedPlan, _make_monitor, build_plan, make_log
logging.disable(logging.CRITICAL)
log = make_log(trt)
for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
    log.log(getattr(trt.ILogger.Severity, name), name)
assert log.last == "ERROR", log.last
monitor = _make_monitor(trt)
monitor.phase_start("all", None, 3)
assert monitor.step_complete("all", 0) is True
monitor.phase_finish("all")
assert runtime.obstacle("fp16") is None, runtime.obstacle("fp16")
for attempt in (lambda: build_plan(trt, b"", "a.onnx", ("sm_90", "x")), lambda: LoadedPlan(trt).load(b"")):
    try:
        attempt()
    except DeviceLost as err:
        assert "nullptr" in str(err) and "\\n" not in str(err), err
    else:
        raise AssertionError("a builder without a driver")
print("went", trt.__version__)
"""

pytestmark = pytest.mark.tensorrt_bindings


@dataclass(frozen=True)
class Use:
    """One place where the source names something of TensorRT's."""

    where: str
    kind: str
    member: str
    arguments: int | None
    """Positional ones of a call; None where it is not called."""
    keywords: tuple[str, ...]


@cache
def dumped(version: str) -> dict[str, dict[str, str | None]]:
    """Members by class, with their docstrings where they can be called."""
    try:
        done = run_with(version, "-c", DUMP)
    except Unavailable as err:
        pytest.skip(str(err))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"] == version
    kinds: dict[str, dict[str, str | None]] = found["kinds"]
    return kinds


def uses() -> Iterator[Use]:
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (found := _named(node)) is not None:
                call = calls.get(id(node))
                stars = call is not None and any(isinstance(each, ast.Starred) for each in call.args)
                count = None if call is None or stars else len(call.args)
                keywords = tuple(each.arg for each in call.keywords if each.arg) if call else ()
                yield Use(f"{path.name}:{node.lineno}", *found, count, keywords)


def _named(node: ast.Attribute) -> tuple[str, str] | None:
    """(class, member) of ``trt.A``, ``trt.A.B`` (class ``""`` for the module itself), ``config.member``."""
    chain = ast.unparse(node).split(".")
    if "trt" in chain[:-1]:
        inside = chain[chain.index("trt") + 1 :]
        return ("", inside[0]) if len(inside) == 1 else (".".join(inside[:-1]), inside[-1])
    kind = OBJECTS.get(chain[-2]) if len(chain) > 1 else None
    return None if kind is None else (kind, chain[-1])


def checked() -> list[Use]:
    """Without Python's own exceptions, which are called ``err`` as well, and plain variables of ours."""
    return [use for use in uses() if not (use.kind == "" and use.member == "__version__")]


def signatures(doc: str) -> list[tuple[int, int, list[str]]]:
    """(least, most, names) of positional arguments by overload, self apart, as pybind11 writes them."""
    found = []
    for text in re.findall(r"^(?:\d+\. )?\w+\((self: .*)\) -> ", doc, re.MULTILINE):
        depth, parts = 0, [""]
        for sign in text:
            depth += (sign in "[(<") - (sign in "])>")
            if sign == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += sign
        own = [part.strip() for part in parts[1:]]
        found.append((sum("=" not in part for part in own), len(own), [part.split(":")[0] for part in own]))
    return found


@pytest.mark.parametrize("version", PACKAGES)
def test_every_name_and_signature_in_the_source(version: str) -> None:
    kinds = dumped(version)
    found = checked()
    assert len(found) > 45
    wrong = [f"{use.where}: {use.kind}.{use.member}" for use in found if not _exists(kinds, use)]
    assert wrong == []
    for use in found:
        kind, member = (use.member, "__init__") if use.kind == "" else (use.kind, use.member)
        doc = kinds.get(kind, {}).get(member)
        if use.arguments is None or not doc or not (overloads := signatures(doc)):
            continue
        count = use.arguments + len(use.keywords) - (use.member == "__init__")  # there self is written
        assert any(least <= count <= most and set(use.keywords) <= set(names) for least, most, names in overloads), (
            f"{use.where}: {use.kind}.{use.member} takes {overloads}"
        )


def _exists(kinds: dict[str, dict[str, str | None]], use: Use) -> bool:
    return use.member in kinds if use.kind == "" else use.member in kinds.get(use.kind, {})


def test_every_kind_of_object_is_met_in_the_source() -> None:
    """A variable that is renamed would be looked up no more."""
    met = {use.kind for use in checked()}
    assert set(OBJECTS.values()) <= met
    assert {"NetworkDefinitionCreationFlag", "MemoryPoolType", "BuilderFlag", "TensorIOMode"} <= met


def test_the_source_uses_all_that_the_stand_in_has() -> None:
    """So that what is checked of the stand-in is checked of the source."""
    named = {(use.kind, use.member) for use in checked()} | {("", "")}
    called_by_tensorrt = {("IProgressMonitor", name) for name in ("phase_start", "phase_finish", "step_complete")}
    answers = {("ILogger", "log"), ("TensorIOMode", "OUTPUT")}
    assert set(fake_tensorrt.members()) - named - called_by_tensorrt - answers == set()


@pytest.mark.parametrize("version", PACKAGES)
def test_the_stand_in_has_nothing_that_the_real_one_has_not(version: str) -> None:
    kinds = dumped(version)
    for kind, member in fake_tensorrt.members():
        assert member in kinds[kind], f"{kind}.{member}"
        own: Any = getattr(getattr(fake_tensorrt, kind), member)
        overloads = signatures(kinds[kind][member] or "")
        if inspect.isfunction(own) and overloads:
            names = list(inspect.signature(own).parameters)[1:]
            assert any(names == theirs[: len(names)] and len(names) >= least for least, _, theirs in overloads), (
                f"{kind}.{member}{names} is {overloads}"
            )
    for kind in ("ILogger.Severity", *(kind.__name__ for kind in fake_tensorrt.CLASSES if isinstance(kind, EnumMeta))):
        assert kind in kinds


@pytest.mark.parametrize("version", PACKAGES)
def test_our_code_on_the_real_bindings(version: str) -> None:
    """Its logger and monitor are theirs, and a builder that gets no driver is one sentence."""
    try:
        done = run_with(version, "-c", AS_FAR_AS_IT_GOES)
    except Unavailable as err:
        pytest.skip(str(err))
    assert done.stdout == f"went {version}\n", done.stderr


def test_what_is_gone_in_11_is_not_used() -> None:
    before, after = dumped("10.16.1.11"), dumped("11.4.0.106")
    for kind, member in GONE:
        where = before if kind == "" else before[kind]
        assert member in where, f"{kind}.{member}"
        assert member not in (after if kind == "" else after[kind]), f"{kind}.{member}"
    assert {(use.kind, use.member) for use in checked()} & set(GONE) == set()
    named = {
        node.attr
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert named & {member for _, member in GONE} == set()
