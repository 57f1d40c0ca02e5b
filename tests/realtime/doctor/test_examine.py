"""The whole examination with the real model, detector, gallery and display driver."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import typer
from typer.testing import CliRunner

from engines import plans, runtimes, store
from engines.engine import open_engine
from engines.export import with_manifest
from engines.manifest import Manifest
from engines.runtimes import RuntimeInfo
from engines.store import CACHE_VARIABLE
from realtime.app.doctor import register
from realtime.doctor import examine as whole
from realtime.doctor import machine, people, recognition, screen
from realtime.doctor.report import Finding
from realtime.people.gallery import Gallery
from realtime.settings import Settings, ShowSettings, load_settings
from tests.engines import fake_runtime


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    engine = open_engine()
    engine.close()
    return engine.manifest


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_the_runtime_that_is_used_is_one_of_those_that_work(manifest: Manifest) -> None:
    works = {finding.name for finding in recognition.runtimes() if "works here" in finding.value}
    findings, found = recognition.embedding(Settings())
    assert found == manifest
    assert any(by_name(findings)["used"].value.startswith(name) for name in works)
    assert "ms a face" in by_name(findings)["speed"].value


def test_the_threshold_is_shown_with_its_error_rate(manifest: Manifest) -> None:
    text = by_name(recognition.embedding(Settings())[0])["threshold"].value
    assert f"{manifest.threshold:g}" in text
    assert f"{manifest.threshold_fmr:g}" in text


def test_a_reason_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "has_nvidia_gpu", lambda: False)
    found = by_name(list(recognition.runtimes()))
    gpu = found["GPU runtimes"]
    assert gpu.value == "not used: no NVIDIA GPU here (tensorrt, torch-cuda, onnxruntime-cuda, torch2trt)"
    assert gpu.state == "ok"
    assert not [finding for finding in found.values() if finding is not gpu and "GPU" in finding.value]


def test_a_reason_of_rows_on_and_off_the_gpu_names_the_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [RuntimeInfo(f"{name} bf16", False, "", "torch is missing") for name in ("torch-cuda", "torch")]
    monkeypatch.setattr(recognition, "describe_runtimes", lambda: missing)
    (finding,) = recognition.runtimes()
    assert (finding.name, finding.value) == ("torch-cuda, torch", "not used: torch is missing")


def test_engine_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert recognition.engine_files().value == "none are built"
    plans.write("tensorrt", ("a",), bytes(3_000_000))
    assert recognition.engine_files().value.startswith("1 file, 3 MB, in ")
    plans.write("torch", ("a",), bytes(1_000_000))
    assert recognition.engine_files().value.startswith(f"2 files, 4 MB, in {tmp_path}")


def test_models_that_are_here_and_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.DATA_VARIABLE, str(tmp_path))
    store.keep_model("mine/first", b"model")
    here, others = recognition.models()
    assert here.value == "here: dlib-resnet-v1, mine/first"
    assert "insightface/buffalo_l" in others.value
    assert "dlib-resnet-v1" not in others.value


def test_an_engine_that_is_still_to_be_built_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(runtimes, "has_nvidia_gpu", lambda: True)
    monkeypatch.setitem(runtimes.MODULES, "torch-cuda", "tests.engines.fake_runtime")
    monkeypatch.setattr(fake_runtime.Script, "is_ready", False)
    rows = tuple(row for row in runtimes.ROWS if row.runtime in ("torch-cuda", "onnxruntime"))
    monkeypatch.setattr(runtimes, "ROWS", rows)
    found = by_name(recognition.embedding(Settings())[0])
    assert (found["better"].value, found["better"].state) == ("torch-cuda fp16, not built yet", "note")
    assert found["used"].value.startswith("onnxruntime ")


def test_a_model_for_faces_that_are_aligned_otherwise_is_a_problem(tmp_path: Path, manifest: Manifest) -> None:
    model = onnx.load_from_string(store.default_model().content)
    (tmp_path / "m.onnx").write_bytes(with_manifest(model, replace(manifest, template="vgg_160")))
    (finding,), found = recognition.embedding(load_settings(None, [f"embed.model={tmp_path / 'm.onnx'}"]))
    assert found is None
    assert "'vgg_160'" in finding.advice


def test_a_model_without_a_measured_threshold_is_noted(manifest: Manifest) -> None:
    (_, finding) = recognition._promises(replace(manifest, threshold_fmr=None))
    assert finding.state == "note"
    assert "calibrate" in finding.advice


def test_a_model_that_is_none_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    settings = load_settings(None, [f"embed.model={tmp_path / 'text.onnx'}"])
    findings, found = recognition.embedding(settings)
    assert found is None
    assert [finding.state for finding in findings] == ["problem"]
    assert "text.onnx" in findings[0].advice


@pytest.mark.parametrize("override", ["detect.kind=hog", "detect.kind=cnn"])
def test_a_detector_is_opened_and_timed(override: str) -> None:
    (finding,) = recognition.detector(load_settings(None, [override, "detect.min_face_px=200"]))
    assert finding.state == "ok"
    assert "faces from 200 pixels" in finding.value


def test_a_detector_without_its_file_is_a_problem() -> None:
    (finding,) = recognition.detector(load_settings(None, ["detect.kind=yunet"]))
    assert finding.state == "problem"
    assert "detect.model" in finding.advice


def test_68_points_are_noted_for_their_licence() -> None:
    (finding,) = recognition.landmarks(load_settings(None, ["align.landmarks=68"]))
    assert "non-commercial" in finding.advice
    assert next(recognition.landmarks(Settings())).state == "ok"


def test_no_display_is_a_note_with_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "SDL_VIDEO_DRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    (finding,) = screen.display()
    assert finding.state == "note"
    assert "--output" in finding.advice


@pytest.mark.parametrize(("driver", "word"), [("dummy", "shows nothing"), ("no_such_driver", "no_such_driver")])
def test_a_driver_that_shows_nothing_is_said(monkeypatch: pytest.MonkeyPatch, driver: str, word: str) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    (finding,) = screen.display()
    assert finding.state == "note"
    assert word in finding.value


def test_fonts_cover_the_scripts_of_names() -> None:
    (finding,) = screen.fonts(ShowSettings())
    assert "Korean" in finding.value
    assert "Cyrillic" in finding.value


def test_a_font_that_is_none_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "font.ttf").write_text("no font")
    (finding,) = screen.fonts(ShowSettings(font=str(tmp_path / "font.ttf")))
    assert finding.state == "problem"


def test_a_gallery_that_is_not_made_is_left_unmade(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "gallery.sqlite"
    findings = list(people.examine_gallery(path, manifest))
    assert people.is_empty(findings)
    assert not path.exists()


def test_an_empty_gallery_is_noted(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "gallery.sqlite"
    Gallery.open(path, manifest).close()
    findings = list(people.examine_gallery(path, manifest))
    assert people.is_empty(findings)
    assert "empty" in findings[0].value


def test_a_file_that_is_no_gallery_is_a_problem(tmp_path: Path, manifest: Manifest) -> None:
    path = tmp_path / "gallery.sqlite"
    path.write_text("a diary" * 1000)
    (finding,) = people.examine_gallery(path, manifest)
    assert finding.state == "problem"
    assert not people.is_empty([finding])


def test_a_gallery_is_named_in_commands_only_where_it_is_not_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALTIME_DATA", str(tmp_path))
    assert people.flag(tmp_path / "gallery.sqlite") == ""
    assert people.flag(tmp_path / "my people.sqlite") == f" --gallery '{tmp_path}/my people.sqlite'"


def test_a_broken_library_ends_the_examination_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", {"no-such-distribution": None})
    report = whole.examine(Settings(), gallery=tmp_path / "gallery.sqlite")
    assert [problem.name for problem in report.problems] == ["no-such-distribution"]
    assert "recognition" not in report.topics
    assert report.next_steps == ("pip install --force-reinstall realtime-arcface",)


def test_without_the_demos_portrait_a_clip_is_what_to_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert whole._without_camera() == "CLIP.mp4"


# the command


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_the_command_prints_everything_and_what_to_type_next(app: typer.Typer, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery.sqlite"
    done = CliRunner().invoke(app, ["doctor", "--source", "demo", "--gallery", str(gallery)])
    assert done.exit_code == 0, done.output
    for part in ("versions", "openvino", "window", "demo, 1280x720", "Everything that is needed works"):
        assert part in done.output
    assert f"realtime --source demo --gallery {gallery}" in done.output


def test_the_command_exits_with_1_and_a_sentence_where_something_is_broken(app: typer.Typer, tmp_path: Path) -> None:
    arguments = ["doctor", "--source", "nowhere.mp4", "--gallery", str(tmp_path / "gallery.sqlite")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "\nx nowhere.mp4: no such file" in done.output
    assert "realtime --source demo" in done.output


def test_the_command_as_json(app: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--json", "--gallery", str(tmp_path / "gallery.sqlite")])
    report = json.loads(done.output)
    assert report["healthy"] is True
    assert {"topic", "name", "value", "state", "advice"} == set(report["findings"][0])
    assert report["next"][0].startswith("realtime enroll")
