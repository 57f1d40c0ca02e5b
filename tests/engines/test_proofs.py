"""The record and the clock that every proof on a GPU shares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engines.errors import EngineError
from engines.proofs.attempts import attempt
from engines.proofs.clock import Times, copy_bytes_s, device_name, device_of, device_times, host_times, matmul_flop_s
from engines.proofs.record import Proof, shown
from engines.proofs.starting import begin

CPU = torch.device("cpu")


def test_the_file_is_whole_after_every_line(tmp_path: Path) -> None:
    path = tmp_path / "out" / "part.json"
    proof = Proof("part", "A part", path=path, command="python -m engines gpu part", dry_run=True)
    assert json.loads(path.read_text(encoding="utf-8"))["tables"] == []
    table = proof.table("speed", "Speed", ["batch", "ms"], note="of one call")
    proof.row(table, 1, 0.5)
    proof.check("cosine", True, "0.9999 of 0.999")
    proof.skip("batch 512", "memory")
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["dry_run"] is True
    assert kept["tables"][0]["rows"] == [[1, 0.5]]
    assert kept["checks"] == [{"name": "cosine", "passed": True, "detail": "0.9999 of 0.999"}]
    assert kept["untried"] == [{"what": "batch 512", "why": "memory"}]
    assert kept["machine"]["cores"] >= 1


def test_one_failed_check_fails_the_proof() -> None:
    proof = Proof("part", "A part")
    assert proof.check("first", True, "fine")
    assert proof.passed
    assert not proof.check("second", False, "too far")
    assert not proof.passed
    assert "FAILED  second: too far" in proof.report()


def test_a_row_must_fill_its_table() -> None:
    proof = Proof("part", "A part")
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        proof.row(proof.table("speed", "Speed", ["batch", "ms"]), 1)


def test_what_no_longer_fits_is_noted_and_left_out() -> None:
    proof = Proof("part", "A part", seconds=0)
    assert not proof.has_time("the last table", 1)
    assert proof.untried[0].what == "the last table"
    assert Proof("part", "A part").has_time("anything", 1e9)


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(EngineError, match="choose another file"):
        Proof("part", "A part", path=tmp_path / "file" / "part.json")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, ""),
        ("a", "a"),
        (0.12345, "0.123"),
        (20123.4, "20,123"),
        (7, "7"),
        (0.999976, "0.999976"),
        (0.9995, "0.9995"),
        (1.0, "1"),
        (True, "True"),
    ],
)
def test_cells_for_people(cell: str | float | None, text: str) -> None:
    assert shown(cell) == text


def test_times_are_of_every_call() -> None:
    calls = []
    for clock in (host_times, device_times):
        times = clock(lambda: calls.append(1), CPU, seconds=0, least=7)
        assert len(times.seconds_N) == 7
    assert len(calls) == 2 * (7 + 3)
    import numpy as np

    times = Times(np.arange(1, 101) / 1e3)
    assert (times.p50_ms, times.p95_ms, times.p99_ms) == pytest.approx((50, 95, 99))
    assert times.per_s(10) == pytest.approx(10 / 0.0505)


def test_the_ceilings_are_measured() -> None:
    assert device_of("cpu") == CPU
    assert device_name(CPU) == "cpu"
    assert matmul_flop_s(CPU, torch.float32, side=64) > 1e6
    assert copy_bytes_s(CPU, size=1 << 20) > 1e6


def test_a_command_is_kept_without_the_place_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["engines", "gpu", "part", "--json", f"{tmp_path}/a.json", "--minutes", "3", f"--json={tmp_path}/b.json"]
    monkeypatch.setattr("sys.argv", typed)
    proof, device = begin(
        "part", "A part", "python -m engines", path=None, dry_run=True, minutes=3, told=lambda line: None
    )
    assert proof.as_json()["command"] == "python -m engines gpu part --minutes 3"
    assert 0 < proof.left_s <= 180
    assert device == device_of()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_only_a_dry_run_begins() -> None:
    with pytest.raises(EngineError, match="--dry-run"):
        begin("part", "A part", "python", path=None, dry_run=False, minutes=1, told=lambda line: None)


def test_what_does_not_run_is_noted_and_the_rest_goes_on() -> None:
    proof = Proof("part", "A part")

    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory\nand more")

    attempt(proof, "a large batch", full)
    attempt(proof, "a small one", lambda: proof.check("small", True, "fine"))
    assert [(one.what, one.why) for one in proof.untried] == [("a large batch", "CUDA out of memory")]
    assert proof.passed
    with pytest.raises(AssertionError):
        attempt(proof, "a mistake of ours", lambda: (_ for _ in ()).throw(AssertionError()))
