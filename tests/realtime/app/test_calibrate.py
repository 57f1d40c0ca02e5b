"""``realtime calibrate`` from the command line, on real faces where they are here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from engines.export import load_model, write_atomically
from engines.store import default_model
from realtime.app import calibrate
from realtime.errors import OutputError, RealtimeError
from tests.paths import SHARED, needs_shared


def run(*words: str) -> Result:
    app = typer.Typer()
    calibrate.register(app)
    return CliRunner().invoke(app, list(words))


def test_write_needs_a_model_file(tmp_path: Path) -> None:
    done = run(str(tmp_path), "--write")
    assert done.exit_code == 2
    assert "--model" in done.output


def test_a_set_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = run(str(tmp_path / "none"))
    assert isinstance(done.exception, RealtimeError)
    assert "no such folder or tar" in str(done.exception)


class TestRealFaces:
    pytestmark = needs_shared

    @pytest.fixture(autouse=True)
    def _own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REALTIME_CACHE", str(tmp_path / "cache"))

    def test_a_model_file_gets_its_threshold(self, tmp_path: Path) -> None:
        model, out = tmp_path / "my model.onnx", tmp_path / "out.json"
        write_atomically(model, default_model().content)
        words = [str(SHARED / "johns"), "--model", str(model), "--fmr", "0.01", "--write", "--output", str(out)]
        done = run(*words)
        assert done.exit_code == 0, done.output
        point = json.loads(out.read_text())["points"][0]
        manifest = load_model(model).manifest
        assert (manifest.threshold, manifest.threshold_fmr) == (point["threshold"], 0.01)
        assert "written" in done.output
        refused = run(str(SHARED / "johns"), "--model", str(model), "--fmr", "1e-5", "--write")
        assert "too few" in str(refused.exception)
        assert load_model(model).manifest == manifest

    def test_a_small_set_prints_what_it_can(self, tmp_path: Path) -> None:
        done = run(str(SHARED / "johns"))
        assert done.exit_code == 0, done.output
        assert "55 faces of 5 people, 275 mated and 1,210 cross-person pairs" in done.output
        assert "too few for a rate of 2e-05" in done.output
        lost = run(str(SHARED / "johns"), "--output", str(tmp_path / "none" / "out.json"))
        assert isinstance(lost.exception, OutputError)
