"""Network cameras: real RTSP and HTTP servers on loopback, with everything that cameras do wrong."""

from __future__ import annotations

import http.server
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.capture.source import Source, open_source
from realtime.capture.stream import LiveClock
from realtime.errors import SourceError
from realtime.records import Frame
from realtime.settings import CaptureSettings
from tests.realtime.capture.films import make_film, scene
from tests.rtsp_server import Behaviour, RtspServer

SHORT = CaptureSettings(timeout_s=1.0, reconnect_max_s=1.0)
"""A test should not wait for a camera as long as a person would."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds; its noise makes pictures that do not fit into one RTP packet."""
    return make_film(tmp_path_factory.mktemp("film") / "cam.mp4", frames=100, width=160, height=120, noise=True)


@contextmanager
def opened(url: str, options: CaptureSettings = SHORT) -> Iterator[Source]:
    source = open_source(url, options)
    try:
        yield source
    finally:
        source.close()


def read(source: Source, count: int) -> list[Frame]:
    frames = [source.read() for _ in range(count)]
    assert None not in frames
    return [frame for frame in frames if frame is not None]


def test_plays_in_order_from_zero(film: Path) -> None:
    with RtspServer(film) as camera, opened(camera.url) as source:
        frames = read(source, 25)
    assert source.live
    assert source.name == f"127.0.0.1:{camera.port}/cam"
    assert (source.info.kind, source.info.width, source.info.height) == ("stream", 160, 120)
    assert (frames[0].index, frames[0].time_s) == (0, 0)
    assert np.all(np.diff([frame.index for frame in frames]) >= 1)
    assert np.all(np.diff([frame.time_s for frame in frames]) > 0)
    rate = (frames[-1].index - frames[0].index) / (frames[-1].time_s - frames[0].time_s)
    assert rate == pytest.approx(25, rel=0.15)
    assert frames[5].rgb.shape == (120, 160, 3)


def test_camera_without_parameter_sets_in_its_description(film: Path) -> None:
    with RtspServer(film, Behaviour(in_band=True)) as camera, opened(camera.url) as source:
        frames = read(source, 10)
    assert (source.info.width, source.info.height) == (160, 120)
    assert frames[-1].rgb.shape == (120, 160, 3)


@pytest.mark.parametrize("auth", ["Basic", "Digest"])
def test_right_password(film: Path, auth: str) -> None:
    behaviour = Behaviour(password="geheim%21", auth="Basic" if auth == "Basic" else "Digest")
    with RtspServer(film, behaviour) as camera, opened(camera.with_user("ana", "geheim%2521")) as source:
        assert source.read() is not None
        assert "geheim" not in source.name


def test_wrong_password_is_told_and_not_shown(film: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RtspServer(film, Behaviour(password="right")) as camera, pytest.raises(SourceError) as caught:
        open_source(camera.with_user("ana", "s3cret-wrong"), SHORT)
    assert "the user name or password is wrong (401)" in str(caught.value)
    shown: BaseException | None = caught.value
    while shown is not None:
        assert "s3cret-wrong" not in repr(shown)
        shown = shown.__cause__ or shown.__context__
    assert "s3cret-wrong" not in caplog.text


def test_password_is_not_logged_while_reconnecting(film: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    behaviour = Behaviour(password="s3cret-right", die_after=5)
    with RtspServer(film, behaviour) as camera, opened(camera.with_user("ana", "s3cret-right")) as source:
        read(source, 8)
    assert "reconnecting" in caplog.text
    assert "s3cret-right" not in caplog.text


def refused_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"rtsp://127.0.0.1:{server.getsockname()[1]}/cam"


def test_refused_port() -> None:
    with pytest.raises(SourceError, match="connection refused: nothing listens there"):
        open_source(refused_port(), SHORT)


def test_wrong_path(film: Path) -> None:
    with RtspServer(film) as camera, pytest.raises(SourceError, match=r"nothing at this path \(404\)"):
        open_source(camera.url + "-two", SHORT)


@pytest.mark.parametrize(
    "behaviour", [Behaviour(silent=True), Behaviour(silent_after_describe=True), Behaviour(stall_after=0)]
)
def test_silent_camera_times_out(film: Path, behaviour: Behaviour) -> None:
    with RtspServer(film, behaviour) as camera, pytest.raises(SourceError, match=r"no (answer|data) for 1 s"):
        open_source(camera.url, SHORT)


def test_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"gopher://\*\*\*@host/: gopher:// is not known; known are .*rtsp") as caught:
        open_source("gopher://ana:geheim@host/", SHORT)
    assert "geheim" not in str(caught.value)


class Watch(threading.Thread):
    """Collects what a source's status said."""

    def __init__(self, source: Source) -> None:
        super().__init__(daemon=True)
        self.source, self.said, self.stop = source, set[str](), threading.Event()
        self.start()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            self.said.add(self.source.status)


def test_stalled_camera_is_reconnected_and_says_so(film: Path) -> None:
    with RtspServer(film, Behaviour(stall_after=10)) as camera, opened(camera.url) as source:
        watch = Watch(source)
        frames = read(source, 15)
        watch.stop.set()
        assert source.status == ""
        assert camera.connections >= 2
    assert any(text.startswith("reconnecting in 1 s: no ") for text in watch.said)
    times_s = [frame.time_s for frame in frames]
    assert np.all(np.diff(times_s) > 0)
    assert times_s[10] - times_s[9] > 1.0, "the gap is real time"
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})


def test_camera_that_lost_its_power_and_came_back(film: Path) -> None:
    camera = RtspServer(film)
    with opened(camera.url) as source:
        before = read(source, 5)
        camera.close()
        back = threading.Timer(1.5, lambda: returned.append(RtspServer(film, port=camera.port)))
        returned: list[RtspServer] = []
        back.start()
        after: list[Frame] = []
        while len(after) < 5 or not returned:
            after += read(source, 1)
        returned[0].close()
    times_s = [frame.time_s for frame in before + after]
    assert np.all(np.diff(times_s) > 0)
    assert max(np.diff(times_s)) > 1.0
    assert np.all(np.diff([frame.index for frame in before + after]) >= 1)


@pytest.mark.parametrize("behaviour", [Behaviour(stall_after=5), Behaviour(die_after=5)])
def test_close_wakes_a_reader_that_waits_or_reconnects(film: Path, behaviour: Behaviour) -> None:
    with RtspServer(film, behaviour) as camera:
        source = open_source(camera.url, CaptureSettings(timeout_s=20, reconnect_max_s=30))
        got: list[Frame | None] = []

        def drain() -> None:
            while True:
                got.append(source.read())
                if got[-1] is None:
                    return

        reader = threading.Thread(target=drain)
        reader.start()
        time.sleep(0.8)
        closed_s = time.monotonic()
        source.close()
        reader.join(10)
        assert not reader.is_alive()
        assert time.monotonic() - closed_s < 5, "the timeout is 20 s"
        assert got[-1] is None
        assert source.read() is None
        source.close()


def test_unread_frames_of_a_live_stream_are_passed_over(film: Path) -> None:
    with RtspServer(film) as camera, opened(camera.url) as source:
        first = read(source, 1)[0]
        time.sleep(1.2)
        frames = read(source, 6)
    assert frames[0].index > first.index + 10
    assert frames[-1].time_s - first.time_s > 1.0


Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def web(answer: Handler) -> Iterator[str]:
    class OneAnswer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the client left
                answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneAnswer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def send(request: http.server.BaseHTTPRequestHandler, content: bytes, kind: str, status: int = 200) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/octet-stream"])
def test_a_web_page_is_not_a_video(kind: str) -> None:
    page = b"<!doctype html><html><body>Welcome to your camera</body></html>\n" * 40
    with (
        web(lambda request: send(request, page, kind)) as url,
        pytest.raises(SourceError, match=r"not a video|holds a text file"),
    ):
        open_source(url + "index.html?token=s3cret", SHORT)


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "password is wrong"), (403, "forbidden"), (404, "nothing at this path"), (503, "5xx")]
)
def test_what_http_says(status: int, reason: str) -> None:
    with (
        web(lambda request: send(request, b"", "text/html", status)) as url,
        pytest.raises(SourceError, match=reason) as caught,
    ):
        open_source(url + "live?token=s3cret", SHORT)
    assert "s3cret" not in str(caught.value)


def test_silent_web_server_times_out() -> None:
    with web(lambda request: time.sleep(8)) as url, pytest.raises(SourceError, match="no answer for 1 s"):
        open_source(url, SHORT)


def test_motion_jpeg_over_http() -> None:
    def motion(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        for number in range(60):
            jpeg = cv2.imencode(".jpg", scene(number, 96, 64)[..., ::-1])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            request.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(0.05)

    with web(motion) as url, opened(url + "video.mjpg") as source:
        frames = read(source, 20)
    assert source.live
    assert source.info.codec == "mjpeg"
    seconds = frames[-1].time_s - frames[0].time_s
    assert seconds == pytest.approx((frames[-1].index - frames[0].index) * 0.05, rel=0.5), (
        "the wall clock's, not 25 a second"
    )


def test_a_video_file_over_http_is_read_whole_and_in_order(film: Path) -> None:
    data = film.read_bytes()

    def serve(request: http.server.BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        start = int(wanted or 0)
        request.send_response(206)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        request.wfile.write(data[start:])

    with web(serve) as url, opened(url + "clip.mp4") as source:
        assert not source.live
        assert source.info.frames == 100
        time.sleep(0.5)
        frames = read(source, 100)
        assert source.read() is None
        assert source.read() is None
    assert [frame.index for frame in frames] == list(range(100))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(100) / 25, atol=1e-3)


def test_live_clock_follows_the_camera_and_the_wall() -> None:
    clock = LiveClock()
    assert clock.at(1000.0, 50.0) == 0.0
    assert clock.at(1000.04, 50.5) == pytest.approx(0.04), "a late packet keeps its stamp"
    assert clock.at(1000.04, 50.5) > 0.04
    assert clock.at(None, 51.0) == pytest.approx(1.0)
    assert clock.at(99999.0, 52.0) == pytest.approx(2.0), "a wild stamp is not believed"
    clock.new_connection()
    assert clock.at(3.0, 60.0) == pytest.approx(10.0)
    assert clock.at(3.04, 60.1) == pytest.approx(10.04)


GSTREAMER_CAMERA = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1"); server.set_service(sys.argv[2])
factory = GstRtspServer.RTSPMediaFactory()
film = f'filesrc location="{sys.argv[1]}" ! qtdemux ! h264parse config-interval=1'
factory.set_launch(f'( {film} ! rtph264pay name=pay0 pt=96 )')
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


@contextmanager
def gstreamer(film: Path, port: int = 0) -> Iterator[int]:
    """Another server than ours, killed as a camera is when its power goes."""
    python = "/usr/bin/python3"
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not Path(python).exists() or subprocess.run([python, "-c", probe], capture_output=True).returncode:
        pytest.skip("no gir1.2-gst-rtsp-server-1.0 for the system's python3")
    command = [python, "-c", GSTREAMER_CAMERA, str(film), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.debian
@pytest.mark.skipif(sys.platform != "linux", reason="Debian's GStreamer")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_gstreamers_camera_killed_and_restarted(film: Path, transport: str) -> None:
    options = CaptureSettings(timeout_s=2.0, reconnect_max_s=1.0, transport="udp" if transport == "udp" else "tcp")
    with gstreamer(film) as port:
        source = open_source(f"rtsp://127.0.0.1:{port}/cam", options)
        before = read(source, 10)
    watch = Watch(source)
    with gstreamer(film, port):
        after = read(source, 120)
        source.close()
    watch.stop.set()
    assert any(text.startswith("reconnecting") for text in watch.said)
    assert np.all(np.diff([frame.time_s for frame in before + after]) > 0)
    assert np.all(np.diff([frame.index for frame in before + after]) >= 1)
