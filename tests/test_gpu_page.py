"""docs/gpu.md holds what was measured and nothing else, and the script that writes it keeps to that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engines.proofs.record import Proof
from tests.scripts import DOCS, script

PAGE = (DOCS / "gpu.md").read_text(encoding="utf-8")


def found(*, dry_run: bool = False, part: str = "matching") -> dict[str, Any]:
    proof = Proof(part, "Matching", command="python -m engines gpu matching", device="A GPU", dry_run=dry_run)
    proof.row(proof.table("search", "Search", ["references", "p50 ms"], note="host to host"), 1_000_000, 0.31234)
    proof.check("recall", True, "1.0 of 1.0")
    proof.check("speed", False, "2.0 of 1.35")
    proof.skip("50 million | fp16", "memory ran out")
    proof.skip("a file", "/a/b-c/some model.onnx: torch failed (x/y); see /a/cache/net.dat")
    return proof.as_json()


def test_the_page_has_a_place_for_every_part() -> None:
    prove = script("prove_gpu")
    for part in prove.PARTS:
        assert PAGE.count(f"<!-- {part.name}:begin -->") == PAGE.count(f"<!-- {part.name}:end -->") == 1
    assert sum(part.share for part in prove.PARTS) == pytest.approx(1)


def test_a_part_is_written_as_it_was_found() -> None:
    page = script("prove_gpu").with_part(PAGE, found())
    text = page.split("<!-- matching:begin -->")[1].split("<!-- matching:end -->")[0]
    assert "A GPU" in text
    assert "`python -m engines gpu matching`" in text
    assert "| references | p50 ms |\n| --- | --- |\n| 1,000,000 | 0.312 |" in text
    assert "- ok: recall" in text
    assert "- **failed**: speed" in text
    assert "- not run: 50 million | fp16: memory ran out" in text
    assert "- not run: a file: some model.onnx: torch failed (x/y); see net.dat" in text
    assert page.split("<!-- matching:end -->")[1] == PAGE.split("<!-- matching:end -->")[1]


def test_writing_twice_changes_nothing_more() -> None:
    prove = script("prove_gpu")
    once = prove.with_part(PAGE, found())
    assert prove.with_part(once, found()) == once


def test_a_dry_run_never_reaches_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prove = script("prove_gpu")
    page = tmp_path / "gpu.md"
    page.write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(prove, "PAGE", page)
    (tmp_path / "matching.json").write_text(json.dumps(found(dry_run=True)), encoding="utf-8")
    with pytest.raises(SystemExit, match="dry run"):
        prove.write(tmp_path)
    assert page.read_text(encoding="utf-8") == PAGE
    (tmp_path / "matching.json").write_text(json.dumps(found()), encoding="utf-8")
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses" / "losses.md").write_text("| loss | accuracy, % |\n", encoding="utf-8")
    prove.write(tmp_path)
    written = page.read_text(encoding="utf-8")
    assert "A GPU" in written
    assert "<!-- losses:begin -->\n| loss | accuracy, % |\n<!-- losses:end -->" in written


def test_a_part_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for other"):
        script("prove_gpu").with_part(PAGE, found(part="other"))


def test_a_part_that_fails_or_hangs_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prove = script("prove_gpu")
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    parts = (
        prove.Part("first", "First", ("sleeper",), 0.5),
        prove.Part("second", "Second", ("no_such_module",), 0.5),
    )
    monkeypatch.setattr(prove, "PARTS", parts)
    monkeypatch.setattr(prove, "GRACE_S", 0.3)
    arguments = ["prove_gpu", "--dry-run", "--minutes", "0.01", "--parts", "first,second", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    assert prove.main() == 1
    out = capfd.readouterr().out
    assert "first: exit code 124" in out
    assert "second: exit code 1" in out


def test_all_parts_run_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prove = script("prove_gpu")
    ran: list[tuple[str, float]] = []
    monkeypatch.setattr(prove, "run", lambda part, options, minutes: ran.append((part.name, minutes)) or 0)
    monkeypatch.setattr("sys.argv", ["prove_gpu", "--dry-run", "--minutes", "10", "--output", str(tmp_path)])
    assert prove.main() == 0
    assert [name for name, _ in ran] == [part.name for part in prove.PARTS]
    assert sum(minutes for _, minutes in ran) == pytest.approx(10)


def test_an_unknown_part_names_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["prove_gpu", "--parts", "embeding"])
    with pytest.raises(SystemExit, match="embedding, training"):
        script("prove_gpu").main()
