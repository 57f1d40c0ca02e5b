"""Versions, processor and folders, on this machine and on worse ones."""

from __future__ import annotations

import os
import re
from importlib import metadata
from pathlib import Path

import pytest

from realtime.doctor import machine
from realtime.doctor.report import Finding, Report


def test_every_core_library_is_looked_at() -> None:
    required = metadata.requires("realtime-arcface") or []
    core = {re.split(r"[<>=!~; \[]", line)[0] for line in required if "extra ==" not in line}
    assert {name.lower() for name in core} == {name.lower() for name in machine.LIBRARIES}


def test_versions_are_those_that_are_installed() -> None:
    found = {finding.name: finding for finding in machine.versions()}
    assert found["numpy"].value == metadata.version("numpy")
    assert [finding for finding in found.values() if finding.state == "problem"] == []


def test_a_missing_library_is_a_problem_with_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", {"no-such-distribution": "nothing"})
    finding = list(machine.versions())[-1]
    assert (finding.state, finding.value) == ("problem", "not installed")
    assert "pip install --force-reinstall no-such-distribution" in finding.advice


def test_a_library_that_does_not_load_is_told_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", {"numpy": "no_such_module"})
    finding = list(machine.versions())[-1]
    assert finding.state == "problem"
    assert finding.value.startswith("does not load: No module named")


def test_an_optional_library_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBRARIES", {"openvino": "no_such_module"})
    assert list(machine.versions())[-1].state == "note"


CPUINFO = "processor : 0\nmodel name : A Fast One\nflags : fpu {flags}\nprocessor : 1\nmodel name : B\nflags : other\n"


@pytest.mark.parametrize(
    ("flags", "value", "state"),
    [
        ("avx2 avx512f avx512_vnni avx512_bf16 amx_int8", "AVX2, AVX-512, VNNI, BF16, AMX-INT8", "ok"),
        ("avx2", "AVX2", "ok"),
        ("sse2", "none that networks use", "note"),
    ],
)
def test_instructions_are_read_of_the_first_processor(tmp_path: Path, flags: str, value: str, state: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(CPUINFO.format(flags=flags))
    found = {finding.name: finding for finding in machine.processor(file)}
    assert (found["instructions"].value, found["instructions"].state) == (value, state)
    assert found["processor"].value.startswith("A Fast One, ")


def test_a_system_without_cpuinfo_says_what_it_can(tmp_path: Path) -> None:
    found = {finding.name for finding in machine.processor(tmp_path / "none")}
    assert {"system", "processor"} <= found
    assert "instructions" not in found


def test_a_folder_that_will_be_made_is_judged_by_where(tmp_path: Path) -> None:
    finding = machine.folder("cache", tmp_path / "a" / "b", "Models")
    assert (finding.state, "GB free" in finding.value) == ("ok", True)


def test_a_file_in_the_way_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    finding = machine.folder("cache", tmp_path / "a", "Models")
    assert finding.state == "problem"
    assert str(tmp_path / "a") in finding.advice


def test_a_folder_of_others_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "access", lambda path, mode: False
    )  # root may write anywhere, so permissions do not test it
    assert machine.folder("cache", tmp_path, "Models").state == "problem"


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LOW_SPACE", 1e18)
    finding = machine.folder("cache", tmp_path, "Models")
    assert (finding.state, finding.advice) == ("note", "The disk is nearly full.")


def test_a_problem_needs_advice() -> None:
    with pytest.raises(ValueError, match="needs advice"):
        Finding(topic="a", name="b", value="c", state="problem")


def test_a_report_as_json() -> None:
    good = Finding(topic="a", name="b", value="c")
    bad = Finding(topic="d", name="e", value="f", state="problem", advice="Do it.")
    assert Report(findings=(good,), next_steps=()).to_json()["healthy"] is True
    report = Report(findings=(good, bad, good), next_steps=("x",))
    assert report.to_json()["healthy"] is False
    assert (report.topics, report.problems) == (("a", "d"), (bad,))
