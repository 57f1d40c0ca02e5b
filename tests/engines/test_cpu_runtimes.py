"""What the two runtimes on the processor do beyond the contract: precisions that are what they are called, and reasons
not to take one."""

from __future__ import annotations

import pytest

from engines.runtimes import int8, onnxruntime, openvino
from engines.store import default_model

ZEN4 = frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"})
SKYLAKE = frozenset({"avx2", "avx512f"})


def flags_are(monkeypatch: pytest.MonkeyPatch, flags: frozenset[str]) -> None:
    for module in (int8, openvino):
        monkeypatch.setattr(module, "cpu_flags", lambda: flags)


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni", "amx_int8", "asimddp"])
def test_int8_where_bytes_are_multiplied(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags_are(monkeypatch, frozenset({flag}))
    assert openvino.obstacle("int8") is None
    assert onnxruntime.obstacle("int8") is None


@pytest.mark.parametrize(("machine", "words"), [("x86_64", "VNNI"), ("aarch64", "asimddp")])
def test_no_int8_where_it_is_not_faster(machine: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags_are(monkeypatch, SKYLAKE)
    monkeypatch.setattr(int8.platform, "machine", lambda: machine)
    for module in (openvino, onnxruntime):
        reason = module.obstacle("int8")
        assert reason is not None
        assert words in reason
        assert module.obstacle("fp32") is None


def test_where_the_system_does_not_tell_int8_may_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    flags_are(monkeypatch, frozenset())
    assert onnxruntime.obstacle("int8") is None


def test_bf16_needs_its_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino.platform, "machine", lambda: "x86_64")
    flags_are(monkeypatch, ZEN4)
    assert openvino.obstacle("bf16") is None
    flags_are(monkeypatch, SKYLAKE)
    assert "AVX512_BF16" in str(openvino.obstacle("bf16"))


def test_precisions_that_a_runtime_has_not() -> None:
    assert "only" in str(onnxruntime.obstacle("bf16"))
    assert "only" in str(openvino.obstacle("fp16"))


@pytest.mark.parametrize(
    ("precision", "bf16", "expected"),
    [("fp32", True, "float"), ("bf16", True, "bfloat16"), ("int8", True, "bfloat16"), ("int8", False, "float")],
)
def test_openvino_computes_in_what_it_is_told(
    precision: str, bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.quantise import quantised

    form = quantised(default_model())
    assert form is not None
    monkeypatch.setattr(openvino, "_has_bf16", lambda: bf16)
    content = form.content if precision == "int8" else default_model().content
    session = openvino.open_session(content, "test", precision=precision, threads=1)
    compiled = session._request.get_compiled_model()
    if bf16 and openvino.obstacle("bf16") is not None:
        pytest.skip("this processor has no bf16")
    assert expected in str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = {str(node["runtimePrecision"].value) for node in nodes if node["layerType"].value == "Convolution"}
    assert kinds == {{"fp32": "f32", "bf16": "bf16", "int8": "u8"}[precision]}
    assert session.max_batch == 32


def test_nothing_has_to_be_built() -> None:
    for module in (openvino, onnxruntime):
        assert all(module.ready(b"", precision) for precision in module.PRECISIONS)
