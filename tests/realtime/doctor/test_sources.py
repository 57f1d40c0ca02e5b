"""What a source really delivers: the demo, a camera of tests, and sources that fail."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from realtime.capture.source import SourceInfo
from realtime.doctor import sources
from realtime.doctor.report import Finding
from realtime.errors import SourceLost
from realtime.records import ArrayPixels, Frame
from realtime.settings import CaptureSettings


class FakeCamera:
    """A live source that gives ``frames`` frames, then does what it was told."""

    name, live, status = "camera", True, ""
    info = SourceInfo(kind="webcam", width=64, height=48, fps=30.0)

    def __init__(self, frames: int, *, then: str = "end", level: int = 128, pause_s: float = 0.0) -> None:
        self.left, self.then, self.level, self.pause_s = frames, then, level, pause_s
        self.closed = threading.Event()

    def read(self) -> Frame | None:
        if self.left == 0 and self.then == "fail":
            raise SourceLost("camera: unplugged; plug it in again")
        if self.left == 0 and self.then == "hang":
            assert self.closed.wait(30), "nobody woke the reader"
            return None
        if self.left == 0:
            return None
        self.left -= 1
        time.sleep(self.pause_s)
        return Frame(
            source="camera", index=0, time_s=0, pixels=ArrayPixels(np.full((48, 64, 3), self.level, dtype=np.uint8))
        )

    def close(self) -> None:
        self.closed.set()


def examined(monkeypatch: pytest.MonkeyPatch, camera: FakeCamera, **settings: float) -> dict[str, Finding]:
    monkeypatch.setattr(sources, "open_source", lambda spec, settings: camera)
    found = list(sources.examine_source("0", CaptureSettings(**settings), measured_s=0.2))
    assert camera.closed.is_set(), "the source was left open"
    return {finding.name: finding for finding in found}


def test_the_demo_is_measured() -> None:
    found = {finding.name: finding for finding in sources.examine_source("demo", CaptureSettings(), measured_s=0.2)}
    assert found["demo"].value == "demo, 1280x720, 30 frames a second, about 300 frames"
    assert "times its own pace" in found["decoding"].value
    assert {finding.state for finding in found.values()} == {"ok"}


def test_the_demo_as_a_camera_has_a_rate_and_a_jitter() -> None:
    settings = CaptureSettings(as_live=True)
    found = {finding.name: finding for finding in sources.examine_source("demo", settings, measured_s=0.4)}
    assert "frames a second" in found["arriving"].value
    assert "jitter" in found["regularity"].value


def test_a_steady_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examined(monkeypatch, FakeCamera(1000, pause_s=0.01))
    assert found["arriving"].state == "ok"
    assert "longest wait" in found["regularity"].value


def test_a_slow_camera_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examined(monkeypatch, FakeCamera(5, pause_s=0.1))
    assert found["arriving"].state == "note"
    assert "30 were promised" in found["arriving"].advice


def test_a_camera_with_too_few_frames_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(monkeypatch, FakeCamera(2))["frames"].state == "problem"


def test_a_black_picture_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cover" in examined(monkeypatch, FakeCamera(10, level=1))["picture"].advice
    assert "picture" not in examined(monkeypatch, FakeCamera(10))


def test_a_source_that_ends_at_once_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(monkeypatch, FakeCamera(0))["camera"].advice == "camera: no frame came"


def test_a_camera_that_fails_is_a_problem_with_its_own_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(monkeypatch, FakeCamera(0, then="fail"))["camera"].advice == "camera: unplugged; plug it in again"


def test_a_silent_source_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(monkeypatch, FakeCamera(0, then="hang"), timeout_s=0.1)["camera"].state == "problem"


def test_a_missing_file_and_a_refused_address_are_problems_without_passwords() -> None:
    for spec in ("nowhere.mp4", "gopher://ana:secret@10.0.0.1/"):
        (finding,) = sources.examine_source(spec, CaptureSettings())
        assert finding.state == "problem"
        assert "secret" not in finding.advice + finding.name + finding.value


def test_cameras_are_listed_by_name_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for index, name in ((10, "Last"), (0, "Built-in\n")):
        (tmp_path / f"video{index}").mkdir()
        (tmp_path / f"video{index}" / "name").write_text(name)
    (tmp_path / "video2").mkdir()
    listed = [(finding.name, finding.value) for finding in sources.cameras(tmp_path)]
    assert listed == [
        ("/dev/video0", "Built-in (realtime --source 0)"),
        ("/dev/video2", "unnamed (realtime --source 2)"),
        ("/dev/video10", "Last (realtime --source 10)"),
    ]


def test_a_system_that_lists_no_cameras_says_what_to_try(tmp_path: Path) -> None:
    (finding,) = sources.cameras(tmp_path / "none")
    assert (finding.state, "realtime doctor --source 0" in finding.advice) == ("note", True)
