"""Plans: built once by however many processes, whole or not there, and never in the way of a start."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines import plans
from engines.plans import have, kept, path_of, plans_dir, read, write
from engines.store import CACHE_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("sha", "TensorRT 10.16", "sm_90", "fp16")

BUILD = """
import logging, os, sys, time
from pathlib import Path
logging.basicConfig(level=logging.INFO, format="%(message)s")
from engines.plans import kept
def build():
    Path(sys.argv[1], f"building-{os.getpid()}").touch()
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.01)
    return b"plan" * 1000
print(len(kept("test", ("a", "b"), build)))
"""
"""A real process that builds until the test lets it finish."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path


class Builder:
    """Counts how often it was asked."""

    def __init__(self, content: bytes = b"plan") -> None:
        self.content = content
        self.calls = 0

    def __call__(self) -> bytes:
        self.calls += 1
        return self.content


def start(folder: Path, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", before + BUILD, str(folder)],
        cwd=ROOT,
        env={**os.environ, CACHE_VARIABLE: str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running(*processes: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def builders(folder: Path) -> list[Path]:
    return list(folder.glob("building-*"))


def test_the_first_builds_and_the_second_reads() -> None:
    build = Builder()
    assert not have("test", PARTS)
    assert kept("test", PARTS, build) == kept("test", PARTS, build) == b"plan"
    assert have("test", PARTS)
    assert build.calls == 1
    assert path_of("test", PARTS).parent == plans_dir() / "test"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.lists(st.text(max_size=3), max_size=3).map(tuple), min_size=2, max_size=2, unique=True))
def test_every_key_has_its_own_file(keys: list[tuple[str, ...]]) -> None:
    for key in keys:
        write("test", key, repr(key).encode())
    assert [read("test", key) for key in keys] == [repr(key).encode() for key in keys]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_never_read(data: st.DataObject) -> None:
    """Cut anywhere, one byte changed anywhere, something appended: built again, never a crash, never other bytes."""
    write("test", PARTS, b"plan" * 9)
    path = path_of("test", PARTS)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1), "cut")
    path.write_bytes(
        data.draw(
            st.sampled_from(
                [whole[:cut], whole[:cut] + bytes([whole[cut] ^ 1]) + whole[cut + 1 :], whole + b"x", os.urandom(cut)]
            ),
            "damage",
        )
    )
    build = Builder(b"new")
    assert kept("test", PARTS, build) == b"new"
    assert build.calls == 1
    assert read("test", PARTS) == b"new"


def test_the_file_of_another_key_is_built_again(caplog: pytest.LogCaptureFixture) -> None:
    write("test", PARTS, b"theirs")
    path_of("test", PARTS).replace(path_of("test", ("other",)))
    assert kept("test", ("other",), Builder(b"mine")) == b"mine"
    assert "not a plan of this key" in caplog.text


def test_a_plan_that_is_refused_is_built_again_once(caplog: pytest.LogCaptureFixture) -> None:
    write("test", PARTS, b"stale")
    build = Builder(b"fresh")
    assert kept("test", PARTS, build, accept=lambda content: content != b"stale") == b"fresh"
    assert read("test", PARTS) == b"fresh"
    assert build.calls == 1
    assert "cannot be used here any more" in caplog.text


def test_a_build_that_fails_leaves_nothing_and_frees_the_lock() -> None:
    def fail() -> bytes:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        kept("test", PARTS, fail)
    assert not have("test", PARTS)
    assert kept("test", PARTS, Builder()) == b"plan"


def test_four_processes_build_once(folder: Path) -> None:
    processes = [start(folder) for _ in range(4)]
    with running(*processes):
        until(lambda: builders(folder))
        time.sleep(0.5)
        (folder / "go").touch()
        answers = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in answers] == ["4000\n"] * 4
    assert len(builders(folder)) == 1
    assert [path.suffix for path in (folder / "cache/plans/test").iterdir() if path.suffix != ".lock"] == [".plan"]


def test_who_waits_says_for_whom_and_a_killed_builder_frees_the_lock(folder: Path) -> None:
    first = start(folder)
    with running(first):
        until(lambda: builders(folder))
        leftover = path_of("test", ("a", "b")).with_name(f".{path_of('test', ('a', 'b')).name}.0123.part")
        leftover.write_bytes(b"half")
        second = start(folder)
        with running(second):
            assert second.stderr is not None
            assert f"waiting for process {first.pid}" in second.stderr.readline()
            assert len(builders(folder)) == 1
            first.kill()
            until(lambda: len(builders(folder)) == 2)
            (folder / "go").touch()
            out, err = second.communicate(timeout=60)
    assert (second.returncode, out) == (0, "4000\n"), err
    assert not leftover.exists()


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to one process is POSIX's")
def test_a_waiting_process_can_be_interrupted(folder: Path) -> None:
    first = start(folder)
    with running(first):
        until(lambda: builders(folder))
        second = start(folder)
        with running(second):
            assert second.stderr is not None
            second.stderr.readline()
            second.send_signal(signal.SIGINT)
            _, err = second.communicate(timeout=60)
        assert "KeyboardInterrupt" in err
        assert second.returncode != 0
        assert first.poll() is None
        (folder / "go").touch()
        assert first.communicate(timeout=60)[0] == "4000\n"


def test_a_cache_that_cannot_be_made_costs_the_build_only(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "cache").write_bytes(b"a file is in the way")
    build = Builder()
    assert kept("test", PARTS, build) == kept("test", PARTS, build) == b"plan"
    assert build.calls == 2
    assert not have("test", PARTS)
    assert "building without" in caplog.text
    assert "cannot be kept" in caplog.text


def test_a_read_only_cache_that_has_the_plan_is_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("test", PARTS, b"plan")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(plans, "write_atomically", refuse)
    monkeypatch.setattr(plans.FileLock, "acquire", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert kept("test", PARTS, Builder(b"never")) == b"plan"
    assert kept("test", ("other",), Builder(b"built")) == b"built"


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_disk_that_fills_up_costs_the_build_only(folder: Path) -> None:
    """A real write that fails half-way: the process may write two kilobytes a file."""
    (folder / "go").touch()
    process = start(folder, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n")
    with running(process):
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "4000\n"), err
    assert "cannot be kept" in err
    assert [path.suffix for path in (folder / "cache/plans/test").iterdir() if path.suffix != ".lock"] == []


def test_no_lock_on_the_file_system_is_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(plans.FileLock, "acquire", refuse)
    with caplog.at_level(logging.WARNING):
        assert kept("test", PARTS, Builder()) == b"plan"
    assert "does not appear to support flock" in caplog.text
    assert have("test", PARTS)
