"""Real models on real runtimes, held to a reference; outcomes that ``auto`` knows; the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import verdicts
from engines.__main__ import main
from engines.engine import describe_runtimes
from engines.errors import EngineError
from engines.export import ModelFile, check_model, with_manifest
from engines.manifest import Manifest
from engines.quantise import keep
from engines.runtimes import Row, runtime_module
from engines.store import CACHE_VARIABLE
from engines.verification.faces import FaceSet
from engines.verification.pairs import PairList, read_pairs
from engines.verification.report import report
from engines.verification.run import verify, working_rows
from tests.paths import SHARED, needs_shared

S, D = 8, 24
HAS_OPENVINO = any(info.name == "openvino fp32" and info.available for info in describe_runtimes())


def model(*, turned: float = 0.0, name: str = "tiny", precision: str = "fp32", **promises: object) -> ModelFile:
    """A linear network; ``turned`` mixes other weights in."""
    generator = np.random.default_rng(5)
    weights = generator.standard_normal((S * S * 3, D)).astype(np.float32)
    weights += turned * generator.standard_normal(weights.shape).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["faces"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"], axis=1),
        helper.make_node("Sub", ["flat", "middle"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weights"], ["raw"]),
        helper.make_node("LpNormalization", ["raw"], ["embeddings"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ("N", S, S, 3))],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ("N", D))],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(127.5, dtype=np.float32), "middle"),
        ],
    )
    values: dict[str, object] = {
        "name": name,
        "network": "tiny",
        "weights_sha256": "0" * 64,
        "template": "dlib_chip_150",
        "input_size": S,
        "dimensions": D,
        "unit_length": True,
        "mirrored": False,
        "threshold": 0.5,
        "threshold_fmr": None,
        "threshold_source": "a guess",
        "licence": "none",
        "precision": precision,
        **promises,
    }
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return check_model(with_manifest(built, Manifest(**values)), f"{name}.onnx")  # type: ignore[arg-type]


def face_set(people: int = 40, each: int = 4, noise: float = 60, *, labelled: bool = True) -> FaceSet:
    generator = np.random.default_rng(2)
    centres = np.repeat(generator.integers(0, 256, (people, S, S, 3)), each, axis=0)
    noisy = np.clip(centres + noise * generator.standard_normal(centres.shape), 0, 255).astype(np.uint8)
    named = [f"p{k:02d}" for k in range(people) for _ in range(each)]
    return FaceSet(
        faces_NSS3=noisy,
        names=tuple(f"{person}/{person}_{k % each + 1:04d}.png" for k, person in enumerate(named)),
        people=tuple(named) if labelled else ("",) * len(named),
        source="drawn",
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def pairs(tmp_path: Path) -> PairList:
    """Two folds of 20 pairs of each kind, people disjoint."""
    lines = ["2\t20"]
    for fold in (0, 20):
        lines += [f"p{fold + k:02d}\t1\t2" for k in range(20)]
        lines += [f"p{fold + k:02d}\t1\tp{fold + (k + 1) % 20:02d}\t2" for k in range(20)]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(lines))
    return read_pairs(path)


def recorded(of: ModelFile, row: Row) -> verdicts.Verdict | None:
    return verdicts.read(of.sha256, row.runtime, runtime_module(row.runtime).version(), row.precision)


REFERENCE = Row("onnxruntime", "fp32")
OPENVINO = Row("openvino", "fp32")
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="openvino does not work here")


@needs_openvino
def test_another_runtime_passes_and_auto_knows_it() -> None:
    tiny = model()
    found = verify(tiny, [OPENVINO], face_set())
    (outcome,) = found.outcomes
    assert found.passed
    assert outcome.drift is not None
    assert outcome.drift.cosine_worst > 0.99999
    assert outcome.rates is not None
    assert found.rates is not None
    assert outcome.rates.everybody.non_mated == found.rates.everybody.non_mated == 40 * 39 // 2 * 16
    verdict = recorded(tiny, OPENVINO)
    assert verdict is not None
    assert verdict.passed
    assert verdict.figures["cosine_min"] == outcome.drift.cosine_worst


def test_the_reference_itself_is_not_recorded() -> None:
    tiny = model()
    assert verify(tiny, [REFERENCE], face_set()).passed
    assert recorded(tiny, REFERENCE) is None


def test_other_weights_fail_the_gate_and_no_runtime_is_blamed() -> None:
    other = model(turned=0.3, name="other")
    found = verify(other, [REFERENCE], face_set(), reference=model())
    assert not found.passed
    assert "0.9999 needed" in found.outcomes[0].judgement.reason
    assert recorded(other, REFERENCE) is None
    assert "against tiny (tiny.onnx)" in report(found)


def test_a_file_in_mixed_precision_has_the_gate_of_its_own_precision() -> None:
    near = verify(model(turned=0.012, precision="mixed-fp16"), [REFERENCE], face_set(), reference=model())
    assert near.outcomes[0].drift is not None
    assert 0.999 < near.outcomes[0].drift.cosine_worst < 0.9999
    assert near.passed
    assert not verify(model(turned=0.012), [REFERENCE], face_set(), reference=model()).passed


@pytest.mark.parametrize(("turned", "passed"), [(0.02, True), (1.5, False)])
def test_int8_is_judged_by_what_it_costs(turned: float, passed: bool) -> None:
    """A file that says int8; its weights are as far off as is asked for."""
    faces = face_set(60, 4, 35)
    found = verify(model(turned=turned, precision="int8"), [Row("onnxruntime", "int8")], faces, reference=model())
    (outcome,) = found.outcomes
    assert outcome.judgement.labelled
    assert outcome.mixed is not None
    assert outcome.mixed.non_mated == 2 * (60 * 59 // 2 * 16)
    assert found.passed == passed, outcome.judgement.reason
    assert "against the reference's" in outcome.judgement.reason


def test_int8_is_recorded_for_the_form_that_ran() -> None:
    """Other faces would give another form, of which nothing is known."""
    tiny, form, row = model(), model(turned=0.02, precision="int8"), Row("onnxruntime", "int8")
    keep(tiny, form)
    assert row in working_rows(tiny)[0]
    assert verify(tiny, [row], face_set(60, 4, 35)).passed
    verdict = recorded(form, row)
    assert verdict is not None
    assert verdict.labelled
    assert recorded(tiny, row) is None
    keep(tiny, model(turned=0.03, precision="int8"))
    assert recorded(model(turned=0.03, precision="int8"), row) is None


def test_int8_without_labels_cannot_pass() -> None:
    found = verify(model(precision="int8"), [Row("onnxruntime", "int8")], face_set(labelled=False), reference=model())
    assert not found.passed
    assert "there is none" in found.outcomes[0].judgement.reason
    assert "no labels" in report(found)


def test_a_list_gives_folds_and_labels(pairs: PairList) -> None:
    """Crops in one folder: who they are of stands in the list."""
    found = verify(model(), [REFERENCE], face_set(40, 2, 40, labelled=False), pairs=pairs)
    assert found.rates is not None
    assert found.rates.listed is not None
    assert len(found.rates.listed.distances_T) == 80
    assert found.rates.accuracy is not None
    assert found.rates.accuracy.mean > 0.9
    assert found.rates.listed_points[0].allowed == 0
    text = report(found)
    assert "allows 0 false matches" in text
    assert "80 listed pairs, 0 with a photo that gave no crop" in text


def test_photos_that_failed_are_counted_and_the_alternative_is_said(pairs: PairList) -> None:
    faces = face_set(40, 2, 30)
    kept = [k for k, name in enumerate(faces.names) if "p03_0002" not in name]
    less = FaceSet(
        faces_NSS3=faces.faces_NSS3[kept],
        names=tuple(faces.names[k] for k in kept),
        people=tuple(faces.people[k] for k in kept),
        source="drawn",
        failures={"p03/p03_0002.png": "no face found"},
    )
    found = verify(model(), [REFERENCE], less, pairs=pairs)
    assert found.rates is not None
    assert found.rates.accuracy is not None
    assert found.rates.accuracy_without_failed is not None
    assert found.rates.accuracy.mean == pytest.approx(found.rates.accuracy_without_failed.mean - 2 / 80, abs=2e-3)
    text = report(found)
    assert "80 listed pairs, 2 with a photo that gave no crop" in text
    assert "without them" in text
    assert "p03/p03_0002.png: no face found" in text


@pytest.mark.parametrize("promise", [{"template": "arcface_112"}, {"unit_length": False}])
def test_a_reference_of_another_kind_is_refused(promise: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="cannot be compared"):
        verify(model(), [REFERENCE], face_set(), reference=model(**promise))


def test_a_reference_that_gives_no_numbers_is_refused() -> None:
    broken = model()
    graph = onnx.ModelProto.FromString(broken.content)
    weights = numpy_helper.to_array(graph.graph.initializer[0]).copy()
    weights[0, 0] = np.nan
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    content = check_model(with_manifest(graph, broken.manifest), "broken.onnx")
    with pytest.raises(EngineError, match="no numbers"):
        verify(model(), [REFERENCE], face_set(), reference=content)
    found = verify(content, [REFERENCE], face_set(), reference=model())
    assert not found.passed
    assert found.outcomes[0].rates is None
    assert json.dumps(found.to_json(), allow_nan=False)


def test_a_runtime_that_cannot_run_is_a_line_not_the_end() -> None:
    found = verify(model(), [Row("onnxruntime", "int8"), REFERENCE], face_set())
    assert not found.passed
    assert "cannot run" in found.outcomes[0].judgement.reason
    assert found.outcomes[1].judgement.passed
    assert "FAILED" in report(found)


def test_progress_is_told_for_the_reference_and_each_runtime() -> None:
    told: list[tuple[str, int, int]] = []
    reference = model(name="reference")
    verify(model(), [REFERENCE], face_set(10, 4), reference=reference, progress=lambda *what: told.append(what))
    assert told == [("onnxruntime fp32", 32, 40), ("onnxruntime fp32", 40, 40)] * 2
    told.clear()
    verify(model(), [REFERENCE], face_set(10, 4), progress=lambda *what: told.append(what))
    assert len(told) == 2  # the reference itself does not run twice


def test_rows_that_do_not_work_here_have_a_reason() -> None:
    working, passed_over = working_rows(model())
    assert REFERENCE in working
    assert Row("onnxruntime", "int8") not in working  # no int8 form, and nothing is calibrated on what is measured
    assert all(reason for _, reason in passed_over)
    int8_only, _ = working_rows(model(precision="int8"))
    assert all(row.precision == "int8" for row in int8_only)


class TestCommand:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "tiny.onnx"
        path.write_bytes(model().content)
        return path

    @pytest.fixture
    def crops(self, tmp_path: Path) -> Path:
        path = tmp_path / "crops.npy"
        np.save(path, face_set(5, 2).faces_NSS3)
        return path

    @staticmethod
    def call(monkeypatch: pytest.MonkeyPatch, words: Sequence[object]) -> int:
        monkeypatch.setattr(sys, "argv", ["engines", "verify", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code if isinstance(stop.value.code, int) else 0

    def test_everything_that_works_here(
        self, file: Path, crops: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.call(monkeypatch, [file, "--faces", crops, "--all"]) == 0
        out = capsys.readouterr().out
        assert "onnxruntime fp32" in out
        assert "crops.npy: 10 crops" in out
        assert "no int8 form yet" in out

    def test_json(
        self, file: Path, crops: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = [file, "--faces", crops, "--runtime", "onnxruntime", "--precision", "fp32", "--json"]
        assert self.call(monkeypatch, words) == 0
        values = json.loads(capsys.readouterr().out)
        assert values["passed"]
        assert values["outcomes"][0]["cosine_worst"] > 0.9999
        assert values["reference_rates"] is None

    def test_a_gate_that_fails_is_exit_code_1(
        self,
        tmp_path: Path,
        file: Path,
        crops: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        other = tmp_path / "other.onnx"
        other.write_bytes(model(turned=1, name="other").content)
        assert self.call(monkeypatch, [other, "--against", file, "--faces", crops, "--precision", "fp32"]) == 1
        assert "FAILED" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["--faces", "none"], 1),
            (["--all", "--runtime", "openvino"], 2),
            (["--align", "detect"], 2),
            (["--form", "paintings"], 2),
            (["--runtime", "abacus"], 2),
            (["--pairs", "none.txt"], 1),
            (["--limit", "0"], 2),
        ],
    )
    def test_wrong_words(
        self,
        file: Path,
        crops: Path,
        words: list[str],
        code: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        faces = [] if "--faces" in words else ["--faces", crops]
        assert self.call(monkeypatch, [file, *faces, *words]) == code
        assert "Traceback" not in capsys.readouterr().err


class TestRealFaces:
    pytestmark = needs_shared

    def test_the_embedded_model_in_bf16_on_photos(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        words = ["--faces", SHARED / "johns", "--form", "photos", "--limit", 12, "--precision", "fp32"]
        assert TestCommand.call(monkeypatch, words) == 0
