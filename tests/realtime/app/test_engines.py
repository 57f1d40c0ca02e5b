"""The ``embed`` section, from the command line to the words on the screen and the names in the output."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import runtimes
from engines.export import with_manifest
from engines.manifest import Manifest
from engines.quantise import MIN_FACES
from engines.store import CACHE_VARIABLE
from realtime.faces.analysis import FaceAnalyser
from realtime.people.gallery import Gallery
from realtime.people.reference import Reference
from realtime.people.reference_crop import ReferenceCrop
from tests.engines.fake_runtime import Script
from tests.realtime.app.commands import Ran, Realtime, eventually, start, whole_lines
from tests.realtime.people.helpers import astronaut as astronaut_photo
from tests.realtime.pictures import astronaut_at


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Script]]:
    """A machine whose torch-cuda works, as far as this process can tell; it has verdicts and plans of its own."""
    before = {name: value for name, value in vars(Script).items() if not name.startswith("_")}
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(runtimes, "has_nvidia_gpu", lambda: True)
    monkeypatch.setitem(runtimes.MODULES, "torch-cuda", "tests.engines.fake_runtime")
    monkeypatch.setattr(
        runtimes,
        "ROWS",
        tuple(row for row in runtimes.ROWS if row.runtime == "torch-cuda" or row.runtime not in runtimes.GPU),
    )
    yield Script
    for name, value in before.items():
        setattr(Script, name, value)


def faces(ran: Ran) -> list[list[tuple[Any, ...]]]:
    """Name, state and track of every face of every frame."""
    return [[(face["name"], face["state"], face["track"]) for face in line["faces"]] for line in ran.lines]


def test_the_first_line_says_what_was_chosen_and_why(realtime: Realtime, film: Path, people: Path) -> None:
    ran = realtime("--source", film, "--gallery", people, "--output", "-", "--set", "embed.runtime=onnxruntime")
    assert ran.err.startswith("dlib-resnet-v1 on onnxruntime ")
    ran = realtime("--source", film, "--gallery", people, "--output", "-")
    (line,) = [line for line in ran.err.splitlines() if line.startswith("dlib-resnet-v1 on ")]
    assert line.count("no NVIDIA GPU here") <= 1


def test_a_gpu_that_is_asked_for_and_not_there_is_one_sentence(
    realtime: Realtime, film: Path, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "has_nvidia_gpu", lambda: False)
    ran = realtime("--source", film, "--gallery", people, "--set", "embed.require_gpu=true", "--no-window")
    assert ran.code == 1
    assert "no GPU runtime works here (not tensorrt, torch-cuda, onnxruntime-cuda: no NVIDIA GPU here)" in ran.sentence
    assert "embed.require_gpu=false" in ran.sentence


def test_a_model_that_is_neither_a_file_nor_known(realtime: Realtime, film: Path, people: Path) -> None:
    ran = realtime("--source", film, "--gallery", people, "--set", "embed.model=insightface/bufalo_l", "--no-window")
    assert ran.code == 1
    assert "insightface/bufalo_l" in ran.sentence


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for ArcFace's crops: 16 x 16 mean colours, twelve mixtures of them, less their mean, at length 1."""
    random = np.random.default_rng(0)
    weights = {
        "scale": np.float32([1 / 255]),
        "pool": np.tile(np.eye(3, dtype=np.float32)[..., None, None] / 49, (1, 1, 7, 7)),
        "mixture": random.normal(0, 0.5, (12, 3, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["faces"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "pool"], ["pooled"], strides=[7, 7]),
        helper.make_node("Conv", ["pooled", "mixture"], ["mixed"]),
        helper.make_node("Flatten", ["mixed"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[1]),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("LpNormalization", ["centred"], ["embeddings"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "mean colours",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 112, 112, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", 16 * 16 * 12])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    manifest = Manifest(
        name="mean-colours",
        network="test",
        weights_sha256="cd" * 32,
        template="arcface_112",
        input_size=112,
        dimensions=16 * 16 * 12,
        unit_length=True,
        mirrored=False,
        threshold=0.3,
        threshold_fmr=None,
        threshold_source="test",
        licence="MIT",
    )
    path = tmp_path_factory.mktemp("model") / "mean-colours.onnx"
    path.write_bytes(with_manifest(model, manifest))
    return path


def test_a_gallery_moves_to_a_model_with_another_template_by_the_command_that_is_named(
    realtime: Realtime, film: Path, tmp_path: Path, other_model: Path
) -> None:
    gallery, photo = tmp_path / "people.sqlite", astronaut_photo()
    assert realtime("enroll", photo, "--name", "Eileen", "--gallery", gallery).code == 0
    with_other = ("--gallery", gallery, "--set", f"embed.model={other_model}")
    watch = ("--source", film, "--output", "-", "--no-window")
    refused = realtime(*watch, *with_other)
    assert refused.code == 1
    assert "realtime gallery reembed" in refused.sentence
    moved = realtime("gallery", "reembed", *with_other)
    assert (moved.code, moved.out) == (0, f"{gallery}: 1 photo embedded with mean-colours\n")
    ran = realtime(*watch, *with_other)
    assert ran.code == 0
    assert ran.err.startswith("mean-colours on ")
    assert {name for frame in faces(ran) for name, _, _ in frame} == {"Eileen"}
    back = realtime(*watch, "--gallery", gallery)
    assert "realtime gallery reembed" in back.sentence


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, photo_analyser: FaceAnalyser) -> Path:
    """A gallery that knows Eileen by 36 photos."""
    view = photo_analyser.views(astronaut_at((300, 180), 0.9))[0]
    embedding_D = photo_analyser.embed([view.crop_SS3])[0]
    path = tmp_path_factory.mktemp("gallery") / "many.sqlite"
    references = []
    for number in range(36):
        picture = np.clip(astronaut_at((300 + number, 180), 0.9).astype(int) + 2 * number - 36, 0, 255)
        crop = ReferenceCrop.of(
            picture.astype(np.uint8), view.points_P2 + np.array([number, 0]), photo_analyser.manifest.template
        )
        references.append(
            Reference(
                embedding_D=embedding_D, photo_sha256=f"{number:064d}", source=f"{number}.jpg", quality=0.9, crop=crop
            )
        )
    with Gallery.open(path, photo_analyser.manifest) as gallery:
        gallery.add("Eileen", references)
    return path


class TestInt8:
    """Calibrated on those who are enrolled."""

    @pytest.fixture
    def arguments(
        self,
        realtime: Realtime,
        film: Path,
        many: Path,
        tmp_path: Path,
        other_model: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> tuple[Any, ...]:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
        gallery = shutil.copy(many, tmp_path / "many.sqlite")
        with_other = ("--gallery", gallery, "--set", f"embed.model={other_model}")
        assert realtime("gallery", "reembed", *with_other).code == 0
        return ("--source", film, "--output", "-", "--no-window", *with_other)

    def test_a_film_waits_for_it_once(self, realtime: Realtime, arguments: tuple[Any, ...]) -> None:
        fp32 = realtime(*arguments, "--set", "embed.precision=fp32")
        first = realtime(*arguments, "--set", "embed.precision=int8")
        assert first.code == 0
        assert "int8, 1 thread is being built first" in first.err
        assert "now on " in first.err
        second = realtime(*arguments, "--set", "embed.precision=int8")
        assert " int8, 1 thread" in second.err.splitlines()[0]
        assert "is being built" not in second.err
        assert [{**line, "latency_ms": 0} for line in first.lines] == [
            {**line, "latency_ms": 0} for line in second.lines
        ]
        assert faces(first) == faces(fp32)
        assert {name for frame in faces(first) for name, _, _ in frame} == {"Eileen"}

    def test_with_too_few_it_says_what_to_do_and_goes_on(
        self, realtime: Realtime, arguments: tuple[Any, ...], tmp_path: Path
    ) -> None:
        with Gallery.open(tmp_path / "many.sqlite") as gallery:
            gallery.query("DELETE FROM refs WHERE id > 3")
        ran = realtime(*arguments, "--set", "embed.precision=int8")
        assert ran.code == 0
        (line,) = [line for line in ran.err.splitlines() if "is not taken" in line]
        assert f"int8 is calibrated on {MIN_FACES} faces or more, and the gallery holds 3; enrol more people" in line
        assert {name for frame in faces(ran) for name, _, _ in frame} == {"Eileen"}

    def test_a_command_about_one_photo_takes_what_is_ready(
        self, realtime: Realtime, arguments: tuple[Any, ...]
    ) -> None:
        """Who enrols the first person has no faces to calibrate on yet."""
        ran = realtime("identify", astronaut_photo(), *arguments[5:], "--set", "embed.precision=int8")
        assert ran.code == 0
        assert "Eileen" in ran.out


class TestGpuLost:
    def test_the_run_goes_on_without_it_and_names_the_same(
        self, realtime: Realtime, film: Path, people: Path, gpu: type[Script]
    ) -> None:
        gpu.lost_after = 2  # the look at drawn faces, and one batch of the film
        ran = realtime("--source", film, "--gallery", people, "--output", "-", "--no-window")
        assert ran.code == 0
        assert "dlib-resnet-v1 on torch-cuda fp16; " in ran.err
        (line,) = [line for line in ran.err.splitlines() if "fallen off the bus" in line]
        assert line.startswith("realtime: fake GPU: has fallen off the bus; going on with openvino ")
        gpu.lost_after = None
        whole = realtime("--source", film, "--gallery", people, "--output", "-", "--no-window")
        assert "fallen off" not in whole.err
        assert faces(ran) == faces(whole)
        assert {name for frame in faces(ran) for name, _, _ in frame} == {"Eileen"}

    @pytest.mark.parametrize("override", ["embed.on_gpu_loss=stop", "embed.require_gpu=true"])
    def test_the_run_stops_where_that_is_asked_for(
        self, realtime: Realtime, film: Path, people: Path, gpu: type[Script], override: str
    ) -> None:
        gpu.lost_after = 2
        ran = realtime("--source", film, "--gallery", people, "--output", "-", "--no-window", "--set", override)
        assert ran.code == 1
        assert ran.sentence == "fake GPU: has fallen off the bus"

    def test_faces_that_do_not_fit_are_embedded_in_smaller_batches(
        self, realtime: Realtime, film: Path, people: Path, gpu: type[Script]
    ) -> None:
        gpu.fits = 1
        ran = realtime("--source", film, "--gallery", people, "--output", "-", "--no-window")
        assert ran.code == 0
        assert {name for frame in faces(ran) for name, _, _ in frame} == {"Eileen"}


class TestBuiltFirst:
    """A film waits for an engine that has to be built, and gives the same when it is there."""

    def test_a_film_gives_the_same_before_and_after(
        self, realtime: Realtime, film: Path, people: Path, gpu: type[Script]
    ) -> None:
        gpu.is_ready = False
        first = realtime("--source", film, "--gallery", people, "--output", "-", "--no-window")
        assert first.code == 0
        said = [line for line in first.err.splitlines() if "torch-cuda" in line]
        assert "not torch-cuda: not built yet" in said[0]
        assert said[1].startswith("torch-cuda fp16 is being built first")
        assert said[2] == "now on torch-cuda fp16"
        gpu.is_ready = True
        second = realtime("--source", film, "--gallery", people, "--output", "-", "--no-window")
        assert "is being built" not in second.err
        assert [{**line, "latency_ms": 0} for line in first.lines] == [
            {**line, "latency_ms": 0} for line in second.lines
        ]

    def test_a_build_that_fails_is_a_warning(
        self, realtime: Realtime, film: Path, people: Path, gpu: type[Script]
    ) -> None:
        gpu.is_ready = False
        gpu.refuses = "fake GPU: the disk is full; free some space"
        ran = realtime("--source", film, "--gallery", people, "--output", "-", "--no-window")
        assert ran.code == 0
        (line,) = [line for line in ran.err.splitlines() if "is not taken" in line]
        assert "the disk is full" in line
        assert {name for frame in faces(ran) for name, _, _ in frame} == {"Eileen"}


GPU_TO_BUILD_FOR = """
from engines import runtimes
from engines.parity import drawn_faces
from engines.runtimes import onnxruntime
from tests.engines import fake_runtime

fake_runtime.Script.is_ready = False
runtimes.has_nvidia_gpu = lambda: True
runtimes.MODULES["torch-cuda"] = "tests.engines.fake_runtime"
runtimes.ROWS = tuple(row for row in runtimes.ROWS if row.runtime in ("torch-cuda", "onnxruntime"))
from realtime.app import main
"""

ENDLESS_BUILD = """
def build(model, where, **_):
    while True:  # native code that gives back the GIL and takes it again, as a compiler's does
        onnxruntime.open_session(model, where, precision="fp32", threads=1).run(drawn_faces(150))

fake_runtime.open_session = build
main()
"""

AS_CAMERA = ("--set", "capture.as_live=true", "--set", "capture.loop=true", "--no-window")
"""A file as a camera that never ends."""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
class TestBuiltBeside:
    """A camera is shown at once; the better engine comes when it can, and may never come."""

    def test_a_camera_changes_over(self, film: Path, people: Path, tmp_path: Path) -> None:
        lines = tmp_path / "named.jsonl"
        arguments = ("--source", film, "--gallery", people, "--output", lines, *AS_CAMERA)
        often = ("--set", "identity.verify_every_s=0.1")
        with start(tmp_path, *arguments, *often, python=f"{GPU_TO_BUILD_FOR}\nmain()") as running:
            eventually(lambda: "now on" in running.err.read_text())
            shown = len(lines.read_text().splitlines())
            eventually(lambda: len(lines.read_text().splitlines()) > shown + 20)
            ran = running.end(signal.SIGINT)
        assert ran.code == 0
        said = [line for line in ran.err.splitlines() if "torch-cuda" in line][1:]
        assert said == [
            "torch-cuda fp16 is being built; using onnxruntime fp32, 1 thread meanwhile",
            "now on torch-cuda fp16",
        ]
        assert "Traceback" not in ran.err
        frames = whole_lines(lines)
        assert {face["name"] for frame in frames[shown:] for face in frame["faces"]} <= {"Eileen", None}
        assert any(face["name"] == "Eileen" for frame in frames[shown:] for face in frame["faces"])

    def test_a_camera_is_shown_meanwhile_and_ended_cleanly(self, film: Path, people: Path, tmp_path: Path) -> None:
        lines = tmp_path / "named.jsonl"
        arguments = ("--source", film, "--gallery", people, "--output", lines)
        with start(tmp_path, *arguments, *AS_CAMERA, python=GPU_TO_BUILD_FOR + ENDLESS_BUILD) as running:
            eventually(lambda: lines.exists() and lines.read_text().count("Eileen") > 3)
            ran = running.end(signal.SIGINT)
        assert ran.code == 0
        assert "torch-cuda fp16 is being built; using onnxruntime fp32, 1 thread meanwhile" in ran.err
        assert "Traceback" not in ran.err
        assert "terminate" not in ran.err
        assert f"{len(whole_lines(lines))} frames" in ran.out

    def test_a_film_that_waits_for_the_build(self, film: Path, people: Path, tmp_path: Path) -> None:
        lines = tmp_path / "named.jsonl"
        arguments = ("--source", film, "--gallery", people, "--output", lines, "--no-window")
        with start(tmp_path, *arguments, python=GPU_TO_BUILD_FOR + ENDLESS_BUILD) as running:
            eventually(lambda: "is being built first" in running.err.read_text())
            ran = running.end(signal.SIGINT)
        assert ran.code == 130
        assert "Traceback" not in ran.err
        assert "terminate" not in ran.err
        assert not lines.exists()
