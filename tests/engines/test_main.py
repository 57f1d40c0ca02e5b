"""``python -m engines``: what it prints, and how it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from engines.__main__ import main
from engines.export import read_manifest


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["engines", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    code = stop.value.code
    return code if isinstance(code, int) else 0


def test_export_then_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plain.onnx"
    assert call(monkeypatch, "export", "dlib-resnet", "--output", str(path), "--no-mirrored") == 0
    manifest = read_manifest(path)
    assert not manifest.mirrored
    assert manifest.unit_length
    assert manifest.model_id in capsys.readouterr().out
    assert call(monkeypatch, "show", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["template"] == "dlib_chip_150"
    assert call(monkeypatch, "show", str(path)) == 0
    assert "dlib-resnet-29" in capsys.readouterr().out


def test_failures_are_one_sentence_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "show", str(tmp_path / "none.onnx")) == 1
    assert call(monkeypatch, "export", "dlib-resnet", "--output", str(tmp_path / "no" / "folder.onnx")) == 1
    foreign = tmp_path / "foreign.dat"
    foreign.write_text("hello")
    out = str(tmp_path / "x.onnx")
    assert call(monkeypatch, "export", "dlib-resnet", "--output", out, "--weights", str(foreign)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("engines: ") for line in lines)
    assert call(monkeypatch, "export", "resnet-200", "--output", out) == 2
