"""A camera that is switched on after the program."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from realtime.capture.late import LateSource
from realtime.capture.source import open_source
from realtime.errors import SourceError, SourceLost
from realtime.settings import CaptureSettings
from tests.realtime.capture.films import make_film
from tests.rtsp_server import Behaviour, RtspServer

SHORT = CaptureSettings(timeout_s=1.0, reconnect_max_s=1.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("late") / "cam.mp4", frames=50, width=160, height=120)


@pytest.fixture
def port() -> int:
    """Where nothing listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def late(url: str) -> LateSource:
    return LateSource(url, SHORT, name="door", reason="connection refused")


def test_a_camera_that_is_off_may_come_back_and_one_with_a_wrong_password_may_not(film: Path, port: int) -> None:
    with pytest.raises(SourceLost, match="connection refused"):
        open_source(f"rtsp://127.0.0.1:{port}/cam", SHORT)
    with RtspServer(film, Behaviour(password="right")) as camera, pytest.raises(SourceError, match="password") as wrong:
        open_source(camera.with_user("ana", "wrong"), SHORT)
    assert not isinstance(wrong.value, SourceLost)


def test_it_joins_when_it_answers(film: Path, port: int) -> None:
    source = late(f"rtsp://127.0.0.1:{port}/cam")
    assert source.live
    assert source.status == "waiting for it: connection refused"
    with RtspServer(film, port=port):
        frame = source.read()
        assert frame is not None
        assert (frame.source, frame.index, frame.time_s) == ("door", 0, 0.0)
        assert source.status == ""
        assert source.info.width == 160
        source.close()
        source.close()
    assert source.read() is None


def test_closing_ends_the_wait(port: int) -> None:
    source = late(f"rtsp://127.0.0.1:{port}/cam")
    threading.Timer(0.2, source.close).start()
    assert source.read() is None


def test_a_wrong_password_is_not_tried_for_ever(film: Path) -> None:
    with RtspServer(film, Behaviour(password="right")) as camera:
        source = late(camera.with_user("ana", "wrong"))
        with pytest.raises(SourceError, match="password is wrong") as error:
            source.read()
    assert "ana:wrong" not in str(error.value)
